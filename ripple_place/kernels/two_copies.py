"""The reads of a token whose neurons lie on flash twice, in two orders: which neurons to read from which copy.

A copy's reads cost lambda each plus one for every neuron read. From one wanted slot to the next, d slots on, that is
``m(d) = d`` where the gap is read through, and ``lambda + 1`` where it is not. So what a neuron adds to its copy's cost
depends on the next ones that are read from that copy, no farther than gap + 1 slots:
``m(left) + m(right) - m(left + right)``.

Which neurons to read from which copy is a covering problem without structure to exploit. The search here starts from
all in the first copy and moves stretches of neurons from one copy to the other, those that follow each other in either,
as long as that saves; changes are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    from ripple_place.kernels.read_state import RowReads, SlotAccesses

LONGEST = 8
"""Neurons that move together at most."""
MAX_PASSES = 3
"""Times that every neuron is tried; on opt-relu one leaves 0.3 % of the cost to be saved, two 0.02 %, three nothing."""
LEAST_SAVING = 1e-9
"""Of a move, above the rounding of sums."""


class TwoCopies(NamedTuple):
    """A token's neurons in both copies, and the one that each is read from; the kernels change it in place.

    Only the first n entries of a row are used, n being the neurons that the token wants.

    Attributes
    ----------
    slots : ndarray of shape (2, n_neurons), int32
        By copy, the slots of the neurons, ascending.
    places : ndarray of shape (2, n_neurons), int32
        Where a copy's neuron stands among the slots of the other: ``places[1, places[0, i]] == i``.
    is_read : ndarray of shape (2, n_neurons), uint8
        1 where the neuron is read from that copy, and each neuron is read from one.
    place_at : ndarray of shape (n_neurons,), int32
        Scratch: all -1, and -1 again afterwards.
    moved : ndarray of shape (LONGEST,), int32
        Scratch.
    """

    slots: Any
    places: Any
    is_read: Any
    place_at: Any
    moved: Any

    @classmethod
    def allocate(cls, n_neurons: int) -> TwoCopies:
        """Return room for a token of a block."""
        slots, places = np.empty((2, 2, n_neurons), np.int32)
        is_read, place_at = np.empty((2, n_neurons), np.uint8), np.full(n_neurons, -1, np.int32)
        return cls(slots, places, is_read, place_at, np.empty(LONGEST, np.int32))


@compiled
def share_of(slots: Any, is_read: Any, n: int, place: int, reach: int, limit: float) -> float:
    """Return what reading a neuron from a copy adds to the cost of the others that are read from it.

    Parameters
    ----------
    slots : ndarray of shape (n,) or longer, int32
        Of the token's neurons in the copy, ascending.
    is_read : ndarray as long as `slots`, uint8
        Which of them are read from this copy; its own entry does not matter.
    n : int
    place : int
        Of the neuron in `slots`.
    reach : int
        Distance up to which two neurons share a read: gap + 1.
    limit : float
        lambda + 1.
    """
    slot = slots[place]
    left, right = reach + 1, reach + 1
    other = place - 1
    while other >= 0 and slot - slots[other] <= reach:
        if is_read[other]:
            left = slot - slots[other]
            break
        other -= 1
    other = place + 1
    while other < n and slots[other] - slot <= reach:
        if is_read[other]:
            right = slots[other] - slot
            break
        other += 1
    share = limit if left > reach else float(left)
    share += limit if right > reach else float(right)
    return share - (limit if left + right > reach else float(left + right))


@compiled
def _move_stretch(
    slots: Any, places: Any, is_read: Any, n: int, source: int, along: int, start: int, reach: int, limit: float,
    moved: Any,
) -> float:  # fmt: skip
    """Move the best stretch of neurons from one copy to the other, if that saves; return the saving.

    Parameters
    ----------
    slots, places, is_read, moved
        Fields of `TwoCopies`.
    n : int
        Neurons that the token wants.
    source : int
        Copy that the neurons are read from.
    along : int
        Copy in which they follow each other; those in between that are read from the other copy already stay so.
    start : int
        Place of the first in that copy.
    reach, limit
        As for `share_of`.
    """
    target = 1 - source
    change, best, n_moved, n_best = 0.0, 0.0, 0, 0
    last, place = slots[along, start], start
    while place < n and slots[along, place] - last <= reach and n_moved < LONGEST:
        last = slots[along, place]
        here = place if along == source else places[along, place]
        if is_read[source, here]:
            there = places[source, here]
            change -= share_of(slots[source], is_read[source], n, here, reach, limit)
            change += share_of(slots[target], is_read[target], n, there, reach, limit)
            is_read[source, here], is_read[target, there] = 0, 1
            moved[n_moved] = here
            n_moved += 1
            if change < best - LEAST_SAVING:
                best, n_best = change, n_moved
        place += 1
    while n_moved > n_best:
        n_moved -= 1
        here = moved[n_moved]
        is_read[source, here], is_read[target, places[source, here]] = 1, 0
    return -best if n_best else 0.0


@compiled
def divide(copies: TwoCopies, n: int, gap: int, break_even_gap: float, max_passes: int) -> float:
    """Divide a token's neurons between two copies, from a given division on, in place; return what that saves.

    Parameters
    ----------
    copies : TwoCopies
        `is_read` is read and written.
    n : int
        Neurons that the token wants.
    gap : int
        Up to so many unwanted slots are read through.
    break_even_gap : float
        lambda.
    max_passes : int
        Times that every neuron is tried at most; fewer where nothing is saved any more.

    Notes
    -----
    The saving is never negative. Each try takes O(LONGEST x active neurons within gap + 1 slots).
    """
    slots, places, is_read, moved = copies.slots, copies.places, copies.is_read, copies.moved
    saved, reach, limit = 0.0, gap + 1, break_even_gap + 1.0
    for _ in range(max_passes):
        before = saved
        for source in range(2):
            # First along the copy to which they move: there they are to be read together.
            for step in range(2):
                along = 1 - source if step == 0 else source
                for start in range(n):
                    here = start if along == source else places[along, start]
                    if is_read[source, here]:
                        saved += _move_stretch(slots, places, is_read, n, source, along, start, reach, limit, moved)
        if saved == before:
            break
    return saved


@compiled
def list_wanted(accesses: SlotAccesses, row: int, second_slot: Any, copies: TwoCopies) -> int:
    """List the missed neurons of a row under both orders; return their number.

    Parameters
    ----------
    accesses : SlotAccesses
    row : int
    second_slot : ndarray of shape (n_neurons,), int32
        Slot in the second copy by slot in the first.
    copies : TwoCopies
        `slots` and `places` are written.
    """
    wanted, places, place_at = copies.slots, copies.places, copies.place_at
    slots, row_starts, is_hit = accesses
    n = 0
    for access in range(row_starts[row], row_starts[row + 1]):
        if not is_hit[access]:
            wanted[0, n] = slots[access]
            wanted[1, n] = second_slot[slots[access]]
            place_at[wanted[1, n]] = n
            n += 1
    wanted[1, :n].sort()
    for place in range(n):
        slot = wanted[1, place]
        places[1, place] = place_at[slot]
        places[0, place_at[slot]] = place
        place_at[slot] = -1
    return n


@compiled
def plan_rows_of_two(
    accesses: SlotAccesses, second_slot: Any, gap: int, break_even_gap: float, max_passes: int, copies: TwoCopies,
    reads: RowReads, from_second: Any,
) -> None:  # fmt: skip
    """Plan the reads of each row's misses from two copies; caller allocates what they are written to.

    Parameters
    ----------
    accesses : SlotAccesses
    second_slot
        As for `list_wanted`.
    gap, break_even_gap, max_passes
        As for `divide`.
    copies : TwoCopies
        Scratch.
    reads : RowReads
        Written. Slot s of the second copy is written as ``n_neurons + s``; in each row, the reads of the first copy
        come first.
    from_second : ndarray of shape (n_accesses,), uint8
        Written: 1 for the misses that are read from the second copy.
    """
    row_starts, is_hit = accesses.row_starts, accesses.is_hit
    first_slot, last_slot, read_starts = reads
    wanted, places, is_read = copies.slots, copies.places, copies.is_read
    n_reads, n_neurons = 0, second_slot.size
    for row in range(row_starts.size - 1):
        read_starts[row] = n_reads
        n = list_wanted(accesses, row, second_slot, copies)
        is_read[0, :n], is_read[1, :n] = 1, 0
        divide(copies, n, gap, break_even_gap, max_passes)
        for copy in range(2):
            last = np.int64(-1)
            for place in range(n):
                if is_read[copy, place]:
                    slot = np.int64(wanted[copy, place])
                    if last < 0 or slot - last - 1 > gap:
                        first_slot[n_reads] = copy * n_neurons + slot
                        n_reads += 1
                    last_slot[n_reads - 1] = copy * n_neurons + slot
                    last = slot
        place = 0
        for access in range(row_starts[row], row_starts[row + 1]):
            from_second[access] = 0
            if not is_hit[access]:
                from_second[access] = is_read[1, places[0, place]]
                place += 1
    read_starts[row_starts.size - 1] = n_reads


@compiled
def mark_short_reads(slots: Any, row_starts: Any, gap: int, most_wanted: int, is_short: Any) -> None:
    """Mark the accesses that share a read with few others, if all are read from one copy; caller allocates.

    Parameters
    ----------
    slots, row_starts
        As from `ripple_place.kernels.reads.slots_in_order`.
    gap : int
        Up to so many unwanted slots are read through.
    most_wanted : int
        Neurons that the token wants of a short read at most.
    is_short : ndarray as long as `slots`, uint8
        Written.
    """
    for row in range(row_starts.size - 1):
        begin = row_starts[row]
        for access in range(row_starts[row], row_starts[row + 1]):
            following = access + 1
            if following == row_starts[row + 1] or slots[following] - slots[access] - 1 > gap:
                is_short[begin:following] = following - begin <= most_wanted
                begin = following
