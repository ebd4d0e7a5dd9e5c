"""Marks the largest entries of a row."""

from __future__ import annotations

from typing import Any

import numpy as np

from ripple_place.kernels.compiled import compiled


@compiled
def mark_largest(scores: Any, k: int, is_marked: Any) -> None:
    """Write 1 for the `k` largest entries and 0 for the others; of equal entries the first ones count.

    Parameters
    ----------
    scores : ndarray of shape (n,), float64
        No NaN.
    k : int
        All are marked where there are no more.
    is_marked : ndarray of shape (n,), uint8
        Written.
    """
    n = scores.size
    if k >= n:
        is_marked[:] = 1
        return
    is_marked[:] = 0
    if k <= 0:
        return
    least = np.partition(scores, n - k)[n - k]
    n_left = k
    for i in range(n):
        if scores[i] > least:
            is_marked[i] = 1
            n_left -= 1
    for i in range(n):
        if n_left == 0:
            return
        if scores[i] == least:
            is_marked[i] = 1
            n_left -= 1
