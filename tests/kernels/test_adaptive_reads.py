"""The adaptive kernel against its plain twin, row by row."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ripple_place.kernels.adaptive_reads import (
    BACKOFF,
    GAP,
    N_COUNTS,
    N_SUMS,
    AdaptiveRule,
    AdaptiveState,
    SeenTimes,
    plan_rows_adaptive,
)
from ripple_place.kernels.read_state import Ceiling, PagedExtent, RowReads, SlotAccesses
from tests.reference import adaptive_plan

PAGE = 4096
N_NEURONS = 50


@pytest.mark.parametrize("bundle", [1024, 4096, 6912])
@pytest.mark.parametrize("seed", range(6))
def test_rows_equal_the_twin(seed: int, bundle: int) -> None:
    """The same reads of sixty rows, sparse and dense, empty ones between: refits, fallbacks and trials included.

    Times are a curve and no line, so that the prices change with the rows; they are odd numbers, so that no gap
    stands on the edge between two whole numbers, where the last bit would decide.
    """
    rng = np.random.default_rng(seed)
    shares = rng.choice([0.0, 0.06, 0.3, 0.95], 60)
    rows = [np.flatnonzero(rng.random(N_NEURONS) < share).tolist() for share in shares]
    n_pages = -(-N_NEURONS * bundle // PAGE) + 2
    read_us = 7.31 * (np.arange(n_pages) > 0) + np.arange(n_pages) ** 1.13
    fastest_page_us = float(read_us[-1] / (n_pages - 1))
    slots = np.array([slot for row in rows for slot in row], np.int32)
    first, last, starts = np.empty_like(slots), np.empty_like(slots), np.empty(len(rows) + 1, np.int64)
    state = AdaptiveState(np.zeros(N_COUNTS, np.int64), np.zeros(N_SUMS))
    state.counts[GAP], state.counts[BACKOFF] = 2, 2
    rule = AdaptiveRule(period_rows=4, memory=0.9, saturation=0.8, hold_periods=2, trial_rows=2, longest_gap=N_NEURONS)
    plan_rows_adaptive(
        SlotAccesses(slots, np.cumsum([0, *map(len, rows)]), np.zeros(slots.size, np.uint8)),
        PagedExtent(bundle, bundle, 0, 0, PAGE), SeenTimes(read_us, Ceiling(1.0, 1.0, False), fastest_page_us), rule,
        state, RowReads(first, last, starts),
    )  # fmt: skip
    found = [
        list(zip(first[start:stop].tolist(), last[start:stop].tolist(), strict=True))
        for start, stop in pairwise(starts.tolist())
    ]
    assert found == adaptive_plan.plan_rows(
        rows, 2, N_NEURONS, bundle, PAGE, lambda pages: float(read_us[pages]), fastest_page_us,
        period=4, memory=0.9, saturation=0.8, hold=2, trial=2, backoff=2,
    )  # fmt: skip
