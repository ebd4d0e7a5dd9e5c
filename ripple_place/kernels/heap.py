"""A binary heap over ids that can be re-keyed: the id with the smallest key on top, ties by lowest id."""

from __future__ import annotations

from typing import Any

from ripple_place.kernels.compiled import compiled

ABSENT = -1
"""Place of an id that is not in the heap."""


@compiled
def sift_up(heap: Any, place: Any, key: Any, position: int) -> None:
    """Move the id at `position` towards the top until nothing above it has a larger key; in place.

    Parameters
    ----------
    heap : ndarray of shape (n,) or more, int32
        Ids; those at ``2 p + 1`` and ``2 p + 2`` lie below that at p.
    place : ndarray of int32
        ``place[id]`` is its position in the heap, or `ABSENT`.
    key : ndarray of float64
        By id.
    position : int
    """
    moving = heap[position]
    moving_key = key[moving]
    while position > 0:
        above = (position - 1) >> 1
        other = heap[above]
        if key[other] < moving_key or (key[other] == moving_key and other < moving):
            break
        heap[position] = other
        place[other] = position
        position = above
    heap[position] = moving
    place[moving] = position


@compiled
def sift_down(heap: Any, n_heaped: int, place: Any, key: Any, position: int) -> None:
    """Move the id at `position` down until nothing below it has a smaller key; in place.

    The heap holds `n_heaped` ids; otherwise as `sift_up`.
    """
    moving = heap[position]
    moving_key = key[moving]
    while True:
        below = 2 * position + 1
        if below >= n_heaped:
            break
        other = heap[below]
        if below + 1 < n_heaped:
            right = heap[below + 1]
            if key[right] < key[other] or (key[right] == key[other] and right < other):
                below += 1
                other = right
        if key[other] > moving_key or (key[other] == moving_key and other > moving):
            break
        heap[position] = other
        place[other] = position
        position = below
    heap[position] = moving
    place[moving] = position
