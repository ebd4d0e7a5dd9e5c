"""Pick the pairs of a panel of counts that come next in the order of descending count and ascending ids.

A pair i < j is a key, ``(top - count) << 2 id_bits | i << id_bits | j``: keys ascend in that order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import prange

from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


@compiled
def _key(neuron: int, other: int, count: int, top: int, id_bits: int) -> int:
    """Return the key of a pair, given in either order."""
    i, j = np.int64(min(neuron, other)), np.int64(max(neuron, other))
    return ((np.int64(top) - np.int64(count)) << (2 * id_bits)) | (i << id_bits) | j  # type: ignore[return-value]


@compiled(parallel=True)
def count_keys(
    counts: Array, row_start: int, neurons: Array, top: int, id_bits: int, first_key: int, last_key: int, found: Array
) -> None:
    """Count the pairs of each row of a panel whose keys lie in a range.

    Parameters
    ----------
    counts : ndarray of shape (n_panel, n_padded), int32
        ``counts[i - row_start, j]`` is the count of the neurons of rank i and j, for every j > i.
    row_start : int
        Rank of the panel's first neuron.
    neurons : ndarray of shape (n_neurons,), int32
        Ids by rank.
    top, id_bits : int
        As for the keys.
    first_key, last_key : int
        The range; both belong to it.
    found : ndarray of shape (n_panel,), int64
        Written.
    """
    most, least = top - (first_key >> (2 * id_bits)), top - (last_key >> (2 * id_bits))
    for p in prange(counts.shape[0]):
        i = row_start + p
        n_between = n_edge = 0
        for j in range(i + 1, neurons.size):
            n_between += (counts[p, j] > least) & (counts[p, j] < most)
            n_edge += (counts[p, j] == least) | (counts[p, j] == most)
        if n_edge > 0:
            for j in range(i + 1, neurons.size):
                if counts[p, j] == least or counts[p, j] == most:
                    key = _key(neurons[i], neurons[j], counts[p, j], top, id_bits)
                    n_between += (key >= first_key) & (key <= last_key)
        found[p] = n_between


@compiled(parallel=True)
def write_keys(
    counts: Array, row_start: int, neurons: Array, top: int, id_bits: int, first_key: int, last_key: int, place: Array,
    keys: Array,
) -> None:  # fmt: skip
    """Write the keys that `count_keys` counts.

    Parameters
    ----------
    counts, row_start, neurons, top, id_bits, first_key, last_key
        As for `count_keys`.
    place : ndarray of shape (n_panel + 1,), int64
        Where the keys of each row begin and end.
    keys : ndarray of int64
        Written from ``place[0]`` to before ``place[-1]``.
    """
    most, least = top - (first_key >> (2 * id_bits)), top - (last_key >> (2 * id_bits))
    for p in prange(counts.shape[0]):
        i = row_start + p
        at = place[p]
        if at < place[p + 1]:
            for j in range(i + 1, neurons.size):
                count = counts[p, j]
                if count >= least and count <= most:
                    key = _key(neurons[i], neurons[j], count, top, id_bits)
                    if key >= first_key and key <= last_key:
                        keys[at] = key
                        at += 1
