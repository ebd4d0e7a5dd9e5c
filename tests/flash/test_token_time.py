"""The time of a token: by hand on three layers, its bounds, and through the simulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.flash.block_rows import BlockRows
from ripple_place.flash.pipeline.params import PipelineParams
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.flash.token_time import ComputeParams, TokenClock
from tests.flash.builders import block_trace, layout_of, linear_device, trace_of


def read_in(read_us: list[float]) -> BlockRows:
    """Return the rows of a block whose reads take so long, whatever they read."""
    nothing = np.zeros(len(read_us), np.int32)
    return BlockRows(np.array(read_us, float), nothing, nothing)


def timed(read_us: list[list[float]], params: ComputeParams) -> list[float]:
    """Return the times of tokens; ``read_us[layer][token]``."""
    clock = TokenClock(params, len(read_us[0]))
    for layer, layer_us in enumerate(read_us):
        clock.add(f"layers.{layer}", read_in(layer_us), 4096)
    return clock.finish().token_us.tolist()


@pytest.mark.parametrize(
    ("overlap", "token_us"),
    [
        # Layers are read in 30, 5, 20 us (first token) or not at all (second), and computed in 10 each.
        ("serial", [85.0, 30.0]),
        # 30, then max(10, 5), then max(10, 20), then the last layer's 10.
        ("layer", [70.0, 30.0]),
        # 30 + 10/2, 10 + 5/2, 20 + 10/2.
        ("cluster", [72.5, 30.0]),
    ],
)
def test_three_layers_by_hand(overlap: str, token_us: list[float]) -> None:
    """Each mode on paper."""
    read_us = [[30.0, 0.0], [5.0, 0.0], [20.0, 0.0]]
    assert timed(read_us, ComputeParams(10.0, overlap, n_clusters=2)) == token_us


def test_blocks_of_a_layer_are_read_together() -> None:
    """Two experts of layer 1 are one layer: read in 5 + 7, computed once."""
    clock = TokenClock(ComputeParams(10.0, "layer"), 1)
    for name, read_us in (("layers.0", 1.0), ("layers.1.experts.0", 5.0), ("layers.1.experts.1", 7.0)):
        clock.add(name, read_in([read_us]), 4096)
    time = clock.finish()
    assert time.token_us.tolist() == [1 + 12 + 10]
    assert time.compute_us_per_token == 20.0


def test_no_layers_take_no_time() -> None:
    """Nothing read and nothing computed."""
    assert TokenClock(ComputeParams(10.0, "layer"), 2).finish().token_us.tolist() == [0.0, 0.0]


@given(
    st.lists(st.lists(st.floats(0, 1e4), min_size=3, max_size=3), min_size=1, max_size=5),
    st.floats(0, 1e4),
    st.integers(1, 20),
)
@settings(max_examples=60, deadline=None)
def test_overlap_never_loses_and_never_beats_the_longer(read_us: list[list[float]], compute: float, n: int) -> None:
    """Between the longer of reading and computing and their sum; more clusters are never slower."""
    reading = np.sum(read_us, axis=0)
    serial = timed(read_us, ComputeParams(compute))
    assert serial == pytest.approx((reading + compute * len(read_us)).tolist())
    for params in (ComputeParams(compute, "layer"), ComputeParams(compute, "cluster", n)):
        times = np.array(timed(read_us, params))
        slack = 1e-9 * np.array(serial) + 1e-9
        assert (times <= serial + slack).all()
        assert (times >= np.maximum(reading, compute * len(read_us)) - slack).all()
    finer = np.array(timed(read_us, ComputeParams(compute, "cluster", n + 1)))
    assert (finer <= np.array(timed(read_us, ComputeParams(compute, "cluster", n))) + 1e-6).all()


def test_the_simulator_reports_reading_and_the_whole_apart() -> None:
    """Two layers read in 11 us each for one token, nothing for the other; 100 us to compute a layer."""
    rows = np.array([[1, 0], [0, 0]])
    trace = trace_of({"layers.0": block_trace(rows), "layers.1": block_trace(rows)}, 2)
    layout = layout_of({name: [0, 1] for name in trace.blocks})
    params = SimulationParams(compute=ComputeParams(100.0))
    scores = simulate(trace, layout, linear_device(), params).to_json()
    assert (scores["compute_us_per_token"], scores["token_time_us_per_token"]) == (200.0, 211.0)
    assert scores["token_time_us_percentiles"] == {"50": 211.0, "90": pytest.approx(219.8), "99": pytest.approx(221.78)}
    assert scores["flash_time_us_per_token"] == 11.0
    without = simulate(trace, layout, linear_device()).to_json()
    assert [without[key] for key in scores if "token_time" in key or "compute" in key] == [None, None, None]


def test_speedups_of_flash_and_of_tokens() -> None:
    """Two reads of 11 us against one of 12: 1.83 times for flash, 1.09 for a token that computes for 100 us."""
    trace = trace_of({"layers.0": block_trace(np.array([[1, 0, 1]]))}, 1)
    apart, together = (layout_of({"layers.0": order}) for order in ([0, 1, 2], [0, 2, 1]))
    params = SimulationParams(gap=0, compute=ComputeParams(100.0))
    baseline, better = (simulate(trace, layout, linear_device(), params) for layout in (apart, together))
    scores = better.to_json(baseline)
    assert (scores["speedup"], scores["token_speedup"]) == (22 / 12, 122 / 112)
    assert baseline.to_json(baseline)["token_speedup"] == 1.0
    assert better.to_json()["token_speedup"] is None
    plain = simulate(trace, together, linear_device(), SimulationParams(gap=0))
    assert plain.to_json(plain)["token_speedup"] is plain.to_json(baseline)["token_speedup"] is None
    free = simulate(trace, together, linear_device(), SimulationParams(gap=0, compute=ComputeParams(0.0)))
    assert free.to_json(baseline)["token_speedup"] == 122 / 12


def test_the_pipeline_through_the_simulator() -> None:
    """Each of two layers: 100 us of attention, a gate read of 5.5 us, its 10 us of computing beside the other read."""
    rows = np.array([[1, 0], [0, 0]])
    trace = trace_of({"layers.0": block_trace(rows), "layers.1": block_trace(rows)}, 2)
    layout = layout_of({name: [0, 1] for name in trace.blocks})
    pipeline = PipelineParams(attention_us=100.0, thread_bytes_per_s=4096e6 / 20, gate_share=0.5)
    params = SimulationParams(compute=ComputeParams(0.0, "pipeline", pipeline=pipeline))
    result = simulate(trace, layout, linear_device(), params)
    # One neuron of 20 us: read 5.5, computed 10, read 5.5, computed 10.
    assert result.token_time is not None
    assert result.token_time.token_us.tolist() == [2 * 131.0, 200.0]
    scores = result.to_json()
    assert scores["compute_us_per_token"] == 200 + 2 * (20 / 4) / 2
    assert scores["pipeline"] == {
        "exposed_io_us_per_token": 11.0, "io_busy_us_per_token": 11.0, "io_busy_share": 22 / 462,
        "compute_busy_us_per_token": 820.0, "compute_busy_share": 1640 / (4 * 462),
    }  # fmt: skip
    assert "pipeline" not in simulate(trace, layout, linear_device()).to_json()
    assert "pipeline" not in ComputeParams(1.0).to_json()


def test_what_the_pipeline_computes_depends_on_hits() -> None:
    """The second token finds its neuron in DRAM: 20 us of computing and no read."""
    trace = trace_of({"layers.0": block_trace(np.array([[1, 0], [1, 0]]))}, 2)
    pipeline = PipelineParams(thread_bytes_per_s=4096e6 / 20, gate_share=0.5)
    params = SimulationParams(
        cache="lru", capacity_neurons={"layers.0": 1}, compute=ComputeParams(0.0, "pipeline", pipeline=pipeline)
    )
    result = simulate(trace, layout_of({"layers.0": [0, 1]}), linear_device(), params)
    assert result.token_time is not None
    assert result.token_time.token_us.tolist() == [31.0, 20.0]


@given(st.floats(1, 1e4), st.integers(1, 6), st.integers(0, 12), st.integers(0, 12), st.floats(0, 1e4))
@settings(max_examples=50, deadline=None)
def test_a_given_time_of_a_layer_is_the_same_for_every_token(
    layer_us: float, n_threads: int, n_hits: int, n_misses: int, flash_us: float
) -> None:
    """Read wholly before computing, and in one cluster a thread of each kind: the formula of ``serial``."""
    one_kind = (n_hits, 0) if n_hits >= n_misses else (0, n_misses)
    rows = BlockRows(np.array([flash_us * (one_kind[1] > 0)]), *(np.array([n], np.int32) for n in one_kind))
    pipeline = PipelineParams(n_threads, n_threads, n_threads, "serial", attention_us=layer_us / 4)
    params = ComputeParams(layer_us, "pipeline", pipeline=pipeline).on(linear_device())
    clock = TokenClock(params, 1)
    clock.add("layers.0", rows, 4096)
    time = clock.finish()
    if max(one_kind) == 0:
        assert time.token_us.tolist() == [layer_us / 4]
        return
    assert time.compute_us_per_token == pytest.approx(layer_us)
    if max(one_kind) >= n_threads:
        assert time.token_us[0] == pytest.approx(rows.flash_us[0] + layer_us)
    else:
        assert time.token_us[0] >= rows.flash_us[0] + layer_us - 1e-6


def test_a_device_without_rates_is_refused_at_once() -> None:
    """Before anything is simulated."""
    trace = trace_of({"layers.0": block_trace(np.array([[1, 0]]))}, 1)
    params = SimulationParams(compute=ComputeParams(0.0, "pipeline"))
    with pytest.raises(UsageError, match="device linear has no cpu_sparse_bytes_per_s"):
        simulate(trace, layout_of({"layers.0": [0, 1]}), linear_device(), params)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((5.0, "serial", 14, PipelineParams()), "--overlap serial: found --pipeline; expected --overlap pipeline"),
        ((5.0, "pipeline", 14, PipelineParams(attention_us=6.0)), "found 5 us a layer, of which attention takes 6 us"),
        ((1.0, "none"), "--overlap none: found no overlap by that name; expected one of serial, layer, cluster, pi"),
        ((-1.0,), "found -1.0 us a layer"),
        ((float("inf"),), "found inf us a layer"),
        ((1.0, "cluster", 0), "0 clusters; expected a time of at least 0 and one cluster or more"),
    ],
)
def test_bad_params(arguments: tuple[object, ...], match: str) -> None:
    """Parameters are checked where they are made."""
    with pytest.raises(UsageError, match=match):
        ComputeParams(*arguments)  # type: ignore[arg-type]
