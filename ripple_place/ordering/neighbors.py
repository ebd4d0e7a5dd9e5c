"""Candidate neighbours by similarity: who fires when a neuron does, whatever their rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.kernels import coactivation as kernels
from ripple_place.kernels.similarity import counts_to_similarity

if TYPE_CHECKING:
    import numpy.typing as npt

    from ripple_place.graph.coactivation import NeuronBits

_PANEL_BYTES = 128 * 2**20


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
    From the counts of all pairs; squares of cosines are compared in units of 2**-30. Costs n_neurons^2 / 2 x
    n_rows / 64 popcounts and `_PANEL_BYTES` of memory.
    """
    n_neurons, n_padded = bits.n_neurons, bits.words.shape[0]
    n_neighbors = min(n_neighbors, n_neurons - 1)
    nearest = np.full((n_neurons, n_neighbors), -1, np.int32)
    if n_neighbors == 0:
        return nearest
    frequency = np.zeros(n_padded, np.int64)
    frequency[:n_neurons] = bits.frequency()
    heaps = np.zeros((n_neurons, n_neighbors), np.int64)
    tile = kernels.ROW_MULTIPLE
    n_panel = min(n_padded, max(tile, _PANEL_BYTES // (4 * n_padded) // tile * tile))
    panel = np.empty((n_panel, n_padded), np.int32)
    for start in range(0, n_padded, n_panel):
        end = min(start + n_panel, n_padded)
        kernels.count_panel(bits.words, start, end, panel[: end - start])
        counts_to_similarity(panel[: end - start], start, frequency)
        kernels.update_top_neighbors(panel[: end - start], start, n_neurons, heaps)
    # Keys hold the similarity above, and below it what makes the lower of equal neurons the greater key.
    keys = -np.sort(-heaps, axis=1)
    found = keys > 0
    nearest[found] = (2**32 - 1) - (keys[found] & (2**32 - 1))
    return nearest
