"""Ripple's neuron placement: a greedy Hamiltonian path through the co-activation graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import TraceFormatError
from ripple_place.graph.next_pairs import PairOrder, next_pairs
from ripple_place.kernels import path as kernels
from ripple_place.ordering.activity import Ordered

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from ripple_place.arrays import Int8Array, Int32Array, Int64Array
    from ripple_place.graph.neuron_bits import NeuronBits
    from ripple_place.ordering.activity import Activity, OrderingParams


MAX_PAIRS = 2**22
"""Pairs picked at once: 32 MiB, and as much again meanwhile. Faster than twice or four times as many on blocks of
11,008 and 16,384 neurons."""

FIRST_SHARE = 1 / 16
GROWTH = 4
"""The hottest sixteenth of the neurons come first, then four times as many, and so on: pairs of a hot neuron with all
others would fill what is picked at once, when most of them have both their links long before."""


@dataclass
class PathFragments:
    """The fragments of a path under construction; each neuron is linked to at most two others."""

    degree: Int8Array
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

    def link_keys(self, keys: Int64Array, order: PairOrder) -> None:
        """Do the same with edges written as keys."""
        kernels.link_keys(keys, order.id_bits, self.degree, self.root, self.links)

    def ends(self) -> Int32Array:
        """Return the neurons that can still be linked, ascending."""
        return np.flatnonzero(self.degree < 2).astype(np.int32)

    def order(self) -> Int32Array:
        """Join what is left by lowest ids, and return the path from its lower end on."""
        kernels.link_remaining(self.degree, self.root, self.links)
        order = np.empty(self.degree.size, np.int32)
        kernels.walk_path(self.links, int(self.ends()[0]), order)
        return order


def greedy_path(bits: NeuronBits | None, graph: csr_array | None = None, *, max_pairs: int = MAX_PAIRS) -> Int32Array:
    """Return the order that Ripple's greedy search gives.

    Parameters
    ----------
    bits : NeuronBits or None
        The activations: all pairs are considered.
    graph : csr_array of shape (n_neurons, n_neurons) or None
        The neighbour graph, for want of activations (a profile of imported counts): its fragments are joined by lowest
        ids alone. Not looked at where there are bits.
    max_pairs : int
        Pairs held at once; the result does not depend on it.

    Returns
    -------
    ndarray of shape (n_neurons,), int32
        ``order[slot] -> neuron``.

    Raises
    ------
    ValueError
        If neither bits nor graph are given, or the block is too large for `PairOrder`.

    Notes
    -----
    Edges are taken by descending co-activation count (ascending distance 1 - P(ij), whose normaliser is the same for
    all pairs) and linked unless a neuron would get a third link or a cycle would close: Kruskal's algorithm for
    paths. Algorithm 1 of [1]_ leaves open what to do with equal distances, neurons that never fire together and the
    path's last neuron; here ties go to the lowest ids, never-firing pairs count as pairs at the largest distance, and
    the walk visits every neuron. A matching heuristic: no constant factor is guaranteed for general distances.

    Pairs are not held all at once: they are counted again for the neurons that still have a link to give, and the next
    ones in the order are picked. As f(i,j) <= min(f(i), f(j)), the first pairs are those of the hottest neurons alone;
    most of them have both links when the others' turn comes. Time is that of counting all pairs a few times over for
    ever fewer neurons; memory O(max_pairs) and three times the bits.

    References
    ----------
    .. [1] T. Wang et al., Neuralink: Fast LLM Inference on Smartphones with Neuron Co-Activation Linking (first
       titled Ripple), arXiv:2410.19274, section 4.3.
    """
    if bits is None:
        if graph is None:
            raise ValueError("greedy_path needs activation bits or a neighbour graph")
        fragments = PathFragments.of_single_neurons(graph.shape[0])
        fragments.link(*_edges_of_graph(graph))
        return fragments.order()
    fragments = PathFragments.of_single_neurons(bits.n_neurons)
    frequency = bits.frequency()
    order = PairOrder(bits.n_neurons, bits.n_rows)
    first_key, n_hottest = 0, max(2, int(FIRST_SHARE * np.count_nonzero(frequency)))
    while True:
        ends = fragments.ends()
        ends = ends[frequency[ends] > 0]
        hottest, rarer = _split_by_frequency(ends, frequency, n_hottest)
        # Pairs with a rarer neuron come after this key.
        last_key = order.last_key(int(frequency[rarer].max(initial=0)) + 1)
        if first_key <= last_key and hottest.size > 1:
            keys = next_pairs(bits, hottest, frequency, order, first_key, last_key, max_pairs)
            fragments.link_keys(keys, order)
            if keys.size == max_pairs:
                first_key = int(keys[-1]) + 1
                continue
        if rarer.size == 0:
            return fragments.order()
        first_key = max(first_key, last_key + 1)
        n_hottest *= GROWTH


def make(activity: Activity, params: OrderingParams) -> Ordered:
    """Return the greedy path of the rows to search, or of the neighbour graph of imported counts.

    Raises
    ------
    TraceFormatError
        If nothing is known of which neurons fire together.
    """
    if activity.bits is None and (activity.graph is None or activity.graph.nnz == 0):
        raise TraceFormatError(
            "--ordering greedy", found="a profile of firing counts alone",
            expected="one that knows which neurons fire together", remedy="order by frequency, or profile a trace",
        )  # fmt: skip
    return Ordered(greedy_path(activity.bits, activity.graph))


def _split_by_frequency(neurons: Int32Array, frequency: Int64Array, n_hottest: int) -> tuple[Int32Array, Int32Array]:
    """Return the hottest of some neurons, and the others; both ascending."""
    by_frequency = np.argsort(-frequency[neurons], kind="stable")
    return np.sort(neurons[by_frequency[:n_hottest]]), np.sort(neurons[by_frequency[n_hottest:]])


def _edges_of_graph(graph: csr_array) -> tuple[Int32Array, Int32Array]:
    """Return the edges of a symmetric graph, by descending count, then ascending ids."""
    edges = graph.tocoo()
    first, second = edges.coords
    upper = first < second
    first, second, counts = first[upper], second[upper], edges.data[upper]
    by_count = np.lexsort((second, first, -counts.astype(np.int64)))
    return first[by_count].astype(np.int32), second[by_count].astype(np.int32)
