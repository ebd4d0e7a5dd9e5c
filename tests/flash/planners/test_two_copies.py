"""Layouts with two copies of each neuron: what the simulator charges, where requests go, and what cannot be asked."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.flash.misses import replay_misses
from ripple_place.flash.read_cost import ReadCost
from ripple_place.flash.requests import list_requests
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.flash.token_reads import reads_of_row
from ripple_place.ordering.second_copy import divide
from ripple_place.placement import NeuronPlacement
from tests.flash.builders import block_trace, linear_device, trace_of
from tests.trace_builders import random_activity

N = 40


def layout_of_two(
    order: np.ndarray, order_2: np.ndarray | None, bundle_bytes: int = 4096, base_offset_bytes: int = 0
) -> Layout:
    """Return one block's layout with a second copy."""
    extent = BlockExtent(bundle_bytes, bundle_bytes, base_offset_bytes)
    placement = NeuronPlacement(order, frequency=np.arange(N), order_2=order_2)
    return Layout("tested", {"layers.0": BlockLayout(placement, extent)})


def orders(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two orders."""
    rng = np.random.default_rng(seed)
    return rng.permutation(N).astype(np.int32), rng.permutation(N).astype(np.int32)


@pytest.mark.parametrize(("cache", "capacity"), [("none", 0), ("s3fifo", 8), ("pinned", 10)])
def test_the_cost_is_the_planners(cache: str, capacity: int) -> None:
    """On a line device whose page is the bundle: lambda x reads + neurons read of the misses, planned over both."""
    rng = np.random.default_rng(2)
    block = block_trace(random_activity(rng, 60, N, 0.15))
    (order, order_2), device = orders(0), linear_device(max_request_bytes=N * 4096)
    layout, params = layout_of_two(order, order_2), SimulationParams(cache, {"layers.0": capacity})
    result = simulate(trace_of({"layers.0": block}, 60), layout, device, params)
    placement = layout.blocks["layers.0"].placement
    misses = replay_misses(block, placement, cache, capacity, ReadCost.by_line(10.0), with_trace=True)
    assert misses.trace is not None
    division = divide(misses.trace, order, order_2, ReadCost.by_line(10.0))
    # 4096 bytes a microsecond: a bundle takes 1 us, a read 10 us more.
    assert result.token_us.mean() == pytest.approx(division.cost)
    assert result.totals.n_reads / 60 == pytest.approx(division.reads)
    assert result.token_us.mean() < misses.row_cost.mean()
    alone = simulate(trace_of({"layers.0": block}, 60), layout_of_two(order, None), device, params)
    assert alone.totals.n_hits == result.totals.n_hits
    assert alone.token_us.mean() == pytest.approx(misses.row_cost.mean())
    assert (result.token_us <= alone.token_us + 1e-9).all()


def test_the_gap_is_the_callers() -> None:
    """``--collapse off`` reads through nothing in either copy."""
    order = np.arange(N, dtype=np.int32)
    order_2 = np.roll(order, 7)
    trace = trace_of({"layers.0": block_trace(np.eye(N)[[3]] + np.eye(N)[[5]])}, 1)
    layout = layout_of_two(order, order_2)
    for gap, n_reads in ((0, 2), (1, 1), (None, 1)):
        assert simulate(trace, layout, linear_device(), SimulationParams(gap=gap)).totals.n_reads == n_reads


@pytest.mark.parametrize("bundle_bytes", [4096, 1000, 6912])
def test_requests_fetch_every_neuron(bundle_bytes: int) -> None:
    """Each missed neuron's bytes, in the one copy or the other, are in a request; what they take is what is charged."""
    rng = np.random.default_rng(5)
    active = random_activity(rng, 12, N, 0.2)
    trace = trace_of({"layers.0": block_trace(active)}, 12)
    (order, order_2), device = orders(1), linear_device()
    layout, params = layout_of_two(order, order_2, bundle_bytes, 8192), SimulationParams()
    block = layout.blocks["layers.0"]
    second_bytes = 8192 + -(-N * bundle_bytes // 4096) * 4096
    assert block.second_extent.base_offset_bytes + N * bundle_bytes == second_bytes
    assert layout.span_bytes == second_bytes - 8192 + N * bundle_bytes
    result = simulate(trace, layout, device, params)
    from_second = 0
    for token in range(12):
        requests = list_requests(trace, layout, device, params, np.array([token]))
        spans = list(zip(requests.offset_bytes.tolist(), requests.length_bytes.tolist(), strict=True))
        assert sum(length for _, length in spans) % 4096 == 0
        assert requests.predicted_us == pytest.approx(result.token_us[token])
        fetched = {byte for offset, length in spans for byte in range(offset, offset + length)}
        for neuron in np.flatnonzero(active[token]).tolist():
            starts = (
                8192 + np.flatnonzero(order == neuron).item() * bundle_bytes,
                second_bytes + np.flatnonzero(order_2 == neuron).item() * bundle_bytes,
            )
            held = [set(range(start, start + bundle_bytes)) <= fetched for start in starts]
            assert any(held)
            from_second += not held[0]
        assert requests.end_bytes <= second_bytes + -(-N * bundle_bytes // 4096) * 4096
    assert from_second > 0


def test_pictures_show_both_copies() -> None:
    """Each active neuron stands where it is read, or, if it is in DRAM, in the first copy."""
    rng = np.random.default_rng(7)
    active = random_activity(rng, 9, N, 0.2)
    layout, params = layout_of_two(*orders(2)), SimulationParams("pinned", {"layers.0": 10}, gap=1)
    block, seconds, trace = layout.blocks["layers.0"], 0, trace_of({"layers.0": block_trace(active)}, 9)
    for row in range(9):
        reads = reads_of_row("layers.0", trace, layout, linear_device(), params, row)
        assert reads.n_slots == 2 * N
        orders_of_both = np.concatenate([block.placement.order, block.placement.order_2])
        assert sorted(orders_of_both[reads.slots]) == np.flatnonzero(active[row]).tolist()
        assert (np.diff(reads.slots) > 0).all()
        spans = list(zip(reads.first_slot.tolist(), reads.last_slot.tolist(), strict=True))
        for slot, is_hit in zip(reads.slots.tolist(), reads.is_hit.tolist(), strict=True):
            assert is_hit or any(first <= slot <= last for first, last in spans)
            assert not is_hit or slot < N
            seconds += slot >= N
    assert seconds > 0


@pytest.mark.parametrize(
    ("params", "access", "match"),
    [
        (SimulationParams(gap="optimal"), "direct", "--collapse optimal: found a layout with two copies"),
        (SimulationParams(gap="adaptive"), "direct", "--collapse adaptive: found a layout with two copies"),
        (SimulationParams(), "mmap", "--access mmap: found a layout with two copies .* without --copies 2"),
    ],
)
def test_readers_of_one_copy(params: SimulationParams, access: str, match: str) -> None:
    """Planners that know of one copy, and page faults, are refused rather than given half of the layout."""
    trace = trace_of({"layers.0": block_trace(np.eye(N))}, N)
    device = under(load_device(DEFAULT_DEVICE), ReadConditions(access=access))
    with pytest.raises(UsageError, match=match):
        simulate(trace, layout_of_two(*orders(3)), device, params)
