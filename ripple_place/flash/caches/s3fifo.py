"""S3-FIFO: a small queue that most neurons leave again, a main queue for those asked for twice, and a ghost.

A miss enters the small queue, or the main queue if the ghost remembers it. What leaves the small queue goes to the
main queue if it was asked for at least twice meanwhile, and to the ghost (which keeps ids only) otherwise. The main
queue gives what was asked for another round, up to three. Until the first eviction, what no longer fits the small
queue enters the main queue.

Parameters, and what the paper leaves open (the ghost's size, the promotion threshold, the filling of an empty cache),
are those of libCacheSim, as is its treatment of tiny caches: nothing is admitted to a small queue of a single
neuron, so that a cache below 20 neurons stays empty (libCacheSim refuses those below 10). Hit counts equal
libCacheSim's (tests/flash/test_caches.py).

The queues are rings. A neuron's state is one byte, which says where it is and how often it was asked for; what the
ghost forgets out of turn stays in its ring as a dead entry, told by the stamp of the neuron's last entry there.

References
----------
.. [1] Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023, doi:10.1145/3600006.3613147.
.. [2] libCacheSim, https://github.com/1a1a11a/libCacheSim, `S3FIFO`.
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

SMALL_SHARE = 0.1
"""Share of the capacity that is the small queue [1]_."""
GHOST_SHARE = 0.9
"""Neurons that the ghost remembers, as a share of the capacity [2]_."""
MOVE_TO_MAIN_THRESHOLD = 2
"""Accesses in the small queue that earn a place in the main queue [2]_."""

# States: resident in the small queue with 0 to 3 accesses since it entered (two bits [1]), in the main queue with 0 to
# 3, remembered by the ghost, or unknown.
_SMALL, _MAIN, _GHOST, _ABSENT = 0, 4, 8, 9
_ACCESSES = 3  # the bits that count

# Entries of the ring positions and of the limits.
_SMALL_HEAD, _SMALL_TAIL, _MAIN_HEAD, _MAIN_TAIL, _GHOST_HEAD, _GHOST_TAIL, _REMEMBERED, _HAS_EVICTED = range(8)
_SMALL_LIMIT, _MAIN_LIMIT, _GHOST_LIMIT, _CAPACITY = range(4)


def allocate(capacity: int, n_neurons: int) -> tuple[AnyArray, ...]:
    """Return the state of an empty cache.

    Positions in rings only grow; their low bits say where in the ring. The ghost's ring is longer than it remembers
    neurons by so much that clearing out dead entries costs little per entry.

    Returns
    -------
    tuple of ndarray
        State of each neuron; rings of small and main queue and of the ghost; each neuron's last position in the
        ghost's; heads and tails of the rings, neurons that the ghost remembers, whether anything was evicted yet; and
        limits of small, main and ghost, and the capacity.
    """
    small, ghost = int(capacity * SMALL_SHARE), int(capacity * GHOST_SHARE)
    return (
        np.full(n_neurons, _ABSENT, np.uint8),
        np.empty(_ring_size(capacity), np.int32),
        np.empty(_ring_size(capacity), np.int32),
        np.empty(_ring_size(4 * ghost), np.int32),
        np.zeros(n_neurons, np.int64),
        np.zeros(8, np.int64),
        np.array([small, capacity - small, ghost, capacity], np.int64),
    )


def _ring_size(n_entries: int) -> int:
    """Return the smallest power of two above `n_entries`."""
    return 1 << n_entries.bit_length()


@compiled
def _clear_dead(state: Any, ghost_ring: Any, stamp: Any, head: int, tail: int) -> int:
    """Close up what the ghost still remembers towards its head; returns the new tail, in place."""
    mask = ghost_ring.size - 1
    kept = head
    for position in range(head, tail):
        neuron = ghost_ring[position & mask]
        if state[neuron] == _GHOST and stamp[neuron] == position:
            ghost_ring[kept & mask] = neuron
            stamp[neuron] = kept
            kept += 1
    return kept


@compiled
def replay(
    neurons: Any, admitted: Any, is_hit: Any, state: Any, small_ring: Any, main_ring: Any, ghost_ring: Any, stamp: Any,
    positions: Any, limits: Any,
) -> None:  # fmt: skip
    """Get, then admit, each neuron in turn; writes `is_hit`, state in place."""
    small_limit, main_limit, ghost_limit = limits[_SMALL_LIMIT], limits[_MAIN_LIMIT], limits[_GHOST_LIMIT]
    capacity = limits[_CAPACITY]
    # In local variables, which the compiler can keep in registers: five times as fast as in the arrays.
    small_head, small_tail = positions[_SMALL_HEAD], positions[_SMALL_TAIL]
    main_head, main_tail = positions[_MAIN_HEAD], positions[_MAIN_TAIL]
    ghost_head, ghost_tail = positions[_GHOST_HEAD], positions[_GHOST_TAIL]
    n_remembered, has_evicted = positions[_REMEMBERED], positions[_HAS_EVICTED]
    mask, ghost_mask = small_ring.size - 1, ghost_ring.size - 1
    for access in range(neurons.size):
        neuron = neurons[access]
        found = state[neuron]
        if found < _GHOST:
            is_hit[access] = 1
            state[neuron] = found + (found & _ACCESSES != _ACCESSES)
            continue
        is_hit[access] = 0
        if not admitted[access]:
            continue
        if found == _GHOST:
            state[neuron] = _ABSENT
            n_remembered -= 1
        elif small_limit <= 1:
            continue
        # Each round evicts at most one: from the small queue unless the main queue is over its limit.
        while small_tail - small_head + main_tail - main_head >= capacity:
            has_evicted = 1
            if main_tail - main_head > main_limit or small_tail == small_head:
                while main_tail > main_head:
                    oldest = main_ring[main_head & mask]
                    main_head += 1
                    if state[oldest] == _MAIN:
                        state[oldest] = _ABSENT
                        break
                    state[oldest] -= 1
                    main_ring[main_tail & mask] = oldest
                    main_tail += 1
                continue
            while small_tail > small_head:
                oldest = small_ring[small_head & mask]
                small_head += 1
                if state[oldest] >= _SMALL + MOVE_TO_MAIN_THRESHOLD:
                    state[oldest] = _MAIN
                    main_ring[main_tail & mask] = oldest
                    main_tail += 1
                    continue
                if n_remembered == ghost_limit:
                    is_alive = False
                    while not is_alive:
                        forgotten = ghost_ring[ghost_head & ghost_mask]
                        is_alive = state[forgotten] == _GHOST and stamp[forgotten] == ghost_head
                        ghost_head += 1
                    state[forgotten] = _ABSENT
                    n_remembered -= 1
                if ghost_tail - ghost_head == ghost_ring.size:
                    ghost_tail = _clear_dead(state, ghost_ring, stamp, ghost_head, ghost_tail)
                state[oldest] = _GHOST
                ghost_ring[ghost_tail & ghost_mask] = oldest
                stamp[oldest] = ghost_tail
                ghost_tail += 1
                n_remembered += 1
                break
        if found == _GHOST or (has_evicted == 0 and small_tail - small_head >= small_limit):
            state[neuron] = _MAIN
            main_ring[main_tail & mask] = neuron
            main_tail += 1
        else:
            state[neuron] = _SMALL
            small_ring[small_tail & mask] = neuron
            small_tail += 1
    positions[_SMALL_HEAD], positions[_SMALL_TAIL] = small_head, small_tail
    positions[_MAIN_HEAD], positions[_MAIN_TAIL] = main_head, main_tail
    positions[_GHOST_HEAD], positions[_GHOST_TAIL] = ghost_head, ghost_tail
    positions[_REMEMBERED], positions[_HAS_EVICTED] = n_remembered, has_evicted


@compiled
def holds(neuron: int, arguments: Any) -> bool:
    """Return whether a neuron is in DRAM."""
    return arguments[0][neuron] < _GHOST  # type: ignore[no-any-return]


class S3Fifo(ArrayCache):
    """An S3-FIFO cache of `capacity` neurons, empty at first."""

    policy = "s3fifo"
    kernels = CacheKernels(replay, holds)

    def __init__(self, capacity: int, placement: NeuronPlacement, reads: ReadCost = LONE_READS) -> None:
        super().__init__(*allocate(capacity, placement.n_neurons))

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Access neurons in order and write 1 to `is_hit` where one was in DRAM."""
        replay(accesses.neurons, accesses.admitted, is_hit, *self._state)
