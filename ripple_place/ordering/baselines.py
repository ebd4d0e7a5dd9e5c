"""Orders that look at no pair of neurons: what every other ordering has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Int32Array = npt.NDArray[np.int32]
    Int64Array = npt.NDArray[np.int64]


def original_order(n_neurons: int) -> Int32Array:
    """Return checkpoint order."""
    return np.arange(n_neurons, dtype=np.int32)


def random_order(n_neurons: int, rng: np.random.Generator) -> Int32Array:
    """Return a random order: what checkpoint order would be worth without its natural locality."""
    return rng.permutation(n_neurons).astype(np.int32)


def frequency_order(frequency: Int64Array) -> Int32Array:
    """Return hot-cold order: descending firing count, ties by lowest neuron.

    References
    ----------
    .. [1] Neuralink-S in arXiv:2410.19274v3, section 6.1; arXiv:2511.18692, section 4.
    """
    return np.argsort(-frequency, kind="stable").astype(np.int32)
