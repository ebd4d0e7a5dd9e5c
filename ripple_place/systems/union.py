"""How often a neuron is needed by a batch: by any of several sequences that run together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array


def union_frequency(frequency: Float64Array, batch_size: int) -> Float64Array:
    """Return the share of steps in which each neuron is needed by at least one of `batch_size` sequences.

    Parameters
    ----------
    frequency : ndarray of shape (n_neurons,), float64
        Share of single tokens for which each fires.
    batch_size : int

    Notes
    -----
    ``1 - (1 - f)^B``: sequences of a batch are taken to be independent of each other. Where they share a prompt, fewer
    neurons are needed: this is the most that a batch asks for on average.

    >>> union_frequency(np.array([0.0, 0.5, 1.0]), 2).tolist()
    [0.0, 0.75, 1.0]
    """
    return np.asarray(1.0 - (1.0 - frequency) ** batch_size)
