"""What a block served each token: by hand, and against the counts of its totals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.flash.bundle_form import BundleForm
from ripple_place.flash.gate_first import GateFirst
from ripple_place.flash.layout import BlockExtent, BlockLayout
from ripple_place.flash.pipeline.params import PipelineParams
from ripple_place.flash.pipeline.timeline import layer_timeline
from ripple_place.flash.simulator import SimulationParams, simulate_block
from ripple_place.placement import NeuronPlacement
from tests.flash.builders import block_trace, layout_of, linear_device
from tests.reference import caches


def test_by_hand() -> None:
    """Tokens 1 and 3 reach the block: two misses; then one of them is in DRAM, which holds one neuron."""
    trace = block_trace(np.array([[1, 0, 1], [0, 1, 1]]), [1, 3])
    params = SimulationParams(cache="lru", capacity_neurons={"layers.0": 1}, gap=0)
    layout = layout_of({"layers.0": [2, 1, 0]}).blocks["layers.0"]
    _, rows = simulate_block("layers.0", trace, layout, linear_device(), params, 5)
    # Slots 0 and 2 are read, and neuron 0 stays; then slots 0 and 1 are read as one.
    assert rows.n_hits.tolist() == [0, 0, 0, 0, 0]
    assert rows.n_misses.tolist() == [0, 2, 0, 2, 0]
    assert rows.flash_us.tolist() == [0, 22, 0, 12, 0]
    assert (rows.n_hits.dtype, rows.n_misses.dtype, rows.flash_us.dtype) == (np.int32, np.int32, np.float64)
    assert (rows.gate_us, rows.n_tokens) == (None, 5)


@given(st.integers(0, 10_000), st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_hits_of_each_row_are_the_cache_s(seed: int, capacity: int) -> None:
    """Row by row those of the twin of the cache; in all those of the totals, over several chunks of rows."""
    rng = np.random.default_rng(seed)
    active = rng.random((40, 23)) < rng.random()
    order = rng.permutation(23)
    params = SimulationParams(cache="lru", capacity_neurons={"layers.0": capacity})
    layout = layout_of({"layers.0": order.tolist()}).blocks["layers.0"]
    result, rows = simulate_block("layers.0", block_trace(active), layout, linear_device(), params, 40)
    accesses = [[int(neuron) for neuron in order if row[neuron]] for row in active]
    hits = iter(caches.lru([neuron for row in accesses for neuron in row], capacity))
    assert rows.n_hits.tolist() == [sum(bool(next(hits)) for _ in row) for row in accesses]
    assert (rows.n_hits + rows.n_misses).tolist() == active.sum(axis=1).tolist()
    assert int(rows.n_misses.sum()) == result.totals.n_misses
    assert float(rows.flash_us.sum()) == pytest.approx(result.totals.flash_time_us)


def test_gates_that_are_read_first_are_timed_apart() -> None:
    """Two neurons: 12 us for a gate of two pages and 14 us for four pages of up and down each; the pipeline knows."""
    form = BundleForm.in_bundle("gate-first", 8192, 24576, 24576)
    layout = BlockLayout(NeuronPlacement(np.array([0, 1, 2])), BlockExtent(24576, 24576), form)
    params = SimulationParams(gap=0, gate_first=GateFirst("predicted"))
    trace = block_trace(np.array([[1, 0, 1]]), [1])
    _, rows = simulate_block("layers.0", trace, layout, linear_device(), params, 2)
    assert rows.gate_us is not None
    assert rows.gate_us.tolist() == [0.0, 24.0]
    assert rows.flash_us.tolist() == [0.0, 52.0]
    timeline = layer_timeline([(rows, 24576)], 1, PipelineParams(thread_bytes_per_s=24576e6, npu_us=0.0))
    gates = [span for span in timeline.spans if span.stage == "gate read"]
    assert sum(span.end_us - span.start_us for span in gates) == pytest.approx(24.0)
