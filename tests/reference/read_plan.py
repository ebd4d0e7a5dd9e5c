"""The read planner, written to be obvious."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def plan(slots: list[int], gap: int) -> list[tuple[int, int]]:
    """Return (first, last) of each read: a new one wherever more than `gap` slots lie between two wanted ones."""
    reads: list[list[int]] = []
    for slot in sorted(slots):
        if reads and slot - reads[-1][-1] - 1 <= gap:
            reads[-1].append(slot)
        else:
            reads.append([slot])
    return [(read[0], read[-1]) for read in reads]


def pages(first: int, last: int, bundle: int, stride: int, base: int, page: int) -> list[int]:
    """Return the pages that hold any byte of the read."""
    return sorted({byte // page for byte in range(base + first * stride, base + last * stride + bundle)})


def requests(first: int, last: int, bundle: int, stride: int, base: int, page: int, max_request: int) -> list[int]:
    """Return the lengths in bytes of the requests that fetch the read."""
    lengths: list[int] = []
    for _ in pages(first, last, bundle, stride, base, page):
        if not lengths or lengths[-1] == max_request:
            lengths.append(0)
        lengths[-1] += page
    return lengths


def least_time(slots: list[int], read_us: Callable[[int, int], float]) -> float:
    """Return the least time of all ways to merge neighbouring runs: every one of the 2^(runs - 1) is tried."""
    runs = plan(slots, 0)
    times = []
    for merges in product((False, True), repeat=max(0, len(runs) - 1)):
        reads = runs[:1]
        for merged, run in zip(merges, runs[1:], strict=True):
            reads = [*reads[:-1], (reads[-1][0], run[1])] if merged else [*reads, run]
        times.append(sum(read_us(first, last) for first, last in reads))
    return min(times)


def faults(slots: list[int], bundle: int, stride: int, base: int, page: int, window: int) -> list[list[int]]:
    """Return the pages that each fault of a mapped file fetches, with the bundles touched in ascending order."""
    present: set[int] = set()
    fetched = []
    for slot in sorted(slots):
        for wanted in pages(slot, slot, bundle, stride, base, page):
            if wanted not in present:
                start = max(0, wanted - window // 2)
                fetched.append([number for number in range(start, start + window) if number not in present])
                present.update(fetched[-1])
    return fetched
