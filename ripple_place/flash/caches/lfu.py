"""Least frequently used: a miss displaces the neuron with the fewest accesses since it entered.

No parameters; counts are forgotten when a neuron leaves. Of neurons with equal counts the one that has had its count
for longest leaves first. All neurons stand in one list, ascending by count, in which the members of each count follow
each other, so that an access takes constant time [1]_. Hit counts equal those of libCacheSim's LFU
(tests/flash/test_caches.py).

References
----------
.. [1] Shah, Mitra and Matani, "An O(1) algorithm for implementing the LFU cache eviction scheme", 2010,
       arXiv:2110.11602.
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
_CAPACITY, _RESIDENT, _FREE = 0, 1, 2


def allocate(capacity: int, n_neurons: int) -> tuple[AnyArray, ...]:
    """Return the state of an empty cache.

    Entry `n_neurons` of the links is the list's anchor: after it stands the neuron that leaves first.

    Returns
    -------
    tuple of ndarray
        Links to the neurons before and after; the group of each neuron, that of those with the same count; of each
        group the count and the last member; groups that are free; capacity, residents, and free groups.
    """
    links = np.full(n_neurons + 1, n_neurons, np.int32)
    n_groups = max(1, min(capacity, n_neurons))
    return (
        links.copy(),
        links,
        np.full(n_neurons + 1, _ABSENT, np.int32),
        np.zeros(n_groups, np.int64),
        np.zeros(n_groups, np.int32),
        np.arange(n_groups, dtype=np.int32),
        np.array([capacity, 0, n_groups], np.int64),
    )


@compiled
def replay(
    neurons: Any, admitted: Any, is_hit: Any, before: Any, after: Any, group: Any, count: Any, last: Any, free: Any,
    counts: Any,
) -> None:  # fmt: skip
    """Get, then admit, each neuron in turn; writes `is_hit`, state in place."""
    anchor = before.size - 1
    capacity, n_resident, n_free = counts[_CAPACITY], counts[_RESIDENT], counts[_FREE]
    for access in range(neurons.size):
        neuron = neurons[access]
        own = group[neuron]
        if own != _ABSENT:
            is_hit[access] = 1
            new_count = count[own] + 1
            place = last[own]  # the neuron will stand after this one
            target = group[after[place]]
            if target != _ABSENT and count[target] != new_count:
                target = _ABSENT
            if place == neuron:
                place = before[neuron]
                if group[place] == own:
                    last[own] = place
                elif target == _ABSENT:
                    count[own] = new_count  # alone before and after: the group goes with it
                    continue
                else:
                    n_free += 1
                    free[n_free - 1] = own
            before[after[neuron]] = before[neuron]
            after[before[neuron]] = after[neuron]
        else:
            is_hit[access] = 0
            if capacity == 0 or not admitted[access]:
                continue
            if n_resident < capacity:
                n_resident += 1
            else:
                victim = after[anchor]
                after[anchor] = after[victim]
                before[after[victim]] = anchor
                if last[group[victim]] == victim:
                    n_free += 1
                    free[n_free - 1] = group[victim]
                group[victim] = _ABSENT
            new_count = 1
            place = anchor
            target = group[after[anchor]]
            if target != _ABSENT and count[target] != 1:
                target = _ABSENT
        if target == _ABSENT:
            n_free -= 1
            target = free[n_free]
            count[target] = new_count
        else:
            place = last[target]
        last[target] = neuron
        group[neuron] = target
        before[neuron] = place
        after[neuron] = after[place]
        before[after[place]] = neuron
        after[place] = neuron
    counts[_RESIDENT], counts[_FREE] = n_resident, n_free


@compiled
def holds(neuron: int, arguments: Any) -> bool:
    """Return whether a neuron is in DRAM."""
    return arguments[2][neuron] != _ABSENT  # type: ignore[no-any-return]


class Lfu(ArrayCache):
    """A least-frequently-used cache of `capacity` neurons, empty at first."""

    policy = "lfu"
    kernels = CacheKernels(replay, holds)

    def __init__(self, capacity: int, placement: NeuronPlacement, reads: ReadCost = LONE_READS) -> None:
        super().__init__(*allocate(capacity, placement.n_neurons))

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Access neurons in order and write 1 to `is_hit` where one was in DRAM."""
        replay(accesses.neurons, accesses.admitted, is_hit, *self._state)
