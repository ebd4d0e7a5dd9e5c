"""Which neurons may enter a cache: draws for those that lie in long runs of active slots."""

from __future__ import annotations

from typing import Any

import numpy as np

from ripple_place.kernels.compiled import compiled
from ripple_place.kernels.synthetic import random_word


@compiled
def admit_outside_runs(
    slots: Any, neurons: Any, row_starts: Any, first_row: int, cutoff: int, threshold: int, key: Any, admitted: Any
) -> None:
    """Draw which members of runs are admitted; everything else is. Caller allocates.

    Parameters
    ----------
    slots, neurons : ndarray of shape (n_accesses,), int32
        Row by row; slots ascend in each.
    row_starts : ndarray of shape (n_rows + 1,), int64
    first_row : int
        Number of the first row in the whole trace.
    cutoff : int
        Consecutive slots that make a run, at least 1.
    threshold : int
        A member of a run is admitted if 32 random bits are below it. The bits are a hash of `key`, row and neuron.
    key : uint64
    admitted : ndarray of shape (n_accesses,), uint8
        Written.
    """
    for i in range(row_starts.size - 1):
        row_key = random_word(key, first_row + i)
        start, stop = row_starts[i], row_starts[i + 1]
        while start < stop:
            end = start + 1
            while end < stop and slots[end] == slots[end - 1] + 1:
                end += 1
            for k in range(start, end):
                admitted[k] = end - start < cutoff or np.int64(random_word(row_key, neurons[k]) >> 32) < threshold
            start = end
