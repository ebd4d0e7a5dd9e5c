"""Local search for the order with the least flash time: segments of neurons move to where they cost less.

A token's reads cost ``lambda`` each plus one for every neuron read, gaps included; gaps of up to g = floor(lambda) are
read through. That is the sum, over consecutive active slots, of the *step* ``m(d) = min(d, lambda + 1)`` with d their
distance, the first active slot of a token counting ``lambda + 1``. So only neighbourhoods of g + 1 slots matter, and
the exact change by a move splits into two: what the segment leaves behind closes, and where it goes opens.

A *boundary* lies right of a slot; it is named after the neuron there (``n_neurons``: left of all), so that what is
known of it survives when other slots shift. For each boundary and token, `left` and `right` say how far the next active
slot is, from 1 to `cap` = g + 2, which stands for anything farther. Costs are integers in units of 1 / `SCALE` neurons:
sums do not depend on their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from ripple_place.kernels.bits import trailing_zeros

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

SCALE = 256
"""Cost units per neuron: lambda is resolved to 1/256."""
PROBE_MARGIN = 1.4
"""How much dearer than affordable a place may look after an eighth of its tokens."""


@njit(cache=True, nogil=True)
def gap_cost(order: Array, indptr: Array, tokens: Array, limit: int, last_slot: Array) -> int:
    """Return the cost of an order over all tokens, in cost units.

    Parameters
    ----------
    order : ndarray of shape (n_neurons,), int32
    indptr : ndarray of shape (n_neurons + 1,), int64
    tokens : ndarray of shape (n_active,), int32
        Neuron i fires for ``tokens[indptr[i]:indptr[i + 1]]``.
    limit : int
        (lambda + 1) in cost units.
    last_slot : ndarray of shape (n_tokens,), int64
        Scratch.
    """
    last_slot[:] = -(1 << 40)
    cost = 0
    for slot in range(order.size):
        neuron = order[slot]
        for place in range(indptr[neuron], indptr[neuron + 1]):
            token = tokens[place]
            cost += min((slot - last_slot[token]) * SCALE, limit)
            last_slot[token] = slot
    return cost


@njit(cache=True, nogil=True)
def list_tokens(words: Array, n_neurons: int, indptr: Array, tokens: Array) -> None:
    """Write for which tokens each neuron fires, ascending, to ``tokens[indptr[i]:indptr[i + 1]]``."""
    for neuron in range(n_neurons):
        position = indptr[neuron]
        for w in range(words.shape[1]):
            word = words[neuron, w]
            while word != 0:
                tokens[position] = 64 * w + trailing_zeros(word)
                position += 1
                word &= word - np.uint64(1)


@njit(cache=True, nogil=True)
def _boundary_of(order: Array, slot: int) -> int:
    """Return the name of the boundary right of a slot."""
    return order.size if slot < 0 else order[slot]


@njit(cache=True, nogil=True)
def _step_over(distance: Array, neuron: int, cap: int, indptr: Array, tokens: Array, beyond: Array) -> None:
    """Write to `beyond` the distances one slot further on, over the slot of `neuron`; may be in place."""
    for token in range(distance.size):
        beyond[token] = min(distance[token] + np.uint8(1), np.uint8(cap))
    for position in range(indptr[neuron], indptr[neuron + 1]):
        beyond[tokens[position]] = 1


@njit(cache=True, nogil=True)
def refresh_boundaries(
    order: Array, start: int, end: int, cap: int, indptr: Array, tokens: Array,
    left: Array, right: Array, is_known: Array,
) -> None:  # fmt: skip
    """Bring the distances at the boundaries right of slots start to end - 1 up to date, from those beside them.

    Parameters are those of `search_sweep`; ``start`` may be -1, the boundary left of all.
    """
    n_neurons = order.size
    start, end = max(-1, start), min(n_neurons, end)
    for slot in range(start, end):
        boundary = _boundary_of(order, slot)
        is_known[boundary] = 0
        if slot < 0:
            left[boundary, :] = cap
        else:
            _step_over(left[_boundary_of(order, slot - 1)], order[slot], cap, indptr, tokens, left[boundary])
    for slot in range(end - 1, start - 1, -1):
        boundary = _boundary_of(order, slot)
        if slot == n_neurons - 1:
            right[boundary, :] = cap
        else:
            _step_over(right[order[slot + 1]], order[slot + 1], cap, indptr, tokens, right[boundary])


@njit(cache=True, nogil=True)
def _fill_stretch(left: Array, right: Array, cap: int, step_cost: Array, step_counts: Array, stretch: Array) -> None:
    """Set ``stretch[k]`` to what k slots without active neurons cost at a boundary, over all tokens.

    Only tokens that are active on both sides, not too far, pay for them.
    """
    step_counts[:] = 0
    for token in range(left.size):
        distance = int(left[token]) + int(right[token]) - 1
        if distance < cap:
            step_counts[distance] += 1
    for length in range(1, stretch.size):
        cost = 0
        for distance in range(cap):
            cost += step_counts[distance] * (step_cost[distance + length] - step_cost[distance])
        stretch[length] = cost


@njit(cache=True, nogil=True)
def _without_segment(
    order: Array, target: int, start: int, end: int, cap: int, indptr: Array, tokens: Array,
    left: Array, right: Array, left_here: Array, right_here: Array,
) -> None:  # fmt: skip
    """Write the distances at the boundary right of slot `target` as if slots start to end - 1 were gone."""
    outer_left, outer_right = left[_boundary_of(order, start - 1)], right[order[end - 1]]
    if target < start:
        left_here[:] = left[_boundary_of(order, target)]
        right_here[:] = outer_right
        for slot in range(start - 1, target, -1):
            _step_over(right_here, order[slot], cap, indptr, tokens, right_here)
    else:
        right_here[:] = right[order[target]]
        left_here[:] = outer_left
        for slot in range(end, target + 1):
            _step_over(left_here, order[slot], cap, indptr, tokens, left_here)


@njit(cache=True, nogil=True)
def _collect_segment(
    order: Array, start: int, end: int, indptr: Array, tokens: Array, is_seen: Array,
    touched: Array, before: Array, behind: Array,
) -> int:  # fmt: skip
    """List the tokens for which a segment fires, and the slots before its first and behind its last active one."""
    n_touched = 0
    for slot in range(start, end):
        neuron = order[slot]
        for position in range(indptr[neuron], indptr[neuron + 1]):
            token = tokens[position]
            if is_seen[token] == 0:
                is_seen[token] = 1
                touched[n_touched] = token
                n_touched += 1
                before[token] = slot - start
            behind[token] = end - 1 - slot
    for place in range(n_touched):
        is_seen[touched[place]] = 0
    return n_touched


@njit(cache=True, nogil=True)
def _join_cost(
    touched: Array, n_touched: int, before: Array, behind: Array, length: int, left: Array, right: Array,
    step_cost: Array, base: int, enough: int,
) -> int:  # fmt: skip
    """Return `base` plus what the tokens of a segment cost beyond empty slots, or `enough` if it is no less.

    Tokens come in random order, so the first eighth tells much of the rest: a place that looks `PROBE_MARGIN` times
    too dear by then is given up. What is returned below `enough` is exact.
    """
    cost = base
    probe = n_touched // 8 if n_touched >= 64 else n_touched
    start, end = 0, probe
    while start < n_touched:
        for place in range(start, end):
            token = touched[place]
            to_left, to_right = np.int64(left[token]), np.int64(right[token])
            cost += (
                step_cost[to_left + before[token]]
                + step_cost[to_right + behind[token]]
                - step_cost[to_left + to_right - 1 + length]
            )
        if end < n_touched and (cost - base) * 8 > PROBE_MARGIN * (enough - base):
            return enough
        start, end = end, n_touched
    return min(cost, enough)


@njit(cache=True, nogil=True)
def _move_segment(
    order: Array, slot_of: Array, start: int, end: int, target: int, reverse: bool, segment: Array
) -> int:
    """Move the segment to the boundary right of slot `target`, in place; return the slot where it now starts."""
    length = end - start
    for place in range(length):
        segment[place] = order[end - 1 - place] if reverse else order[start + place]
    if target >= end:
        for slot in range(start, target - length + 1):
            order[slot] = order[slot + length]
        new_start = target - length + 1
    else:
        for slot in range(end - 1, target + length, -1):
            order[slot] = order[slot - length]
        new_start = target + 1
    for place in range(length):
        order[new_start + place] = segment[place]
    for slot in range(min(start, new_start), max(end, new_start + length)):
        slot_of[order[slot]] = slot
    return new_start


@njit(cache=True, nogil=True)
def search_sweep(
    order: Array, slot_of: Array, is_open: Array, neighbors: Array, indptr: Array, tokens: Array,
    cap: int, max_length: int, step_cost: Array,
    left: Array, right: Array, stretch: Array, is_known: Array,
) -> tuple[int, int]:  # fmt: skip
    """Try to move the segments that start at each open neuron next to one of its neighbours, once, in place.

    Parameters
    ----------
    order, slot_of : ndarray of shape (n_neurons,), int32
        The placement and its inverse.
    is_open : ndarray of shape (n_neurons,), uint8
        Don't-look bits, inverted: neurons around which something has changed since they were last tried.
    neighbors : ndarray of shape (n_neurons, n_neighbors), int32
        Candidates to lie beside, best first; -1 ends a row.
    indptr, tokens
        As for `gap_cost`.
    cap : int
        floor(lambda) + 2, at most 255.
    max_length : int
        Longest segment.
    step_cost : ndarray of shape (>= 2 cap + max_length,), int64
        m(d) by distance.
    left, right : ndarray of shape (n_neurons + 1, n_tokens), uint8
        Distances at each boundary, as `refresh_boundaries` leaves them for all slots; kept up to date.
    stretch : ndarray of shape (n_neurons + 1, max_length + 1), int64
        What empty slots cost at each boundary, by their number, where it is known.
    is_known : ndarray of shape (n_neurons + 1,), uint8
        Whether `stretch` is up to date; initially 0.

    Returns
    -------
    n_moves, gain : int
        Moves made, and what they save, exactly, in cost units.
    """
    n_neurons, n_tokens = order.size, left.shape[1]
    segment = np.empty(max_length, np.int32)
    left_here, right_here = np.empty(n_tokens, np.uint8), np.empty(n_tokens, np.uint8)
    stretch_here, step_counts = np.empty(max_length + 1, np.int64), np.empty(2 * cap, np.int64)
    before, behind = np.empty(n_tokens, np.uint8), np.empty(n_tokens, np.uint8)
    is_seen, touched = np.zeros(n_tokens, np.uint8), np.empty(n_tokens, np.int32)
    n_moves = total_gain = 0
    for neuron in range(n_neurons):
        if is_open[neuron] == 0:
            continue
        is_open[neuron] = 0
        for length in range(1, max_length + 1):
            start = slot_of[neuron]
            end = start + length
            if end > n_neurons:
                break
            n_touched = _collect_segment(order, start, end, indptr, tokens, is_seen, touched, before, behind)
            best_target, best_reverse = -2, False
            # What is saved where the segment leaves; a place must cost less.
            best_cost = 0
            for attempt in range(1 + 2 * 2 * neighbors.shape[1]):
                # The first attempt looks at the segment's own place, the others at both sides of its ends' neighbours.
                if attempt == 0:
                    target, near_by = start - 1, True
                else:
                    end_neuron = order[start] if attempt % 2 else order[end - 1]
                    if length == 1 and attempt % 2 == 0:
                        continue
                    candidate = neighbors[end_neuron, (attempt - 1) // 4]
                    if candidate < 0:
                        continue
                    target = slot_of[candidate] - ((attempt - 1) // 2) % 2
                    if start - 1 <= target < end:
                        continue
                    near_by = start - 1 - cap <= target < end + cap
                if near_by:
                    from_left, from_right = left_here, right_here
                    _without_segment(order, target, start, end, cap, indptr, tokens, left, right, from_left, from_right)
                    _fill_stretch(from_left, from_right, cap, step_cost, step_counts, stretch_here)
                    cost = stretch_here[length]
                else:
                    boundary = _boundary_of(order, target)
                    from_left, from_right = left[boundary], right[boundary]
                    if is_known[boundary] == 0:
                        _fill_stretch(from_left, from_right, cap, step_cost, step_counts, stretch[boundary])
                        is_known[boundary] = 1
                    cost = stretch[boundary, length]
                if attempt == 0:
                    best_cost = _join_cost(
                        touched, n_touched, before, behind, length, from_left, from_right, step_cost, cost, 1 << 62
                    )
                    saved = best_cost
                    if saved <= 0:
                        break
                    continue
                for turn in range(2 if length > 1 else 1):
                    first, last = (before, behind) if turn == 0 else (behind, before)
                    if cost >= best_cost:
                        break
                    total = _join_cost(
                        touched, n_touched, first, last, length, from_left, from_right, step_cost, cost, best_cost
                    )
                    if total < best_cost:
                        best_cost, best_target, best_reverse = total, target, turn == 1
            if best_target > -2:
                new_start = _move_segment(order, slot_of, start, end, best_target, best_reverse, segment)
                # Where the segment left, the slots behind it have closed up if it moved forward, and its old place is
                # filled from before if it moved back.
                gap_slot = start if new_start > start else end
                for site_start, site_end in ((gap_slot, gap_slot), (new_start, new_start + length)):
                    refresh_boundaries(
                        order, site_start - cap - 1, site_end + cap + 1, cap, indptr, tokens, left, right, is_known
                    )
                    for slot in range(max(0, site_start - 3), min(n_neurons, site_end + 3)):
                        is_open[order[slot]] = 1
                n_moves += 1
                total_gain += saved - best_cost
                break
    return n_moves, total_gain
