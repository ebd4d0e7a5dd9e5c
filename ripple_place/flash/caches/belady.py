"""Belady: a miss displaces the neuron that is needed again last of all, unless that is the missed one itself.

No parameters. It knows the future, so that no reader can have it: the bound of all that start empty and have the same
capacity, whatever they admit. (It is one because it may decline to admit [1]_; with admission restricted it is no
more than another policy.) A heap of residents by their next access: O(log capacity) per access.

References
----------
.. [1] Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5 (1966), MIN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.flash.caches.cache import LONE_READS, Accesses, ArrayCache
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.placement import NeuronPlacement

_NEVER_REACHED = -1


def allocate(capacity: int, n_neurons: int) -> tuple[AnyArray, ...]:
    """Return the state of an empty cache.

    Returns
    -------
    tuple of ndarray
        A heap from position 1 on, the latest next access on top: those accesses, below all others where there is
        none, and their neurons; the position of each neuron in it, 0 if it is not resident; residents.
    """
    return (
        np.full(capacity + 2, _NEVER_REACHED, np.int64),
        np.zeros(capacity + 2, np.int32),
        np.zeros(n_neurons, np.int32),
        np.zeros(1, np.int64),
    )


@compiled
def _sift_up(when: Any, who: Any, place: Any, position: int, neuron: int, next_access: int) -> None:
    """Put a neuron where nothing above it is needed earlier, from a free `position` upwards."""
    while position > 1:
        above = position >> 1
        if when[above] > next_access:
            break
        when[position] = when[above]
        who[position] = who[above]
        place[who[above]] = position
        position = above
    when[position] = next_access
    who[position] = neuron
    place[neuron] = position


@compiled
def _sift_down(when: Any, who: Any, place: Any, n_resident: int, neuron: int, next_access: int) -> None:
    """Put a neuron where nothing below it is needed later, from the free top downwards."""
    position = 1
    while 2 * position <= n_resident:
        below = 2 * position
        below += when[below + 1] > when[below]  # no branch: half of the time either is right
        if when[below] < next_access:
            break
        when[position] = when[below]
        who[position] = who[below]
        place[who[below]] = position
        position = below
    when[position] = next_access
    who[position] = neuron
    place[neuron] = position


@compiled
def replay(
    neurons: Any, next_row: Any, slot_of: Any, admitted: Any, is_hit: Any, when: Any, who: Any, place: Any, counts: Any
) -> None:
    """Get, then admit, each neuron in turn; writes `is_hit`, state in place."""
    n_neurons, capacity, n_resident = place.size, when.size - 2, counts[0]
    for access in range(neurons.size):
        neuron = neurons[access]
        next_access = np.int64(next_row[access]) * n_neurons + slot_of[neuron]  # rows are asked for in slot order
        if place[neuron] != 0:
            is_hit[access] = 1
            _sift_up(when, who, place, place[neuron], neuron, next_access)
            continue
        is_hit[access] = 0
        if not admitted[access]:
            continue
        if n_resident < capacity:
            n_resident += 1
            _sift_up(when, who, place, n_resident, neuron, next_access)
        elif next_access < when[1]:
            place[who[1]] = 0
            _sift_down(when, who, place, n_resident, neuron, next_access)
    counts[0] = n_resident


class Belady(ArrayCache):
    """Belady's replacement in a cache of `capacity` neurons, empty at first."""

    policy = "belady"
    needs_future = True

    def __init__(self, capacity: int, placement: NeuronPlacement, reads: ReadCost = LONE_READS) -> None:
        super().__init__(*allocate(capacity, placement.n_neurons))
        self._slot_of = placement.slot_of

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Access neurons in order and write 1 to `is_hit` where one was in DRAM."""
        assert accesses.next_row is not None
        replay(accesses.neurons, accesses.next_row, self._slot_of, accesses.admitted, is_hit, *self._state)
