"""Pinned and LRU: the hottest neurons stay in DRAM, and what room is left is a least-recently-used cache.

The hot part is the placement's own `pinned` where it has one, else half of the capacity: the neurons that fired most
often in the profile. PowerInfer-2 divides its neuron cache in the same way, hot neurons by the profile and the cold
ones by LRU [1]_, with a split that follows the batch size; half is our choice, no published figure
(docs/caches.md has what other splits gave).

References
----------
.. [1] Xue et al., "PowerInfer-2: Fast Large Language Model Inference on a Smartphone", arXiv:2406.06282, section 4.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.flash.caches import lru
from ripple_place.flash.caches.cache import LONE_READS, Accesses, ArrayCache, CacheKernels
from ripple_place.flash.caches.pinned import pinned_set
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray, Int32Array
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.placement import NeuronPlacement

PINNED_SHARE = 0.5
"""Of the capacity, where the placement pins nothing itself."""


def allocate(capacity: int, n_neurons: int, pinned: Int32Array) -> tuple[AnyArray, ...]:
    """Return the state of the cache before the first access: 1 for each pinned neuron, and an empty LRU's."""
    is_pinned = np.zeros(n_neurons, np.uint8)
    is_pinned[pinned] = 1
    return (is_pinned, *lru.allocate(capacity - pinned.size, n_neurons))


@compiled
def replay(
    neurons: Any, admitted: Any, is_hit: Any, is_pinned: Any, newer: Any, older: Any, counts: Any
) -> None:  # fmt: skip
    """Get, then admit, each neuron that is not pinned, in the rest; writes `is_hit`, state in place."""
    is_hit[:] = is_pinned[neurons]
    others = np.flatnonzero(is_hit == 0)
    is_other_hit = np.empty(others.size, np.uint8)
    lru.replay(neurons[others], admitted[others], is_other_hit, newer, older, counts)
    is_hit[others] = is_other_hit


@compiled
def holds(neuron: int, arguments: Any) -> bool:
    """Return whether a neuron is in DRAM."""
    return arguments[0][neuron] != 0 or lru.holds(neuron, arguments[1:])


class PinnedLru(ArrayCache):
    """A cache of `capacity` neurons, some of them for good.

    Raises
    ------
    UsageError
        As for `ripple_place.flash.caches.pinned.pinned_set`.
    """

    policy = "pinned+lru"
    kernels = CacheKernels(replay, holds)

    def __init__(self, capacity: int, placement: NeuronPlacement, reads: ReadCost = LONE_READS) -> None:
        pinned = pinned_set(self.policy, placement, capacity, int(PINNED_SHARE * capacity))
        super().__init__(*allocate(capacity, placement.n_neurons, pinned))

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Access neurons in order and write 1 to `is_hit` where one was in DRAM."""
        replay(accesses.neurons, accesses.admitted, is_hit, *self._state)
