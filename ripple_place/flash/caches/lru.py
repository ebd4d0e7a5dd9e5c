"""Least recently used: a miss displaces the neuron whose last access lies furthest back.

No parameters. A doubly linked list over neuron ids, so that an access takes constant time and the state does not grow
with the trace. Hit counts equal those of libCacheSim's LRU (tests/flash/test_caches.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    import numpy.typing as npt

    from ripple_place.placement import NeuronPlacement

_ABSENT = -1
_CAPACITY, _RESIDENT = 0, 1


def allocate(capacity: int, n_neurons: int) -> tuple[npt.NDArray[Any], ...]:
    """Return the state of an empty cache: links to the newer and the older neighbour, and counts.

    Entry `n_neurons` of the links is the list's anchor: its older neighbour is the newest neuron, its newer
    neighbour the oldest.
    """
    newer = np.full(n_neurons + 1, _ABSENT, np.int32)
    older = np.full(n_neurons + 1, _ABSENT, np.int32)
    newer[n_neurons] = older[n_neurons] = n_neurons
    return newer, older, np.array([capacity, 0], np.int64)


@njit(cache=True, nogil=True)
def replay(neurons: Any, is_hit: Any, newer: Any, older: Any, counts: Any) -> None:
    """Get, then admit, each neuron in turn; writes `is_hit`, state in place."""
    anchor = newer.size - 1
    for access in range(neurons.size):
        neuron = neurons[access]
        if older[neuron] != _ABSENT:
            is_hit[access] = 1
            newer[older[neuron]] = newer[neuron]
            older[newer[neuron]] = older[neuron]
        else:
            is_hit[access] = 0
            if counts[_CAPACITY] == 0:
                continue
            if counts[_RESIDENT] == counts[_CAPACITY]:
                oldest = newer[anchor]
                newer[anchor] = newer[oldest]
                older[newer[oldest]] = anchor
                newer[oldest] = older[oldest] = _ABSENT
            else:
                counts[_RESIDENT] += 1
        newest = older[anchor]
        newer[neuron] = anchor
        older[neuron] = newest
        newer[newest] = neuron
        older[anchor] = neuron


class Lru:
    """A least-recently-used cache of `capacity` neurons, empty at first."""

    policy = "lru"

    def __init__(self, capacity: int, placement: NeuronPlacement) -> None:
        self._state = allocate(capacity, placement.n_neurons)

    def replay(self, neurons: npt.NDArray[Any], is_hit: npt.NDArray[Any]) -> None:
        """Access `neurons` in order and write 1 to `is_hit` where one was in DRAM."""
        replay(neurons, is_hit, *self._state)
