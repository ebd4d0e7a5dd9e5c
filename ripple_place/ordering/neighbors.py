"""Candidate neighbours by similarity: who fires when a neuron does, whatever their rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from ripple_place.graph.coactivation import NeuronBits

_ROWS_AT_A_TIME = 512


def nearest_by_cosine(bits: NeuronBits, n_neighbors: int) -> npt.NDArray[np.int32]:
    """Return each neuron's most similar neurons by ``f(i, j) / sqrt(f(i) f(j))``.

    Raw counts would point all neurons to the hottest ones, which have room beside two neighbours only.

    Parameters
    ----------
    bits : NeuronBits
    n_neighbors : int

    Returns
    -------
    ndarray of shape (n_neurons, n_neighbors), int32
        Best first, ties by lowest neuron; -1 where a neuron fires together with fewer.

    Notes
    -----
    Exact, from the counts of all pairs: 4 n_neurons^2 bytes.
    """
    n_neurons = bits.n_neurons
    n_neighbors = min(n_neighbors, n_neurons - 1)
    counts = bits.dense_counts()[:n_neurons, :n_neurons]
    scale = 1 / np.sqrt(np.maximum(bits.frequency(), 1))
    everyone = np.arange(n_neurons)
    nearest = np.full((n_neurons, n_neighbors), -1, np.int32)
    if n_neighbors == 0:
        return nearest
    for start in range(0, n_neurons, _ROWS_AT_A_TIME):
        rows = everyone[start : start + _ROWS_AT_A_TIME]
        # Counts stand above the diagonal only.
        together = np.where(everyone > rows[:, None], counts[rows], counts[:, rows].T)
        cosine = together * scale[rows, None] * scale
        cosine[np.arange(rows.size), rows] = 0
        # A stable sort of the few that are at least as good as the n-th breaks ties by the lowest neuron.
        threshold = np.partition(cosine, n_neurons - n_neighbors, axis=1)[:, n_neurons - n_neighbors]
        for row, neuron in enumerate(rows):
            candidates = np.flatnonzero((cosine[row] >= threshold[row]) & (cosine[row] > 0))
            best = candidates[np.argsort(-cosine[row, candidates], kind="stable")][:n_neighbors]
            nearest[neuron, : best.size] = best
    return nearest
