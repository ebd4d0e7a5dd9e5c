"""The read planner, written to be obvious."""

from __future__ import annotations


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
