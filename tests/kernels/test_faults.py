"""Page faults of a mapped file, against their plain twin and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.kernels.faults import charge_faults
from ripple_place.kernels.read_state import Ceiling, PagedExtent, ReadCharges, RequestTimes, RowReads, SlotAccesses
from ripple_place.kernels.reads import N_FORMS, N_TOTALS
from tests.reference import read_plan

PAGE = 4096
N_SLOTS = 200


def charged(
    slots: list[int], bundle: int, stride: int, base: int, window: int, max_pages: int = 512
) -> tuple[list[tuple[int, int]], list[int], float]:
    """Return the reads, the totals and the time of one row of misses, at 10 us a request and 1 us a page."""
    form_us = np.arange(max_pages + 1) + 10.0
    array, totals = np.array(slots, np.int32), np.zeros(N_TOTALS, np.int64)
    first, last, starts = np.empty_like(array), np.empty_like(array), np.empty(2, np.int64)
    counts, row_us, other_us = np.zeros(N_SLOTS + 1, np.int64), np.zeros(1), np.zeros(N_FORMS)
    charge_faults(
        SlotAccesses(array, np.array([0, array.size]), np.zeros(array.size, np.uint8)), window,
        PagedExtent(bundle, stride, base, base, PAGE), RequestTimes(form_us, 2 * form_us, Ceiling(100.0, 0.5, False)),
        RowReads(first, last, starts), ReadCharges(totals, counts, row_us, other_us),
    )  # fmt: skip
    assert other_us.tolist() == pytest.approx([2 * row_us[0], max(100.0 * totals[2], 0.5 * totals[3])])
    reads = list(zip(first[: starts[1]].tolist(), last[: starts[1]].tolist(), strict=True))
    assert np.repeat(np.arange(N_SLOTS + 1), counts).tolist() == sorted(end - start + 1 for start, end in reads)
    return reads, totals.tolist(), float(row_us[0])


@pytest.mark.parametrize(
    ("slots", "bundle", "window", "reads", "pages"),
    [
        ([], 4096, 32, [], 0),
        # At the start of the file there is nothing to read back to: pages 0 to 31, which hold slot 20 as well.
        ([0, 20], 4096, 32, [(0, 20)], 32),
        # Around page 100: pages 84 to 115. Slot 116 faults again, and finds 100 to 115 there: 16 pages more.
        ([100, 115, 116], 4096, 32, [(100, 115), (116, 116)], 48),
        # No read-ahead: a page a fault; slots next to each other are still faults of their own.
        ([3, 4], 4096, 1, [(3, 3), (4, 4)], 2),
        # One bundle of six pages with a window of two: slot 1 has pages 6 to 11; the first fault fetches 5 and 6.
        ([1], 24576, 2, [(1, 1)], 7),
    ],
)
def test_faults_by_hand(slots: list[int], bundle: int, window: int, reads: list[tuple[int, int]], pages: int) -> None:
    """Which slots fault, and how many pages that fetches."""
    found, totals, _ = charged(slots, bundle, bundle, 0, window)
    assert (found, totals[3]) == (reads, pages)


@given(
    st.sets(st.integers(0, N_SLOTS - 1), max_size=30).map(sorted),
    st.sampled_from([(4096, 4096, 0), (6912, 6912, 0), (6912, 8192, 4096), (500, 500, 100), (30000, 30000, 0)]),
    st.sampled_from([1, 2, 5, 32]),
    st.sampled_from([4, 512]),
)
@settings(max_examples=60, deadline=None)
def test_faults_equal_the_twin(slots: list[int], extent: tuple[int, int, int], window: int, max_pages: int) -> None:
    """Requests, pages and time are those of a set of present pages; no page is fetched twice; reads cover the slots."""
    reads, totals, time_us = charged(slots, *extent, window, max_pages)
    fetched = read_plan.faults(slots, *extent, PAGE, window)
    requests = [min(max_pages, len(pages) - start) for pages in fetched for start in range(0, len(pages), max_pages)]
    assert totals[2:] == [len(requests), sum(requests)]
    assert time_us == pytest.approx(sum(pages + 10 for pages in requests))
    assert all(sum(first <= slot <= last for first, last in reads) == 1 for slot in slots)
