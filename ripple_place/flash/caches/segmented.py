"""Segmented: hot rows by cluster, cold ones by neuron, in regions whose sizes follow the batch size.

PowerInfer-2's neuron cache [1]_. (Its third region, attention weights and the KV cache, stays in DRAM and lies outside
of the budget.) With the hot clusters of the present batch size, and C the capacity in neurons:

- The hot region has room for all of them, or C if that is less. What it holds is whole clusters, least recently used
  first out. A hot neuron that misses brings in its cluster: all accesses of that row to it miss, later rows hit. A
  cluster that does not fit at all stays out.
- The cold region has the rest of C, for neurons outside of those clusters: a least-recently-used cache.
- When the batch grows, the hot region takes its room at once: the cold region evicts its least recently used neurons,
  after those that are hot from now on, which are read again with their clusters.
- When it shrinks, clusters that are hot no longer are dropped, and the cold region has their room. (The source drops
  the least active ones first. Which ones stay is the plan's choice here, `HotSegments.n_hot`; all others go at once.)

Hot rows are computed densely, so that all of them are asked for whether they fire or not:
`ripple_place.flash.dense_hot.dense_hot` makes such a trace. On another one, rows of a cluster that nothing asks for
would come in without being read. No published figure says how large the regions are; here the plan says it.

References
----------
.. [1] Xue et al., "PowerInfer-2: Fast Large Language Model Inference on a Smartphone", arXiv:2406.06282, section 4.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ripple_place.flash.caches import lru
from ripple_place.flash.caches.cache import Accesses, ArrayCache
from ripple_place.flash.caches.segments import NEVER_HOT
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray
    from ripple_place.flash.caches.segments import HotSegments
    from ripple_place.placement import NeuronPlacement

_ABSENT = -1
_CAPACITY, _RESIDENT, _ROW = range(3)


class HotState(NamedTuple):
    """The hot region; the kernels change it in place.

    Attributes
    ----------
    newer, older : ndarray of shape (n_clusters + 1,), int32
        Links of clusters as those of neurons in `ripple_place.flash.caches.lru`.
    loaded_in : ndarray of shape (n_clusters,), int64
        Row in which each cluster came in.
    counts : ndarray of shape (3,), int64
        Room and residents in neurons; the present row.
    """

    newer: Any
    older: Any
    loaded_in: Any
    counts: Any


def allocate(n_clusters: int) -> HotState:
    """Return the state of an empty region without room."""
    newer, older, _ = lru.allocate(0, n_clusters)
    return HotState(newer, older, np.zeros(n_clusters, np.int64), np.zeros(3, np.int64))


@compiled
def _unlink(item: int, newer: Any, older: Any) -> None:
    """Take a resident out of its list; in place."""
    newer[older[item]] = newer[item]
    older[newer[item]] = older[item]
    older[item] = _ABSENT


@compiled
def replay_hot(
    neurons: Any, row_starts: Any, admitted: Any, is_hit: Any, cluster_of: Any, sizes: Any, is_hot: Any, state: HotState
) -> None:
    """Get, then admit, the clusters of hot neurons in turn; others are left alone. Writes `is_hit`, state in place."""
    newer, older, loaded_in, counts = state
    anchor = sizes.size
    for i in range(row_starts.size - 1):
        for access in range(row_starts[i], row_starts[i + 1]):
            cluster = cluster_of[neurons[access]]
            if cluster < 0 or not is_hot[cluster]:
                continue
            if older[cluster] != _ABSENT:
                is_hit[access] = loaded_in[cluster] != counts[_ROW]
                if older[anchor] == cluster:
                    continue
                _unlink(cluster, newer, older)
            else:
                is_hit[access] = 0
                if not admitted[access] or sizes[cluster] > counts[_CAPACITY]:
                    continue
                while counts[_RESIDENT] + sizes[cluster] > counts[_CAPACITY]:
                    oldest = newer[anchor]
                    _unlink(oldest, newer, older)
                    counts[_RESIDENT] -= sizes[oldest]
                counts[_RESIDENT] += sizes[cluster]
                loaded_in[cluster] = counts[_ROW]
            newest = older[anchor]
            newer[cluster], older[cluster] = anchor, newest
            newer[newest] = cluster
            older[anchor] = cluster
        counts[_ROW] += 1


@compiled
def resize(
    cluster_of: Any, sizes: Any, is_hot: Any, hot_room: int, cold_room: int, state: HotState, newer: Any, older: Any,
    cold_counts: Any,
) -> None:  # fmt: skip
    """Drop what does not belong to a region any more, then what has no room; state in place."""
    anchor = sizes.size
    cluster = state.newer[anchor]
    while cluster != anchor:
        following = state.newer[cluster]
        if not is_hot[cluster]:
            _unlink(cluster, state.newer, state.older)
            state.counts[_RESIDENT] -= sizes[cluster]
        cluster = following
    state.counts[_CAPACITY] = hot_room
    anchor = newer.size - 1
    neuron = newer[anchor]
    while neuron != anchor:
        following = newer[neuron]
        if cluster_of[neuron] >= 0 and is_hot[cluster_of[neuron]]:
            _unlink(neuron, newer, older)
            cold_counts[_RESIDENT] -= 1
        neuron = following
    while cold_counts[_RESIDENT] > cold_room:
        _unlink(newer[anchor], newer, older)
        cold_counts[_RESIDENT] -= 1
    cold_counts[_CAPACITY] = cold_room


class Segmented(ArrayCache):
    """A cache of `capacity` neurons in a hot and a cold region, empty at first, for the smallest planned batch size.

    Parameters
    ----------
    capacity : int
    placement : NeuronPlacement
        Of the pool; its neurons from those of `segments` on are never hot.
    segments : HotSegments
    """

    policy = "segmented"

    def __init__(self, capacity: int, placement: NeuronPlacement, segments: HotSegments) -> None:
        n_idle = placement.n_neurons - segments.cluster.size
        self._capacity, self._segments = capacity, segments
        self._cluster_of = np.append(segments.cluster, np.full(n_idle, NEVER_HOT)).astype(np.int32)
        self._sizes = segments.cluster_sizes
        super().__init__(*allocate(self._sizes.size), *lru.allocate(0, placement.n_neurons))
        self.set_batch(min(segments.n_hot))

    def set_batch(self, batch: int) -> None:
        """Serve so many sequences from now on: sizes of the regions follow, and what has no room is dropped."""
        self._batch = batch
        self._is_hot = self._segments.hot_clusters(batch)
        hot_room = min(self._capacity, int(self._sizes[self._is_hot].sum()))
        resize(
            self._cluster_of, self._sizes, self._is_hot, hot_room, self._capacity - hot_room,
            HotState(*self._state[:4]), *self._state[4:],
        )  # fmt: skip

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Access neurons in order and write 1 to `is_hit` where one was in DRAM."""
        neurons, admitted = accesses.neurons, accesses.admitted
        replay_hot(
            neurons, accesses.row_starts, admitted, is_hit, self._cluster_of, self._sizes, self._is_hot,
            HotState(*self._state[:4]),
        )  # fmt: skip
        # The regions do not touch each other while the batch stays.
        others = np.flatnonzero(~np.append(self._is_hot, False)[self._cluster_of[neurons]])
        is_other_hit = np.empty(others.size, np.uint8)
        lru.replay(neurons[others], admitted[others], is_other_hit, *self._state[4:])
        is_hit[others] = is_other_hit

    def reset(self) -> None:
        """Empty both regions; the batch size stays."""
        super().reset()
        self.set_batch(self._batch)
