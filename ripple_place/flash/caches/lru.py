"""Least recently used: a miss displaces the neuron whose last access lies furthest back.

No parameters. A doubly linked list over neuron ids, so that an access takes constant time and the state does not grow
with the trace. Hit counts equal those of libCacheSim's LRU (tests/flash/test_caches.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.flash.caches.cache import LONE_READS, Accesses, ArrayCache, CacheKernels
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.placement import NeuronPlacement

_ABSENT = -1
_CAPACITY, _RESIDENT = 0, 1


def allocate(capacity: int, n_neurons: int) -> tuple[AnyArray, ...]:
    """Return the state of an empty cache: links to the newer and the older neighbour, and counts.

    Entry `n_neurons` of the links is the list's anchor: its older neighbour is the newest neuron, its newer
    neighbour the oldest.
    """
    newer = np.full(n_neurons + 1, _ABSENT, np.int32)
    older = np.full(n_neurons + 1, _ABSENT, np.int32)
    newer[n_neurons] = older[n_neurons] = n_neurons
    return newer, older, np.array([capacity, 0], np.int64)


@compiled
def replay(neurons: Any, admitted: Any, is_hit: Any, newer: Any, older: Any, counts: Any) -> None:
    """Get, then admit, each neuron in turn; writes `is_hit`, state in place."""
    # One loop without helpers, counts in local variables: seven times as fast as with a function for an access.
    anchor = newer.size - 1
    capacity, n_resident = counts[_CAPACITY], counts[_RESIDENT]
    for access in range(neurons.size):
        neuron = neurons[access]
        before = older[neuron]
        if before != _ABSENT:
            is_hit[access] = 1
            after = newer[neuron]
            newer[before] = after
            older[after] = before
        else:
            is_hit[access] = 0
            if capacity == 0 or not admitted[access]:
                continue
            if n_resident < capacity:
                n_resident += 1
            else:
                oldest = newer[anchor]
                following = newer[oldest]
                newer[anchor] = following
                older[following] = anchor
                older[oldest] = _ABSENT
        newest = older[anchor]
        newer[neuron] = anchor
        older[neuron] = newest
        newer[newest] = neuron
        older[anchor] = neuron
    counts[_RESIDENT] = n_resident


@compiled
def holds(neuron: int, arguments: Any) -> bool:
    """Return whether a neuron is in DRAM."""
    return arguments[1][neuron] != _ABSENT  # type: ignore[no-any-return]


class Lru(ArrayCache):
    """A least-recently-used cache of `capacity` neurons, empty at first."""

    policy = "lru"
    kernels = CacheKernels(replay, holds)

    def __init__(self, capacity: int, placement: NeuronPlacement, reads: ReadCost = LONE_READS) -> None:
        super().__init__(*allocate(capacity, placement.n_neurons))

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Access neurons in order and write 1 to `is_hit` where one was in DRAM."""
        replay(accesses.neurons, accesses.admitted, is_hit, *self._state)
