"""From co-activation counts to similarities that do not depend on how often neurons fire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit, prange

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

UNITS = 2**30
"""Similarity of neurons that always fire together."""


@njit(cache=True, parallel=True, nogil=True)
def counts_to_similarity(counts: Array, row_start: int, frequency: Array) -> None:
    """Replace each count of a panel by ``f(i, j)^2 / (f(i) f(j))``, the squared cosine, in 1 / `UNITS`, in place.

    Parameters
    ----------
    counts : ndarray of shape (n_panel, n_padded), int32
        As `ripple_place.kernels.coactivation.count_panel` leaves it: above the diagonal. A pair that fires together at
        all keeps a similarity of at least 1.
    row_start : int
    frequency : ndarray of shape (n_padded,), int64
    """
    for p in prange(counts.shape[0]):
        own = frequency[row_start + p]
        for j in range(row_start + p + 1, counts.shape[1]):
            count = counts[p, j]
            if count > 0:
                # Products are whole, so that equal shares are equal numbers.
                square, product = np.int64(count) * np.int64(count), own * frequency[j]
                counts[p, j] = max(1, int(square / product * UNITS))
