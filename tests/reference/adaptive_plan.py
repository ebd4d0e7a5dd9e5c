"""The adaptive planner on plain numbers and numpy's least squares, written to be obvious."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from tests.reference import read_plan

if TYPE_CHECKING:
    from collections.abc import Callable


def plan_rows(
    rows: list[list[int]], gap: int, n_neurons: int, bundle: int, page: int, read_us: Callable[[int], float],
    fastest_page_us: float, period: int, memory: float, saturation: float, hold: int, trial: int, backoff: int,
) -> list[list[tuple[int, int]]]:  # fmt: skip
    """Return the reads of each row; `read_us` gives the time of a read by its pages."""
    plans = []
    seen: list[tuple[float, int, int, float]] = []  # weight, reads, pages, time of each row
    recent: list[tuple[int, int, float]] = []  # wanted slots, pages, time of each row of this period
    off = ignore = since_off = 0
    collapsed_us = 0.0
    for slots in rows:
        plans.append(read_plan.plan(slots, 0 if off else gap))
        if not slots:
            continue
        pages = [len(read_plan.pages(first, last, bundle, bundle, 0, page)) for first, last in plans[-1]]
        time_us = sum(map(read_us, pages))
        seen.append((1.0, len(pages), sum(pages), time_us))
        recent.append((len(slots), sum(pages), time_us))
        wanted, period_pages, period_us = (sum(column) for column in zip(*recent, strict=True))
        if off:
            off, since_off = off - 1, since_off + 1
            if since_off == trial and period_us > collapsed_us * wanted:
                off, ignore, backoff, recent = 0, backoff, 2 * backoff, []
                continue
        if len(recent) < period:
            continue
        if not off and ignore:
            ignore -= 1
        elif not off and gap and period_pages * fastest_page_us >= saturation * period_us:
            off, since_off, collapsed_us = hold * period, 0, period_us / wanted
        weights = np.sqrt([weight for weight, *_ in seen])
        counts = np.array([[n_reads, n_pages] for _, n_reads, n_pages, _ in seen], float)
        if np.linalg.matrix_rank(counts) == 2:
            times = np.array([time for *_, time in seen])
            prices, *_ = np.linalg.lstsq(counts * weights[:, None], times * weights, rcond=None)
            rounding = 1 - gcd(page, bundle) / page
            if prices[1] <= 0:
                gap = 2 * gap + 1
            else:
                gap = int((max(0.0, prices[0]) / prices[1] + rounding) * page / bundle * (1 + 1e-9) + 1e-9)
            gap = min(gap, n_neurons)
        seen = [(weight * memory, n_reads, n_pages, time) for weight, n_reads, n_pages, time in seen]
        recent = []
    return plans
