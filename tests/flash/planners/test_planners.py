"""The read planners through the simulator: conservation, who is never beaten, and how the gap adapts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.flash.block_reader import BlockReader
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
from ripple_place.flash.device.profile import DeviceProfile
from ripple_place.flash.layout import BlockExtent, BlockLayout
from ripple_place.flash.planners.adaptive import AdaptiveParams, AdaptivePlanner
from ripple_place.flash.planners.optimal import least_cut_pages
from ripple_place.flash.replay import Chunk
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.kernels.read_state import RowReads
from ripple_place.placement import NeuronPlacement
from tests.flash.builders import block_trace, layout_of, linear_device, trace_of
from tests.flash.device.test_conditions import ceiling_device

KINKED = DeviceProfile(
    name="kinked",
    description="for tests",
    page_bytes=4096,
    max_request_bytes=32768,
    form="table",
    size_bytes=(8192, 16384, 32768),
    latency_us=(10.0, 11.0, 30.0),
    sources=dict.fromkeys(("page_bytes", "max_request_bytes", "latency_us"), "remembered: made up for tests"),
)
DEVICES = [linear_device(), KINKED, load_device(DEFAULT_DEVICE)]
EXTENTS = [BlockExtent.packed(4096), BlockExtent.packed(6912), BlockExtent(1000, 1000, 100), BlockExtent(5000, 8192)]
N_NEURONS = 60


def read_rows(
    rows: list[list[int]], device: DeviceProfile, planner: str, gap: int, extent: BlockExtent
) -> tuple[BlockReader, list[list[tuple[int, int]]], np.ndarray]:
    """Return the reader after some rows of misses, the reads of each row and their times."""
    layout = BlockLayout(NeuronPlacement.original(N_NEURONS), extent)
    slots = np.array([slot for row in rows for slot in row], np.int32)
    row_starts = np.cumsum([0, *map(len, rows)])
    reader = BlockReader(layout, device, planner, gap)
    reads = reader.read(Chunk(0, slots, np.zeros(slots.size, np.uint8), row_starts))
    bounds = zip(reads.read_starts[:-1], reads.read_starts[1:], strict=True)
    plans = [
        list(zip(reads.first_slot[start:stop].tolist(), reads.last_slot[start:stop].tolist(), strict=True))
        for start, stop in bounds
    ]
    return reader, plans, reads.row_us


row_lists = st.lists(st.sets(st.integers(0, N_NEURONS - 1), max_size=20).map(sorted), min_size=1, max_size=4)


@given(row_lists, st.sampled_from(DEVICES), st.sampled_from(["fixed", "adaptive", "optimal", "mmap"]),
       st.integers(0, 8), st.sampled_from(EXTENTS))  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_bytes_read_are_active_plus_gap_plus_padding(
    rows: list[list[int]], device: DeviceProfile, planner: str, gap: int, extent: BlockExtent
) -> None:
    """Under every planner each miss is in one read, and what is fetched beyond bundles is less than the rounding."""
    page_bytes = 4096
    if planner == "mmap":
        sources = {**device.sources, "read_ahead_bytes": "remembered: made up for tests"}
        device = under(replace(device, read_ahead_bytes=4 * page_bytes, sources=sources), ReadConditions(access="mmap"))
    reader, plans, row_us = read_rows(rows, device, "fixed" if planner == "mmap" else planner, gap, extent)
    n_reads, n_neurons_read, n_requests, n_pages = reader.totals.tolist()
    assert n_reads == sum(map(len, plans)) <= sum(map(len, rows))
    assert n_neurons_read == sum(last - first + 1 for plan in plans for first, last in plan)
    for slots, plan in zip(rows, plans, strict=True):
        assert all(sum(first <= slot <= last for first, last in plan) == 1 for slot in slots)
        assert plan == sorted(plan)
    active = sum(map(len, rows)) * extent.bundle_bytes
    if planner == "mmap":
        # Read-ahead is padding too: at most a window for each fault, at least the pages of the bundles.
        assert n_pages <= 4 * n_requests
        assert n_pages * page_bytes >= min(active, extent.bundle_bytes)
    else:
        gap_bytes = n_neurons_read * extent.bundle_bytes - active
        stride_bytes = (n_neurons_read - n_reads) * (extent.stride_bytes - extent.bundle_bytes)
        rounding = n_pages * page_bytes - active - gap_bytes - stride_bytes
        assert 0 <= rounding < 2 * page_bytes * n_reads + (n_reads == 0)
    assert (row_us > 0).tolist() == [len(slots) > 0 for slots in rows]


@given(row_lists, st.sampled_from(DEVICES), st.sampled_from(EXTENTS), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_the_optimal_plan_is_never_beaten(
    rows: list[list[int]], device: DeviceProfile, extent: BlockExtent, gap: int
) -> None:
    """Row by row no slower than any fixed gap, off, the device's own gap or the adaptive planner."""
    *_, least_us = read_rows(rows, device, "optimal", 0, extent)
    for planner, tried in (("fixed", gap), ("fixed", 0), ("fixed", device.gap(extent.bundle_bytes)), ("adaptive", gap)):
        *_, row_us = read_rows(rows, device, planner, tried, extent)
        assert (least_us <= row_us * (1 + 1e-9)).all()


@given(row_lists, st.sampled_from(DEVICES), st.sampled_from(["fixed", "adaptive", "optimal"]), st.integers(0, 8))
@settings(max_examples=40, deadline=None)
def test_collapse_never_adds_a_read(rows: list[list[int]], device: DeviceProfile, planner: str, gap: int) -> None:
    """Every planner only merges runs of adjacent misses."""
    extent = BlockExtent.packed(4096)
    apart, plans_apart, _ = read_rows(rows, device, "fixed", 0, extent)
    merged, plans, _ = read_rows(rows, device, planner, gap, extent)
    assert merged.totals[0] <= apart.totals[0]
    for plan, runs in zip(plans, plans_apart, strict=True):
        assert {first for first, _ in plan} <= {first for first, _ in runs}
        assert {last for _, last in plan} <= {last for _, last in runs}


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_least_cut_is_the_least_gap_that_never_pays(steps: list[int], first_us: int) -> None:
    """Compared with its definition over twice the pages; it is at most the largest request."""
    times_us = np.cumsum([first_us, *steps, 1]).astype(float)
    sizes = np.arange(1, times_us.size + 1) * 4096
    device = replace(
        KINKED, size_bytes=tuple(sizes.tolist()), latency_us=tuple(times_us.tolist()), max_request_bytes=int(sizes[-1])
    )
    n = times_us.size
    read_us = device.read_us_by_pages(5 * n)

    def never_pays(gap: int) -> bool:
        lengths = range(1, 2 * n + 1)
        return all(read_us[p + gap + q] >= read_us[p] + read_us[q] for p in lengths for q in lengths)

    cut = least_cut_pages(device)
    assert cut <= n
    assert never_pays(cut)
    assert cut == 0 or not never_pays(cut - 1)


def test_optimal_by_hand() -> None:
    """Flat to two pages, then nearly, then steep: pairs merge over one unwanted page, not over six.

    Slots 0, 2, 9, 11: reads of three pages (10.5 us) twice are 21; of one page four times 40; all in one 12 pages.
    """
    _, plans, row_us = read_rows([[0, 2, 9, 11]], KINKED, "optimal", 0, BlockExtent.packed(4096))
    assert plans == [[(0, 2), (9, 11)]]
    assert row_us.tolist() == [21.0]


def adapted(rows: list[list[int]], device: DeviceProfile, params: AdaptiveParams, gap: int) -> AdaptivePlanner:
    """Return the adaptive planner after some rows of bundles of 4 KiB."""
    layout = BlockLayout(NeuronPlacement.original(N_NEURONS), BlockExtent.packed(4096))
    planner = AdaptivePlanner(layout, device, gap, params)
    slots = np.array([slot for row in rows for slot in row], np.int32)
    first, last, starts = np.empty_like(slots), np.empty_like(slots), np.empty(len(rows) + 1, np.int64)
    chunk = Chunk(0, slots, np.zeros(slots.size, np.uint8), np.cumsum([0, *map(len, rows)]))
    planner.plan(chunk, RowReads(first, last, starts))
    return planner


def test_the_gap_finds_the_break_even_of_a_line() -> None:
    """Two rows of different shape, at 10 us a read and 1 a page, tell both prices: the gap becomes 10."""
    rows = [[0, 5], [0, 1, 2, 3, 20]]
    assert adapted(rows, linear_device(), AdaptiveParams(period_tokens=2), gap=0).gap_in_force == 10
    # One row tells their sum only, and leaves the gap alone.
    assert adapted(rows[:1], linear_device(), AdaptiveParams(period_tokens=1), gap=3).gap_in_force == 3


def test_pages_that_cost_nothing_open_the_gap() -> None:
    """Within two pages the kinked device takes 10 us whatever is read: the gap doubles, up to the block's size."""
    rows = [[0], [0, 1], [0, 3], [0, 1, 5]]
    planner = adapted(rows, KINKED, AdaptiveParams(period_tokens=4), gap=1)
    assert planner.gap_in_force == 3


def dense(n_rows: int) -> list[list[int]]:
    """Return rows of every second slot: read as one with a gap of 1, or as 30."""
    return [list(range(0, N_NEURONS, 2))] * n_rows


def plan_lengths(rows: list[list[int]], device: DeviceProfile, params: AdaptiveParams) -> list[int]:
    """Return the number of reads of each row, starting from a gap of 1."""
    layout = BlockLayout(NeuronPlacement.original(N_NEURONS), BlockExtent.packed(4096))
    planner = AdaptivePlanner(layout, device, 1, params)
    slots = np.array([slot for row in rows for slot in row], np.int32)
    first, last, starts = np.empty_like(slots), np.empty_like(slots), np.empty(len(rows) + 1, np.int64)
    chunk = Chunk(0, slots, np.zeros(slots.size, np.uint8), np.cumsum([0, *map(len, rows)]))
    planner.plan(chunk, RowReads(first, last, starts))
    return np.diff(starts).tolist()


def test_fallback_that_does_not_pay_ends_after_its_trial() -> None:
    """Reading 59 pages at once is the most bandwidth there is, and 30 single reads take five times as long.

    One row without collapse in every 2, 4, 8 periods of two rows: the bottleneck detector is tried, and refuted.
    """
    params = AdaptiveParams(period_tokens=2, saturation=0.9, backoff_periods=2)
    lengths = plan_lengths(dense(20), linear_device(), params)
    assert lengths == [1, 1, 30, 1, 1, 1, 1, 1, 1, 30, *[1] * 10]


def test_fallback_that_pays_holds() -> None:
    """Where a read costs next to nothing, half the pages are half the time: no collapse for the periods to hold."""
    cheap = replace(linear_device(), overhead_us=0.001)
    params = AdaptiveParams(period_tokens=2, saturation=0.9, hold_periods=2)
    # Once held, the prices are known from both ways of reading, and the gap stays at 0.
    assert plan_lengths(dense(10), cheap, params) == [1, 1, *[30] * 8]


def test_planners_by_name_in_the_simulator() -> None:
    """`gap` names a planner, or is a number; 0 is off; the result says which gap there was."""
    rng = np.random.default_rng(2)
    trace = trace_of({"layers.0": block_trace(rng.random((30, N_NEURONS)) < 0.2)}, 30)
    layout = layout_of({"layers.0": rng.permutation(N_NEURONS).tolist()})
    device = load_device(DEFAULT_DEVICE)
    results = {
        gap: simulate(trace, layout, device, SimulationParams(gap=gap)) for gap in (None, 0, "adaptive", "optimal")
    }
    times = {gap: result.totals.flash_time_us for gap, result in results.items()}
    assert times["optimal"] < times[None] < times[0]
    assert times["optimal"] <= times["adaptive"]
    assert [result.blocks["layers.0"].gap for result in results.values()] == [3, 0, None, None]


def test_mapped_files_by_hand() -> None:
    """Slots 0 and 20 share the first window of 32 pages, 40 faults around itself: 32 and 24 pages at 1 us, 10 a fault.

    The window around page 40 reaches from 24 to 55, of which 24 to 31 are there.
    """
    sources = {**linear_device().sources, "read_ahead_bytes": "remembered: made up for tests"}
    profile = replace(linear_device(max_request_bytes=131072), read_ahead_bytes=131072, sources=sources)
    trace = trace_of({"layers.0": block_trace(np.isin(np.arange(60), [0, 20, 40])[None])}, 1)
    layout = layout_of({"layers.0": list(range(60))})
    result = simulate(trace, layout, under(profile, ReadConditions(access="mmap")))
    totals = result.totals
    assert (totals.n_reads, totals.n_neurons_read, totals.n_requests) == (2, 22, 2)
    assert totals.bytes_read == 56 * 4096
    assert totals.flash_time_us == (10 + 32) + (10 + 24)
    assert result.blocks["layers.0"].gap is None


def test_ceiling_form_in_the_simulator() -> None:
    """At 100,000 requests a second or 1 us a page: token by token the larger; the line of each request is a sum."""
    trace = trace_of({"layers.0": block_trace(np.array([[1, 0, 1] + [0] * 30, [1] * 33]))}, 2)
    layout = layout_of({"layers.0": list(range(33))})
    result = simulate(trace, layout, ceiling_device(), SimulationParams(gap=0))
    # Two single reads; 33 pages in requests of 16, 16 and 1.
    assert result.token_us.tolist() == [20.0, 33.0]
    assert result.totals.flash_time_ceiling_us == 53.0
    with pytest.raises(UsageError, match="--collapse optimal: found device linear of form ceiling"):
        simulate(trace, layout, ceiling_device(), SimulationParams(gap="optimal"))


@pytest.mark.parametrize(
    "changes",
    [{"period_tokens": 0}, {"memory": 1.5}, {"saturation": 0.0}, {"hold_periods": -1}, {"trial_tokens": 0},
     {"backoff_periods": 0}],
)  # fmt: skip
def test_bad_adaptive_params(changes: dict[str, float]) -> None:
    """Out of range is refused where it is given."""
    with pytest.raises(UsageError, match=f"adaptive collapse: found AdaptiveParams.*{next(iter(changes))}"):
        AdaptiveParams(**changes)  # type: ignore[arg-type]


def test_unknown_planner() -> None:
    """The message lists what there is."""
    with pytest.raises(UsageError, match=r"found no planner by that name; expected auto, off, a number, adaptive or"):
        SimulationParams(gap="greedy")


def test_adapting_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planner's memory goes on from chunk to chunk: the same reads in one chunk and token by token."""
    rng = np.random.default_rng(3)
    active = rng.random((80, N_NEURONS)) < rng.choice([0.1, 0.6], (80, 1))
    trace, layout = trace_of({"layers.0": block_trace(active)}, 80), layout_of({"layers.0": list(range(N_NEURONS))})
    params, device = SimulationParams(gap="adaptive"), load_device(DEFAULT_DEVICE)
    whole = simulate(trace, layout, device, params)
    monkeypatch.setattr("ripple_place.flash.replay.CHUNK_BITS", 1)
    by_token = simulate(trace, layout, device, params)
    assert by_token.token_us.tolist() == whole.token_us.tolist()
    assert by_token.totals.n_reads == whole.totals.n_reads
