"""From co-activation counts to similarities that do not depend on how often neurons fire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import prange

from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

UNITS = 2**30
"""Similarity of neurons that always fire together."""


@compiled(parallel=True)
def counts_to_similarity(counts: Array, row_start: int, frequency: Array) -> None:
    """Replace each count of a panel by ``f(i, j)^2 / (f(i) f(j))``, the squared cosine, in 1 / `UNITS`, in place.

    Parameters
    ----------
    counts : ndarray of shape (n_panel, >= n_neurons), int32
        ``counts[i - row_start, j]`` is the count of the neurons of rank i and j, for every j > i. A pair that fires
        together at all keeps a similarity of at least 1.
    row_start : int
        Rank of the panel's first neuron.
    frequency : ndarray of shape (n_neurons,), int64
        By rank; none is 0.
    """
    n_neurons = frequency.size
    for p in prange(min(counts.shape[0], n_neurons - row_start)):
        own = frequency[row_start + p]
        for j in range(row_start + p + 1, n_neurons):
            count = np.int64(counts[p, j])
            if count > 0:
                # Products are whole, so that equal shares are equal numbers.
                counts[p, j] = max(1, int(count * count / (own * frequency[j]) * UNITS))
