"""The neighbour graph of a block: the largest of its co-firing counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.graph.pair_panels import PANEL_BYTES, PairPanels
from ripple_place.kernels import top_neighbors

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from ripple_place.graph.neuron_bits import NeuronBits


def neighbor_graph(bits: NeuronBits, n_neighbors: int, panel_bytes: int = PANEL_BYTES) -> csr_array:
    """Return the co-activation graph that keeps each neuron's most frequent companions.

    Parameters
    ----------
    bits : NeuronBits
    n_neighbors : int
        K: neurons i and j are neighbours if j is among the K that fire most often with i, or i among those of j;
        of equal counts the lower neuron is kept. Pairs that never fire together are no neighbours.
    panel_bytes : int
        Memory for counts. Blocks whose counts do not fit are counted panel by panel.

    Returns
    -------
    csr_array of shape (n_neurons, n_neurons), int32
        Symmetric; entry (i, j) is f(i, j); sorted indices, empty diagonal.

    Notes
    -----
    All pairs are counted exactly: at most n^2 / 2 x n_rows / 64 popcounts, see `PairPanels`. The result is the same
    whatever `panel_bytes` and the number of threads.
    """
    from scipy.sparse import csr_array

    n_neurons = bits.n_neurons
    n_neighbors = max(1, min(n_neighbors, n_neurons - 1))
    pairs = PairPanels(bits)
    heaps = np.zeros((pairs.neurons.size, n_neighbors), np.int64)
    for start, panel in pairs.panels(panel_bytes):
        top_neighbors.update_top_neighbors(panel, start, pairs.neurons, heaps)
    rank_of = np.zeros(n_neurons, np.int32)
    rank_of[pairs.neurons] = np.arange(pairs.neurons.size, dtype=np.int32)
    degree = np.zeros(n_neurons, np.int64)
    companions = top_neighbors.Companions(heaps, pairs.neurons, rank_of)
    top_neighbors.count_edges(companions, degree)
    indptr = np.concatenate(([0], np.cumsum(degree)))
    indices, counts = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.int32)
    top_neighbors.fill_edges(
        companions, indptr[:-1].copy(), indptr[:-1].copy(), np.empty(indptr[-1], np.int64), indices, counts
    )
    return csr_array((counts, indices, indptr), shape=(n_neurons, n_neurons))
