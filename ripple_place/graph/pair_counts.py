"""The neighbour graph of pairs that were counted elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from ripple_place.trace.firing_counts import PairCounts


def graph_of_pairs(n_neurons: int, counted: PairCounts | None, n_neighbors: int) -> csr_array:
    """Return the graph that keeps the most frequent companions of each neuron, of those pairs that are known.

    Parameters
    ----------
    n_neurons : int
    counted : PairCounts or None
        None where no pairs are known: the graph is empty.
    n_neighbors : int
        K, as of `ripple_place.graph.coactivation.neighbor_graph`: neurons are neighbours if either is among the K that
        fire most often with the other; of equal counts the lower neuron is kept.

    Returns
    -------
    csr_array of shape (n_neurons, n_neurons), int32
        Symmetric; entry (i, j) is f(i, j); sorted indices, empty diagonal.
    """
    from scipy.sparse import csr_array

    if counted is None or counted.counts.size == 0:
        return csr_array((n_neurons, n_neurons), dtype=np.int32)
    n_pairs = counted.counts.size
    first, second = np.concatenate([counted.pairs, counted.pairs[:, ::-1]]).T
    pair, counts = np.tile(np.arange(n_pairs), 2), np.tile(counted.counts, 2)
    order = np.lexsort((second, -counts.astype(np.int64), first))
    starts = np.searchsorted(first[order], np.arange(n_neurons))
    rank = np.arange(order.size) - starts[first[order]]
    kept = np.unique(pair[order[rank < n_neighbors]])
    both = np.concatenate([kept, kept + n_pairs])
    graph = csr_array((counts[both].astype(np.int32), (first[both], second[both])), shape=(n_neurons, n_neurons))
    graph.sort_indices()
    return graph
