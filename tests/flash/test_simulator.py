"""The simulator: by hand on four neurons, against its plain twin, and where blocks are dead, dense or routed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import PlacementError, UsageError
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.placement import NeuronPlacement
from tests.flash.builders import block_trace, layout_of, linear_device, trace_of
from tests.reference import caches
from tests.reference import simulate as reference

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.trace.activation_trace import ActivationTrace

SECTION_5_KEYS = {
    "name", "flash_time_us_per_token", "reads_per_token", "requests_per_token", "bytes_read_per_token",
    "bytes_active_per_token", "read_length_mean", "read_length_max", "read_amplification",
    "effective_bandwidth_bytes_per_s", "cache_hit_ratio", "flash_time_us_percentiles", "speedup", "blocks",
}  # fmt: skip


def test_four_neurons_by_hand(four_neurons: ActivationTrace, device: DeviceProfile) -> None:
    """Tokens {0,2}, {}, {0,1,3} in checkpoint order without merging: reads of 1,1 and 2,1 bundles at 10 us + 1 each."""
    result = simulate(four_neurons, layout_of({"layers.0": [0, 1, 2, 3]}), device, SimulationParams(gap=0))
    scores = result.to_json()
    assert result.token_us.tolist() == [22.0, 0.0, 23.0]
    assert scores["flash_time_us_per_token"] == scores["flash_time_linear_us_per_token"] == 15.0
    assert scores["reads_per_token"] == scores["requests_per_token"] == pytest.approx(4 / 3)
    assert scores["read_length_mean"] == 5 / 4
    assert scores["read_length_max"] == 2
    assert scores["read_amplification"] == 1.0
    assert scores["effective_bandwidth_bytes_per_s"] == pytest.approx(5 * 4096e6 / 45)
    assert scores["cache_hit_ratio"] == 0.0
    assert scores["flash_time_us_percentiles"] == {"50": 22.0, "90": pytest.approx(22.8), "99": pytest.approx(22.98)}
    assert result.totals.read_length_counts.tolist() == [0, 3, 1, 0, 0]


def test_a_better_order_and_the_device_s_gap(four_neurons: ActivationTrace, device: DeviceProfile) -> None:
    """Order 2,0,1,3 makes each token one read; with lambda 10 the default gap merges everything in any order."""
    original = layout_of({"layers.0": [0, 1, 2, 3]})
    placed = simulate(four_neurons, layout_of({"layers.0": [2, 0, 1, 3]}), device, SimulationParams(gap=0))
    assert placed.token_us.tolist() == [12.0, 0.0, 13.0]
    merged = simulate(four_neurons, original, device)
    assert merged.blocks["layers.0"].gap == 10
    assert merged.token_us.tolist() == [13.0, 0.0, 14.0]
    assert merged.to_json()["read_amplification"] == 7 / 5
    assert placed.to_json(simulate(four_neurons, original, device, SimulationParams(gap=0)))["speedup"] == 45 / 25


def test_lru_of_two_by_hand(four_neurons: ActivationTrace, device: DeviceProfile) -> None:
    """After {0,2} an LRU of two holds both; {0,1,3} then hits 0 only, and 1 and 3 are read apart."""
    params = SimulationParams(cache="lru", capacity_neurons={"layers.0": 2}, gap=0)
    result = simulate(four_neurons, layout_of({"layers.0": [0, 1, 2, 3]}), device, params)
    assert result.token_us.tolist() == [22.0, 0.0, 22.0]
    assert (result.totals.n_hits, result.totals.n_misses) == (1, 4)
    assert result.to_json()["cache_hit_ratio"] == 1 / 5
    assert result.totals.bytes_requested - result.totals.bytes_active == 4096


def test_a_resident_neuron_in_a_gap_is_read_through(device: DeviceProfile) -> None:
    """Neuron 1 is pinned: it costs nothing, yet lies in the gap between 0 and 2, which is read as one."""
    trace = trace_of({"layers.0": block_trace(np.array([[1, 1, 1, 0]]))}, 1)
    layout = Layout(
        "pinned",
        {"layers.0": BlockLayout(NeuronPlacement(np.arange(4), np.array([1])), BlockExtent.packed(4096))},
    )
    params = SimulationParams(cache="pinned", capacity_neurons={"layers.0": 1}, gap=1)
    totals = simulate(trace, layout, device, params).totals
    assert (totals.n_reads, totals.n_neurons_read, totals.n_misses) == (1, 3, 2)


@given(st.integers(0, 2**32 - 1), st.sampled_from([4096, 6912, 1000]), st.integers(0, 3), st.integers(0, 25))
@settings(max_examples=25, deadline=None)
def test_block_equals_its_twin(seed: int, bundle_bytes: int, gap: int, capacity: int) -> None:
    """Every count and every token's time, on random activity, order, bundle, gap and LRU capacity."""
    rng = np.random.default_rng(seed)
    active = rng.random((6, 23)) < rng.random()
    order = rng.permutation(23).tolist()
    device = linear_device(max_request_bytes=16384)
    params = SimulationParams(cache="lru", capacity_neurons={"layers.0": capacity}, gap=gap)
    result = simulate(
        trace_of({"layers.0": block_trace(active)}, 6), layout_of({"layers.0": order}, bundle_bytes), device, params
    )
    expected = reference.simulate_block(
        active, order, lambda accesses: caches.lru(accesses, capacity), gap, bundle_bytes, bundle_bytes, 0, 4096, 16384,
        lambda size_bytes: 10 + size_bytes / 4096,
    )  # fmt: skip
    totals = result.totals
    for name in ("n_active", "n_hits", "n_reads", "n_neurons_read", "n_requests", "bytes_read"):
        assert getattr(totals, name) == expected[name], name
    assert np.repeat(np.arange(24), totals.read_length_counts).tolist() == expected["read_lengths"]
    assert result.token_us.tolist() == pytest.approx(expected["token_us"])
    assert totals.flash_time_linear_us == pytest.approx(totals.flash_time_us)


def test_json_has_the_documented_keys(four_neurons: ActivationTrace, device: DeviceProfile) -> None:
    """Keys are an interface: those of the design are there, in layouts and in blocks, and the document is JSON."""
    result = simulate(four_neurons, layout_of({"layers.0": [0, 1, 2, 3]}), device)
    document = json.loads(json.dumps(result.to_json(result), allow_nan=False))
    assert document.keys() >= SECTION_5_KEYS
    assert document["speedup"] == document["blocks"]["layers.0"]["speedup"] == 1.0
    assert document["blocks"]["layers.0"].keys() >= SECTION_5_KEYS - {"name", "blocks"}


def test_dead_and_dense_blocks(device: DeviceProfile) -> None:
    """A block that never fires divides by nothing and says null; one that always fires is one read a token."""
    trace = trace_of(
        {"layers.9": block_trace(np.zeros((2, 70))), "layers.10": block_trace(np.ones((2, 70)))}, n_tokens=2
    )
    layout = layout_of({"layers.9": list(range(70)), "layers.10": list(range(69, -1, -1))})
    document = json.loads(json.dumps(simulate(trace, layout, device).to_json(), allow_nan=False))
    assert list(document["blocks"]) == ["layers.9", "layers.10"]
    dead, dense = document["blocks"].values()
    for key in ("read_length_mean", "read_amplification", "effective_bandwidth_bytes_per_s", "cache_hit_ratio"):
        assert dead[key] is None
    assert (dead["reads_per_token"], dead["read_length_max"], dead["flash_time_us_per_token"]) == (0, 0, 0)
    # 70 bundles of 4 KiB in requests of 16: five requests.
    assert (dense["reads_per_token"], dense["requests_per_token"], dense["read_length_mean"]) == (1, 5, 70)
    assert dense["flash_time_us_per_token"] == document["flash_time_us_per_token"] == 5 * 10 + 70


def test_everything_in_dram(four_neurons: ActivationTrace, device: DeviceProfile) -> None:
    """A cache of all neurons reads each once; a second pass over the trace would read nothing: null ratios."""
    frequency = np.ones(4, np.int64)
    layout = Layout("hot", {"layers.0": BlockLayout(NeuronPlacement.original(4, frequency), BlockExtent.packed(4096))})
    params = SimulationParams(cache="pinned", capacity_neurons={"layers.0": 4})
    scores = simulate(four_neurons, layout, device, params).to_json()
    assert (scores["cache_hit_ratio"], scores["flash_time_us_per_token"]) == (1.0, 0.0)
    assert scores["read_amplification"] is scores["effective_bandwidth_bytes_per_s"] is None


def test_routed_blocks_count_only_their_tokens(device: DeviceProfile) -> None:
    """An expert that two of five tokens reach: its time falls on those two, means are over all five."""
    expert = block_trace(np.array([[1, 0], [1, 1]]), token_index=[1, 4])
    empty = block_trace(np.zeros((0, 3)), token_index=[])
    trace = trace_of({"layers.0.experts.1": expert, "layers.0.experts.2": empty}, n_tokens=5)
    layout = layout_of({"layers.0.experts.1": [0, 1], "layers.0.experts.2": [2, 1, 0]})
    result = simulate(trace, layout, device)
    assert result.token_us.tolist() == [0, 11, 0, 0, 12]
    assert result.blocks["layers.0.experts.1"].n_rows == 2
    assert result.to_json()["reads_per_token"] == 2 / 5


def test_totals_are_sums_and_ratios_follow_from_them(device: DeviceProfile) -> None:
    """Two blocks with bundles of different sizes: the total ratio is of sums, no mean of ratios."""
    rng = np.random.default_rng(5)
    trace = trace_of({f"layers.{i}": block_trace(rng.random((9, 40)) < 0.3) for i in range(2)}, 9)
    layout = layout_of({"layers.0": list(range(40)), "layers.1": list(range(40))}, bundle_bytes=6912)
    layout = Layout(
        "mixed",
        {
            **layout.blocks,
            "layers.1": BlockLayout(layout.blocks["layers.1"].placement, BlockExtent.packed(4096)),
        },
    )
    document = simulate(trace, layout, device, SimulationParams(gap={"layers.0": 2})).to_json()
    blocks = document["blocks"].values()
    assert [block["gap"] for block in blocks] == [2, 10]
    for key in ("reads_per_token", "bytes_read_per_token", "bytes_active_per_token", "flash_time_us_per_token"):
        assert document[key] == pytest.approx(sum(block[key] for block in blocks))
    assert document["read_amplification"] == pytest.approx(
        document["bytes_read_per_token"] / document["bytes_active_per_token"]
    )


def test_threads_and_chunks_change_nothing(device: DeviceProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers to the last bit with one thread and three, in one chunk and in chunks of a single token."""
    rng = np.random.default_rng(7)
    trace = trace_of({f"layers.{i}": block_trace(rng.random((12, 50)) < 0.2) for i in range(4)}, 12)
    layout = layout_of({name: rng.permutation(50).tolist() for name in trace.blocks}, bundle_bytes=6912)
    params = SimulationParams(cache="lru", capacity_neurons=dict.fromkeys(trace.blocks, 9))
    alone = simulate(trace, layout, device, params).to_json()
    assert simulate(trace, layout, device, replace(params, n_threads=3)).to_json() == alone
    monkeypatch.setattr("ripple_place.flash.replay.CHUNK_BITS", 1)
    by_token = simulate(trace, layout, device, params).to_json()
    assert by_token["bytes_read_per_token"] == alone["bytes_read_per_token"]
    assert by_token["flash_time_us_percentiles"] == alone["flash_time_us_percentiles"]


@pytest.mark.parametrize(
    ("orders", "match"),
    [
        ({"layers.1": [0, 1, 2, 3]}, "layout tested: layers.0: found no such block; expected 4 neurons"),
        ({"layers.0": [0, 1, 2]}, "layout tested: layers.0: found 3 neurons; expected 4 neurons"),
    ],
)
def test_layouts_of_other_models(
    four_neurons: ActivationTrace, device: DeviceProfile, orders: dict[str, list[int]], match: str
) -> None:
    """A trace and a layout that do not belong together are refused before anything is counted."""
    with pytest.raises(PlacementError, match=match):
        simulate(four_neurons, layout_of(orders), device)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"gap": -1}, "found gap -1"),
        ({"gap": {"layers.0": -1}}, "expected gaps and capacities of at least 0"),
        ({"capacity_neurons": {"layers.0": -1}}, "negative capacity"),
        ({"n_threads": 0}, "0 threads"),
        ({"cache": "arc"}, "cache arc: found no policy"),
    ],
)
def test_bad_params(params: dict[str, object], match: str) -> None:
    """Parameters are checked where they are made, not somewhere in a thread."""
    with pytest.raises(UsageError, match=match):
        SimulationParams(**params)  # type: ignore[arg-type]
