"""What the misses of a block cost, row by row, and what each neuron adds to that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    from ripple_place.kernels.read_state import SlotAccesses

    Array = npt.NDArray[Any]


@compiled
def charge_misses(accesses: SlotAccesses, gap: int, run_cost: Array, row_cost: Array, row_reads: Array) -> None:
    """Plan the reads of each row's misses with one gap and charge them by length; caller allocates.

    Parameters
    ----------
    accesses : SlotAccesses
    gap : int
        Up to so many unwanted slots between two wanted ones are read through.
    run_cost : ndarray of shape (n_neurons + 1,), float64
        Cost of a read by its length.
    row_cost : ndarray of shape (n_rows,), float64
        Written: what the reads of each row cost.
    row_reads : ndarray of shape (n_rows,), int64
        Written: their number.
    """
    slots, row_starts, is_hit = accesses
    for row in range(row_starts.size - 1):
        cost, n_reads = 0.0, 0
        first, last = np.int64(0), np.int64(-1)
        for access in range(row_starts[row], row_starts[row + 1]):
            if is_hit[access]:
                continue
            slot = np.int64(slots[access])
            if n_reads == 0 or slot - last - 1 > gap:
                cost += run_cost[last - first + 1]  # of the read before; 0 where there is none
                first = slot
                n_reads += 1
            last = slot
        row_cost[row] = cost + run_cost[last - first + 1]
        row_reads[row] = n_reads


@compiled
def _step(distance: Any, limit: float) -> float:
    """Return what a miss adds to the cost at a distance from the one before."""
    return min(float(distance), limit)


@compiled
def add_read_shares(
    accesses: SlotAccesses, order: Array, is_pinned: Array, break_even_gap: float, share: Array
) -> None:
    """Add to each neuron's `share` what its own accesses add to the cost of the other misses; in place.

    That is, of a neuron that misses, what is saved if it never does; of a pinned one, what it costs if it always does,
    all else being equal: ``m(left) + m(right) - m(left + right)`` with ``m(d) = min(d, break_even_gap + 1)`` and left
    and right the distances of the next misses of the row.

    Parameters
    ----------
    accesses : SlotAccesses
    order : ndarray of shape (n_neurons,), int32
    is_pinned : ndarray of shape (n_neurons,), uint8
        Neurons that are never read; the accesses of others count where they miss.
    break_even_gap : float
    share : ndarray of shape (n_neurons,), float64
    """
    slots, row_starts, is_hit = accesses
    limit = break_even_gap + 1.0
    far = np.int64(1) << 40
    for row in range(row_starts.size - 1):
        start, stop = row_starts[row], row_starts[row + 1]
        left = -far
        following = start
        for access in range(start, stop):
            slot = np.int64(slots[access])
            neuron = order[slot]
            misses = is_hit[access] == 0
            if misses or is_pinned[neuron]:
                following = access + 1 if following <= access else following
                while following < stop and is_hit[following]:
                    following += 1
                right = np.int64(slots[following]) if following < stop else far
                share[neuron] += _step(slot - left, limit) + _step(right - slot, limit) - _step(right - left, limit)
            if misses:
                left = slot
