"""The optimal plan against all merges, by hand, and under what its two bounds rest on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.kernels.optimal_reads import RequestCosts, RunScratch, plan_rows_optimal
from ripple_place.kernels.read_state import PagedExtent, RowReads, SlotAccesses
from tests.reference import read_plan

PAGE = 4096
N_SLOTS = 60


def planned(
    rows: list[list[int]], bundle: int, stride: int, base: int, request_us: list[float], cut_pages: int | None = None
) -> list[list[tuple[int, int]]]:
    """Return the plan of each row; `request_us` is the time of a request by its pages, from 1 on.

    Without `cut_pages`, no gap is cut: what is left is the bound by residues.
    """
    max_pages = len(request_us)
    n_pages = -(-(base + N_SLOTS * stride) // PAGE) + 2
    table_us = np.array([0.0, *request_us])
    n_full, n_rest = np.divmod(np.arange(n_pages), max_pages)
    slots = np.array([slot for row in rows for slot in row], np.int32)
    first, last = np.empty_like(slots), np.empty_like(slots)
    starts, scratch = np.empty(len(rows) + 1, np.int64), RunScratch.allocate(N_SLOTS, max_pages)
    plan_rows_optimal(
        SlotAccesses(slots, np.cumsum([0, *map(len, rows)]), np.zeros(slots.size, np.uint8)),
        PagedExtent(bundle, stride, base, base, PAGE),
        RequestCosts(n_full * table_us[-1] + table_us[n_rest], max_pages, n_pages if cut_pages is None else cut_pages),
        scratch, RowReads(first, last, starts),
    )  # fmt: skip
    assert (scratch.open_run == -1).all()
    return [
        list(zip(first[start:stop].tolist(), last[start:stop].tolist(), strict=True))
        for start, stop in pairwise(starts.tolist())
    ]


def read_us(first: int, last: int, bundle: int, stride: int, base: int, request_us: list[float]) -> float:
    """Return the time of a read."""
    sizes = read_plan.requests(first, last, bundle, stride, base, PAGE, PAGE * len(request_us))
    return sum(request_us[size // PAGE - 1] for size in sizes)


@pytest.mark.parametrize(
    ("slots", "request_us", "reads"),
    [
        ([], [1, 2, 3, 4], []),
        ([5], [1, 2, 3, 4], [(5, 5)]),
        # Bytes cost in full and reads nothing: nothing is merged.
        ([0, 2, 4], [1, 2, 3, 4], [(0, 0), (2, 2), (4, 4)]),
        # A request costs the same whatever its length, and takes four pages: 0-3 and 5-7, not 0-2 and 5-7 or three.
        ([0, 2, 3, 5, 7], [9, 9, 9, 9], [(0, 3), (5, 7)]),
        # A fixed gap of 1 would merge all of 0, 2, 4 into 5 pages: two requests, as many as 0-2 and 4, which are less.
        ([0, 2, 4], [9, 10, 11, 12], [(0, 2), (4, 4)]),
        # Cheap up to two pages, then dear: a gap of 1 does not pay between single neurons.
        ([0, 2], [5, 5, 20, 20], [(0, 0), (2, 2)]),
    ],
)
def test_plans_by_hand(slots: list[int], request_us: list[float], reads: list[tuple[int, int]]) -> None:
    """Bundles of a page each: what costs least; of equal plans, the one whose last read begins latest."""
    found = planned([slots], PAGE, PAGE, 0, request_us)[0]
    cost = [sum(read_us(*read, PAGE, PAGE, 0, request_us) for read in plan) for plan in (found, reads)]
    assert cost[0] == cost[1]
    assert found == reads


@st.composite
def latencies(draw: st.DrawFn) -> list[float]:
    """Draw request times that never fall, some flat, some convex, some concave."""
    steps = draw(st.lists(st.integers(0, 6), min_size=1, max_size=6))
    return np.cumsum([draw(st.integers(1, 9)), *steps]).astype(float).tolist()


EXTENTS = [(4096, 4096, 0), (6912, 6912, 0), (6912, 8192, 4096), (1000, 1000, 100), (9000, 9000, 0)]


@given(
    st.lists(st.sets(st.integers(0, N_SLOTS - 1), max_size=7).map(sorted), max_size=3),
    st.sampled_from(EXTENTS),
    latencies(),
)
@settings(max_examples=80, deadline=None)
def test_no_merge_of_runs_is_cheaper(
    rows: list[list[int]], extent: tuple[int, int, int], request_us: list[float]
) -> None:
    """Every one of the 2^(runs - 1) merges, of several rows, with page rounding and splitting."""
    for slots, reads in zip(rows, planned(rows, *extent, request_us), strict=True):
        time_us = sum(read_us(*read, *extent, request_us) for read in reads)
        least_us = read_plan.least_time(slots, lambda first, last: read_us(first, last, *extent, request_us))
        assert time_us == pytest.approx(least_us)
        assert all(sum(first <= slot <= last for first, last in reads) == 1 for slot in slots)
        assert all(first in slots and last in slots for first, last in reads)
