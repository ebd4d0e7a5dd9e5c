"""SIEVE: a hand moves from the oldest neuron to the newest and evicts the first not asked for since it last passed.

No parameters. Neurons stay in the order in which they entered; a hit only marks its neuron as visited, the hand clears
the marks that it passes, and starts over at the oldest when it has passed the newest. Hit counts equal those of
libCacheSim's Sieve (tests/flash/test_caches.py).

References
----------
.. [1] Zhang et al., "SIEVE is simpler than LRU", NSDI 2024, algorithm 1.
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

_ABSENT, _UNVISITED, _VISITED = 0, 1, 2
_CAPACITY, _RESIDENT, _HAND = 0, 1, 2


def allocate(capacity: int, n_neurons: int) -> tuple[AnyArray, ...]:
    """Return the state of an empty cache: links to the newer and the older neighbour, marks, counts and the hand.

    Entry `n_neurons` of the links is the list's anchor: its older neighbour is the newest neuron, its newer
    neighbour the oldest. A hand on the anchor stands before the oldest.
    """
    links = np.full(n_neurons + 1, n_neurons, np.int32)
    return links.copy(), links, np.zeros(n_neurons, np.uint8), np.array([capacity, 0, n_neurons], np.int64)


@compiled
def replay(neurons: Any, admitted: Any, is_hit: Any, newer: Any, older: Any, mark: Any, counts: Any) -> None:
    """Get, then admit, each neuron in turn; writes `is_hit`, state in place."""
    anchor = newer.size - 1
    capacity, n_resident, hand = counts[_CAPACITY], counts[_RESIDENT], counts[_HAND]
    for access in range(neurons.size):
        neuron = neurons[access]
        if mark[neuron] != _ABSENT:
            is_hit[access] = 1
            mark[neuron] = _VISITED
            continue
        is_hit[access] = 0
        if capacity == 0 or not admitted[access]:
            continue
        if n_resident < capacity:
            n_resident += 1
        else:
            if hand == anchor:
                hand = newer[anchor]
            while mark[hand] == _VISITED:
                mark[hand] = _UNVISITED
                hand = newer[hand]
                if hand == anchor:
                    hand = newer[anchor]
            mark[hand] = _ABSENT
            following = newer[hand]
            newer[older[hand]] = following
            older[following] = older[hand]
            hand = following
        newest = older[anchor]
        newer[neuron] = anchor
        older[neuron] = newest
        newer[newest] = neuron
        older[anchor] = neuron
        mark[neuron] = _UNVISITED
    counts[_RESIDENT], counts[_HAND] = n_resident, hand


@compiled
def holds(neuron: int, arguments: Any) -> bool:
    """Return whether a neuron is in DRAM."""
    return arguments[2][neuron] != _ABSENT  # type: ignore[no-any-return]


class Sieve(ArrayCache):
    """A SIEVE cache of `capacity` neurons, empty at first."""

    policy = "sieve"
    kernels = CacheKernels(replay, holds)

    def __init__(self, capacity: int, placement: NeuronPlacement, reads: ReadCost = LONE_READS) -> None:
        super().__init__(*allocate(capacity, placement.n_neurons))

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Access neurons in order and write 1 to `is_hit` where one was in DRAM."""
        replay(accesses.neurons, accesses.admitted, is_hit, *self._state)
