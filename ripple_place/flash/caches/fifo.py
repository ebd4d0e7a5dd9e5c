"""First in, first out: a miss displaces the neuron that entered first, however often it was asked for since.

No parameters. A ring of neuron ids. Hit counts equal those of libCacheSim's FIFO (tests/flash/test_caches.py).
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

_RESIDENT, _OLDEST = 0, 1


def allocate(capacity: int, n_neurons: int) -> tuple[AnyArray, ...]:
    """Return the state of an empty cache: who is resident, the ring, and counts."""
    return np.zeros(n_neurons, np.uint8), np.empty(capacity, np.int32), np.zeros(2, np.int64)


@compiled
def replay(neurons: Any, admitted: Any, is_hit: Any, is_resident: Any, ring: Any, counts: Any) -> None:
    """Get, then admit, each neuron in turn; writes `is_hit`, state in place."""
    n_resident, oldest, capacity = counts[_RESIDENT], counts[_OLDEST], ring.size
    for access in range(neurons.size):
        neuron = neurons[access]
        is_hit[access] = is_resident[neuron]
        if is_resident[neuron] or capacity == 0 or not admitted[access]:
            continue
        if n_resident < capacity:
            ring[n_resident] = neuron
            n_resident += 1
        else:
            is_resident[ring[oldest]] = 0
            ring[oldest] = neuron
            oldest = 0 if oldest == capacity - 1 else oldest + 1
        is_resident[neuron] = 1
    counts[_RESIDENT], counts[_OLDEST] = n_resident, oldest


@compiled
def holds(neuron: int, arguments: Any) -> bool:
    """Return whether a neuron is in DRAM."""
    return arguments[0][neuron] != 0  # type: ignore[no-any-return]


class Fifo(ArrayCache):
    """A first-in-first-out cache of `capacity` neurons, empty at first."""

    policy = "fifo"
    kernels = CacheKernels(replay, holds)

    def __init__(self, capacity: int, placement: NeuronPlacement, reads: ReadCost = LONE_READS) -> None:
        super().__init__(*allocate(capacity, placement.n_neurons))

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Access neurons in order and write 1 to `is_hit` where one was in DRAM."""
        replay(accesses.neurons, accesses.admitted, is_hit, *self._state)
