"""S3-FIFO: a small queue that most neurons leave again, a main queue for those asked for twice, and a ghost.

A miss enters the small queue, or the main queue if the ghost remembers it. What leaves the small queue goes to the
main queue if it was asked for at least twice meanwhile, and to the ghost (which keeps ids only) otherwise. The main
queue gives what was asked for another round, up to three. Until the first eviction, what no longer fits the small
queue enters the main queue.

Parameters, and what the paper leaves open (the ghost's size, the promotion threshold, the filling of an empty cache),
are those of libCacheSim, as is its treatment of tiny caches: nothing is admitted to a small queue of a single
neuron, so that a cache below 20 neurons stays empty (libCacheSim refuses those below 10). Hit counts equal
libCacheSim's (tests/flash/test_caches.py).

References
----------
.. [1] Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023, doi:10.1145/3600006.3613147.
.. [2] libCacheSim, https://github.com/1a1a11a/libCacheSim, `S3FIFO`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    import numpy.typing as npt

    from ripple_place.placement import NeuronPlacement

SMALL_SHARE = 0.1
"""Share of the capacity that is the small queue [1]_."""
GHOST_SHARE = 0.9
"""Neurons that the ghost remembers, as a share of the capacity [2]_."""
MOVE_TO_MAIN_THRESHOLD = 2
"""Accesses in the small queue that earn a place in the main queue [2]_."""
_MAX_ACCESSES = 3  # two bits [1]

_SMALL, _MAIN, _GHOST, _ABSENT = 0, 1, 2, 3
_CAPACITY, _HAS_EVICTED = 3, 4


def allocate(capacity: int, n_neurons: int) -> tuple[npt.NDArray[Any], ...]:
    """Return the state of an empty cache.

    A neuron is in at most one of the three queues. Entry ``n_neurons + queue`` of the links anchors a queue: its
    older neighbour is the queue's newest neuron, its newer neighbour the oldest.

    Returns
    -------
    tuple of ndarray
        Links to the newer and the older neighbour; the queue of each neuron; accesses since it entered; neurons in
        each queue; limits of small, main and ghost, the capacity, and whether anything was evicted yet.
    """
    small = int(capacity * SMALL_SHARE)
    anchors = np.arange(n_neurons + 3, dtype=np.int32)
    return (
        anchors.copy(),
        anchors,
        np.full(n_neurons, _ABSENT, np.uint8),
        np.zeros(n_neurons, np.uint8),
        np.zeros(3, np.int64),
        np.array([small, capacity - small, int(capacity * GHOST_SHARE), capacity, 0], np.int64),
    )


@njit(cache=True, nogil=True)
def _enter(queue: int, neuron: int, newer: Any, older: Any, queue_of: Any, accesses: Any, lengths: Any) -> None:
    """Make `neuron`, which is in no queue, the newest of `queue`."""
    anchor = queue_of.size + queue
    newest = older[anchor]
    newer[neuron] = anchor
    older[neuron] = newest
    newer[newest] = neuron
    older[anchor] = neuron
    queue_of[neuron] = queue
    accesses[neuron] = 0
    lengths[queue] += 1


@njit(cache=True, nogil=True)
def _leave(neuron: int, newer: Any, older: Any, queue_of: Any, lengths: Any) -> None:
    """Take `neuron` out of its queue."""
    newer[older[neuron]] = newer[neuron]
    older[newer[neuron]] = older[neuron]
    lengths[queue_of[neuron]] -= 1
    queue_of[neuron] = _ABSENT


@njit(cache=True, nogil=True)
def _evict(newer: Any, older: Any, queue_of: Any, accesses: Any, lengths: Any, limits: Any) -> None:
    """Evict at most one neuron: one from the small queue unless the main queue is over its limit."""
    limits[_HAS_EVICTED] = 1
    n_neurons = queue_of.size
    if lengths[_MAIN] > limits[_MAIN] or lengths[_SMALL] == 0:
        while lengths[_MAIN] > 0:
            neuron = newer[n_neurons + _MAIN]
            n_accesses = accesses[neuron]
            _leave(neuron, newer, older, queue_of, lengths)
            if n_accesses == 0:
                return
            _enter(_MAIN, neuron, newer, older, queue_of, accesses, lengths)
            accesses[neuron] = n_accesses - 1
        return
    while lengths[_SMALL] > 0:
        neuron = newer[n_neurons + _SMALL]
        n_accesses = accesses[neuron]
        _leave(neuron, newer, older, queue_of, lengths)
        if n_accesses >= MOVE_TO_MAIN_THRESHOLD:
            _enter(_MAIN, neuron, newer, older, queue_of, accesses, lengths)
            continue
        if limits[_GHOST] > 0:
            if lengths[_GHOST] == limits[_GHOST]:
                _leave(newer[n_neurons + _GHOST], newer, older, queue_of, lengths)
            _enter(_GHOST, neuron, newer, older, queue_of, accesses, lengths)
        return


@njit(cache=True, nogil=True)
def replay(
    neurons: Any, is_hit: Any, newer: Any, older: Any, queue_of: Any, accesses: Any, lengths: Any, limits: Any
) -> None:
    """Get, then admit, each neuron in turn; writes `is_hit`, state in place."""
    for access in range(neurons.size):
        neuron = neurons[access]
        queue = queue_of[neuron]
        if queue in (_SMALL, _MAIN):
            is_hit[access] = 1
            accesses[neuron] = min(accesses[neuron] + 1, _MAX_ACCESSES)
            continue
        is_hit[access] = 0
        if queue == _GHOST:
            _leave(neuron, newer, older, queue_of, lengths)
        elif limits[_SMALL] <= 1:
            continue
        while lengths[_SMALL] + lengths[_MAIN] >= limits[_CAPACITY]:
            _evict(newer, older, queue_of, accesses, lengths, limits)
        small_is_full = lengths[_SMALL] >= limits[_SMALL]
        if queue == _GHOST or (small_is_full and limits[_HAS_EVICTED] == 0):
            _enter(_MAIN, neuron, newer, older, queue_of, accesses, lengths)
        else:
            _enter(_SMALL, neuron, newer, older, queue_of, accesses, lengths)


class S3Fifo:
    """An S3-FIFO cache of `capacity` neurons, empty at first."""

    policy = "s3fifo"

    def __init__(self, capacity: int, placement: NeuronPlacement) -> None:
        self._state = allocate(capacity, placement.n_neurons)

    def replay(self, neurons: npt.NDArray[Any], is_hit: npt.NDArray[Any]) -> None:
        """Access `neurons` in order and write 1 to `is_hit` where one was in DRAM."""
        replay(neurons, is_hit, *self._state)
