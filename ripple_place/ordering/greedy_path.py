"""Ripple's neuron placement: a greedy Hamiltonian path through the co-activation graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.kernels import path as kernels

if TYPE_CHECKING:
    import numpy.typing as npt
    from scipy.sparse import csr_array

    from ripple_place.graph.coactivation import NeuronBits

    Int32Array = npt.NDArray[np.int32]

DENSE_LIMIT_NEURONS = 8192
"""Up to here all pairs are sorted: 33 million of them, in 512 MiB. Above, only those of the neighbour graph."""

STALE_SHARE = 0.02
"""Share of open neurons that may have a better partner than the graph knows before it is counted again. With 2 % the
reads of the shared traces stay within 0.05 % of the dense result, at two thirds of the time of 0.2 %."""


@dataclass
class PathFragments:
    """The fragments of a path under construction; each neuron is linked to at most two others."""

    degree: npt.NDArray[np.int8]
    root: Int32Array
    links: Int32Array

    @classmethod
    def of_single_neurons(cls, n_neurons: int) -> PathFragments:
        """Return fragments of one neuron each."""
        return cls(
            np.zeros(n_neurons, np.int8), np.arange(n_neurons, dtype=np.int32), np.full((n_neurons, 2), -1, np.int32)
        )

    def link(self, first: Int32Array, second: Int32Array) -> None:
        """Take the edges in the order given, keeping each that leaves every neuron on a path."""
        kernels.link_edges(first, second, self.degree, self.root, self.links)

    def link_while_known(self, graph: csr_array, neurons: Int32Array, n_neighbors: int) -> int:
        """Take the edges of a sparse graph over some neurons until too many may have better ones that it lacks."""
        first, second, counts = _edges_of_graph(graph)
        # A neuron's rarest neighbour may be there for the neighbour's sake: a cutoff too low is only less exact.
        cutoff = np.zeros(self.degree.size, np.int64)
        full = np.diff(graph.indptr) >= min(n_neighbors, neurons.size - 1)
        cutoff[neurons[full]] = [
            np.partition(graph.data[start:end], -n_neighbors)[-n_neighbors] if end - start >= n_neighbors else 0
            for start, end in zip(graph.indptr[:-1][full], graph.indptr[1:][full], strict=True)
        ]
        return int(
            kernels.link_edges_while_known(
                neurons[first],
                neurons[second],
                counts,
                cutoff,
                np.argsort(-cutoff, kind="stable"),
                int(STALE_SHARE * neurons.size),
                int(0.1 * neurons.size),
                self.degree,
                self.root,
                self.links,
            )
        )

    def ends(self) -> Int32Array:
        """Return the neurons that can still be linked, ascending."""
        return np.flatnonzero(self.degree < 2).astype(np.int32)

    def order(self) -> Int32Array:
        """Join what is left by lowest ids, and return the path from its lower end on."""
        kernels.link_remaining(self.degree, self.root, self.links)
        order = np.empty(self.degree.size, np.int32)
        kernels.walk_path(self.links, int(self.ends()[0]), order)
        return order


def greedy_path(
    bits: NeuronBits | None,
    graph: csr_array | None = None,
    *,
    n_neighbors: int = 64,
    dense_limit_neurons: int = DENSE_LIMIT_NEURONS,
) -> Int32Array:
    """Return the order that Ripple's greedy search gives.

    Parameters
    ----------
    bits : NeuronBits or None
        The activations. Without them (a profile of imported counts) fragments of the neighbour graph are joined by
        lowest ids alone.
    graph : csr_array of shape (n_neurons, n_neurons) or None
        The neighbour graph; counted from `bits` where it is needed and not given.
    n_neighbors : int
        K of the neighbour graph.
    dense_limit_neurons : int
        Up to this size all pairs are considered. Above it the edges of the graph come first, while it can be trusted
        to hold the next best one; then a graph of the fragments' ends, and so on until the ends are few enough to
        count all their pairs.

    Returns
    -------
    ndarray of shape (n_neurons,), int32
        ``order[slot] -> neuron``.

    Raises
    ------
    ValueError
        If neither bits nor graph are given.

    Notes
    -----
    Edges are taken by descending co-activation count (ascending distance 1 - P(ij), whose normaliser is the same for
    all pairs) and linked unless a neuron would get a third link or a cycle would close: Kruskal's algorithm for
    paths. Algorithm 1 of [1]_ leaves open what to do with equal distances, neurons that never fire together and the
    path's last neuron; here ties go to the lowest ids, never-firing pairs count as pairs at the largest distance, and
    the walk visits every neuron. A matching heuristic: no constant factor is guaranteed for general distances.
    Time O(n^2) and memory 8 n^2 bytes up to `dense_limit_neurons`; above it, O(E log E) for E edges plus the exact
    counts.

    References
    ----------
    .. [1] T. Wang et al., Neuralink: Fast LLM Inference on Smartphones with Neuron Co-Activation Linking (first
       titled Ripple), arXiv:2410.19274, section 4.3.
    """
    if bits is None:
        if graph is None:
            raise ValueError("greedy_path needs activation bits or a neighbour graph")
        fragments = PathFragments.of_single_neurons(graph.shape[0])
        fragments.link(*_edges_of_graph(graph)[:2])
        return fragments.order()
    fragments = PathFragments.of_single_neurons(bits.n_neurons)
    fires = bits.frequency() > 0
    # The graph that is given is over all neurons; those counted here, over the ends that are left.
    ends = np.arange(bits.n_neurons, dtype=np.int32) if graph is not None else fragments.ends()[fires]
    while ends.size > max(1, dense_limit_neurons):
        graph = neighbor_graph(bits.select(ends), n_neighbors) if graph is None else graph
        if fragments.link_while_known(graph, ends, n_neighbors) == 0:
            return fragments.order()  # No two ends of different fragments ever fire together.
        graph = None
        ends = fragments.ends()[fires[fragments.ends()]]
    if ends.size > 1:
        first, second = _all_edges(bits.select(ends))
        fragments.link(ends[first], ends[second])
    return fragments.order()


def _all_edges(bits: NeuronBits) -> tuple[Int32Array, Int32Array]:
    """Return all pairs that ever fire together, by descending count, then ascending ids."""
    counts = bits.dense_counts()
    sizes = np.zeros(bits.n_rows + 1, np.int64)
    kernels.count_levels(counts, bits.n_neurons, sizes)
    sizes[0] = 0
    position = np.cumsum(sizes[::-1])[::-1] - sizes
    first = np.empty(int(sizes.sum()), np.int32)
    second = np.empty_like(first)
    kernels.sort_pairs(counts, bits.n_neurons, position, first, second)
    return first, second


def _edges_of_graph(graph: csr_array) -> tuple[Int32Array, Int32Array, Int32Array]:
    """Return the edges of a symmetric graph and their counts, by descending count, then ascending ids."""
    edges = graph.tocoo()
    first, second = edges.coords
    upper = first < second
    first, second, counts = first[upper], second[upper], edges.data[upper]
    by_count = np.lexsort((second, first, -counts.astype(np.int64)))
    return first[by_count].astype(np.int32), second[by_count].astype(np.int32), counts[by_count].astype(np.int32)
