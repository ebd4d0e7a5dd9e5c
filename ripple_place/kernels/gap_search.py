"""Local search for the order with the least flash time, with exact changes: segments move, stretches turn round.

Neurons stand in a queue. For each, the segments that start at it are tried beside the neighbours of their ends, in the
orientation that brings the two together, and the stretches whose reversal brings it beside a neighbour. Of the first
kind that saves anything, the best move is made, and what lies around its junctions is queued again. A *kick* swaps two
short stretches whatever that costs, lets the search repair it, and takes all of it back if the result is worse:
iterated local search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ripple_place.kernels.compiled import compiled
from ripple_place.kernels.gap_state import (
    GapState,
    clear_segment,
    collect_segment,
    insertion_units,
    junction_saved,
    left_row,
    move_segment,
    pair_units,
    refresh,
    reverse_stretch,
    right_row,
    rows_without,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

PROBE_MARGINS = (0.15, 0.05)
"""A place that looks worse by this share of what is at stake, after a look at some of the tokens, is given up."""
_AROUND = 2
"""Slots on either side of a junction whose neurons are tried again."""
_MOVED, _REVERSED = 1, 2


class Moves(NamedTuple):
    """The queue, and a log of moves that can be undone.

    Attributes
    ----------
    queue : ndarray of shape (n_neurons,), int32
        A ring of neurons to look at.
    span : ndarray of shape (2,), int64
        How many neurons have left the queue, and how many have entered it.
    is_queued : ndarray of shape (n_neurons,), uint8
    log : ndarray of shape (n_log, 5), int64
        Kind; start, end, position and orientation of a segment's move, or the positions of a reversal.
    n_logged : ndarray of shape (1,), int64
        Moves logged, or more than the log holds.
    scratch : ndarray of shape (2, n_scratch), int32
        For the longest segment that moves.
    """

    queue: Any
    span: Any
    is_queued: Any
    log: Any
    n_logged: Any
    scratch: Any


@compiled
def _queue_around(state: GapState, moves: Moves, first: int, last: int) -> None:
    """Queue the neurons between two positions and `_AROUND` slots beside them."""
    for slot in range(max(0, first - _AROUND), min(state.order.size, last + _AROUND)):
        neuron = state.order[slot]
        if moves.is_queued[neuron] == 0:
            moves.is_queued[neuron] = 1
            moves.queue[moves.span[1] % moves.queue.size] = neuron
            moves.span[1] += 1


@compiled
def _log(moves: Moves, kind: int, start: int, end: int, position: int, is_reversed: bool) -> None:
    place = moves.n_logged[0]
    moves.n_logged[0] += 1
    if place < moves.log.shape[0]:
        entry = moves.log[place]
        entry[0], entry[1], entry[2], entry[3], entry[4] = kind, start, end, position, is_reversed


@compiled
def _put_segment(state: GapState, moves: Moves, start: int, end: int, position: int, is_reversed: bool) -> None:
    """Move a segment, log it, and queue what lies around its old and new place."""
    new_start = move_segment(state, start, end, position, is_reversed, moves.scratch)
    length, old = end - start, start if position > end else end
    refresh(state, new_start, new_start + length)
    refresh(state, old, old)
    _log(moves, _MOVED, start, end, position, is_reversed)
    _queue_around(state, moves, old, old)
    if length <= 2 * _AROUND:
        _queue_around(state, moves, new_start, new_start + length)
    else:
        _queue_around(state, moves, new_start, new_start)
        _queue_around(state, moves, new_start + length, new_start + length)


@compiled
def _undo(state: GapState, moves: Moves) -> None:
    """Take back all logged moves."""
    for place in range(moves.n_logged[0] - 1, -1, -1):
        kind, start, end, position, is_reversed = moves.log[place]
        if kind == _MOVED:
            length = end - start
            new_start, back = (position - length, start) if position > end else (position, end)
            move_segment(state, new_start, new_start + length, back, is_reversed == 1, moves.scratch)
            refresh(state, start, end)
            refresh(state, position, position)
        else:
            reverse_stretch(state, start, end)
            refresh(state, start, start)
            refresh(state, end, end)


@compiled
def _stake(state: GapState, start: int, end: int) -> int:
    """Return what the collected segment saves where it lies, beyond what the slots around it would without it."""
    left, right, n_tokens = left_row(state, start), right_row(state, end), state.rows.shape[2]
    in_place = insertion_units(state, left, right, end - start, False, 0, n_tokens)
    return in_place - pair_units(state, left, right, 0, n_tokens)


@compiled
def _move_best_segment(state: GapState, moves: Moves, neighbors: Array, neuron: int, max_length: int) -> int:
    """Move the shortest segment from `neuron` on that lies better elsewhere; return what that saves, 0 if none does."""
    n_neurons, n_tokens = state.order.size, state.rows.shape[2]
    first, second = state.n_probe
    closed_near = np.empty(3, np.int64)
    start = state.slot_of[neuron]
    gain = 0
    for end in range(start + 1, min(start + max_length, n_neurons) + 1):
        length = end - start
        collect_segment(state, start, end)
        stake = _stake(state, start, end)
        best, best_position, best_reversed = stake, -1, False
        for place in range(neighbors.shape[1]):
            for at_end in range(2 if length > 1 else 1):
                candidate = neighbors[state.order[end - 1 if at_end else start], place]
                if candidate < 0 or start <= state.slot_of[candidate] < end:
                    continue
                for behind in range(2):
                    position = state.slot_of[candidate] + behind
                    if start <= position <= end:
                        continue
                    # The segment's start comes to lie behind the candidate, or its end before it; else it is turned.
                    is_reversed = length > 1 and behind == at_end
                    is_near = start - state.cap + 1 < position < end + state.cap - 1
                    if is_near:
                        rows_without(state, position, start, end, True)
                        left, right = state.left_here, state.right_here
                        closed_near[0] = pair_units(state, left, right, 0, first)
                        closed = closed_near
                    else:
                        left, right = left_row(state, position), right_row(state, position)
                        closed = junction_saved(state, position)
                    saved = insertion_units(state, left, right, length, is_reversed, 0, first)
                    if (saved - closed[0]) * n_tokens < (best - PROBE_MARGINS[0] * abs(best)) * first:
                        continue
                    if is_near:
                        rows_without(state, position, start, end, False)
                        closed_near[1] = closed_near[0] + pair_units(state, left, right, first, second)
                        closed_near[2] = closed_near[1] + pair_units(state, left, right, second, n_tokens)
                    saved += insertion_units(state, left, right, length, is_reversed, first, second)
                    if (saved - closed[1]) * n_tokens < (best - PROBE_MARGINS[1] * abs(best)) * second:
                        continue
                    saved += insertion_units(state, left, right, length, is_reversed, second, n_tokens) - closed[2]
                    if saved > best:
                        best, best_position, best_reversed = saved, position, is_reversed
        if best_position >= 0:
            gain = best - stake
            _put_segment(state, moves, start, end, best_position, best_reversed)
            break
    clear_segment(state)
    return gain


@compiled
def _reverse_best_stretch(state: GapState, moves: Moves, neighbors: Array, neuron: int) -> int:
    """Turn round the stretch that brings `neuron` beside a neighbour, if that saves anything; return what."""
    n_tokens, n_probe = state.rows.shape[2], state.n_probe[0]
    best, best_first, best_last = 0, -1, -1
    for behind in range(2):
        here = state.slot_of[neuron] + behind
        for place in range(neighbors.shape[1]):
            candidate = neighbors[neuron, place]
            if candidate < 0:
                break
            there = state.slot_of[candidate] + behind
            # The two junctions of a shorter stretch are not independent.
            if abs(there - here) < state.cap - 1:
                continue
            closed_here, closed_there = junction_saved(state, here), junction_saved(state, there)
            lefts = left_row(state, here), left_row(state, there)
            rights = right_row(state, here), right_row(state, there)
            saved = pair_units(state, lefts[0], lefts[1], 0, n_probe)
            saved += pair_units(state, rights[0], rights[1], 0, n_probe)
            if saved < (1 - PROBE_MARGINS[0]) * (closed_here[0] + closed_there[0]):
                continue
            saved += pair_units(state, lefts[0], lefts[1], n_probe, n_tokens)
            saved += pair_units(state, rights[0], rights[1], n_probe, n_tokens)
            saved -= closed_here[2] + closed_there[2]
            if saved > best:
                best, best_first, best_last = saved, min(here, there), max(here, there)
    if best > 0:
        reverse_stretch(state, best_first, best_last)
        refresh(state, best_first, best_first)
        refresh(state, best_last, best_last)
        _log(moves, _REVERSED, best_first, best_last, 0, False)
        _queue_around(state, moves, best_first, best_first)
        _queue_around(state, moves, best_last, best_last)
    return best


@compiled
def improve(state: GapState, moves: Moves, neighbors: Array, max_length: int, n_steps: int) -> int:
    """Look at up to `n_steps` neurons of the queue and make the moves that save anything, in place.

    Parameters
    ----------
    state : GapState
    moves : Moves
    neighbors : ndarray of shape (n_neurons, n_neighbors), int32
        Candidates to lie beside, best first; -1 ends a row.
    max_length : int
        Longest segment that moves.
    n_steps : int

    Returns
    -------
    int
        What is saved, exactly, in cost units.
    """
    gain = 0
    for _ in range(n_steps):
        if moves.span[0] == moves.span[1]:
            break
        neuron = moves.queue[moves.span[0] % moves.queue.size]
        moves.span[0] += 1
        moves.is_queued[neuron] = 0
        saved = _move_best_segment(state, moves, neighbors, neuron, max_length)
        if saved == 0:
            saved = _reverse_best_stretch(state, moves, neighbors, neuron)
        gain += saved
    return gain


@compiled
def kick(state: GapState, moves: Moves, neighbors: Array, max_length: int, kicks: Array) -> int:
    """Swap two adjacent stretches and repair what that breaks, for each of `kicks`, in place; keep what is no worse.

    Parameters
    ----------
    state, moves, neighbors, max_length
        As for `improve`; the queue is empty.
    kicks : ndarray of shape (n_kicks, 3), int64
        Start of the first stretch, and the lengths of the two; those that do not fit are passed over.

    Returns
    -------
    int
        What is saved, exactly, in cost units; at least 0.
    """
    n_neurons, n_tokens, total = state.order.size, state.rows.shape[2], 0
    for place in range(kicks.shape[0]):
        start = kicks[place, 0]
        end = start + kicks[place, 1]
        position = end + kicks[place, 2]
        if position > n_neurons:
            continue
        collect_segment(state, start, end)
        gain = -_stake(state, start, end)
        rows_without(state, position, start, end, True)
        rows_without(state, position, start, end, False)
        left, right = state.left_here, state.right_here
        gain += insertion_units(state, left, right, end - start, False, 0, n_tokens)
        gain -= pair_units(state, left, right, 0, n_tokens)
        clear_segment(state)
        moves.n_logged[0] = 0
        _put_segment(state, moves, start, end, position, False)
        gain += improve(state, moves, neighbors, max_length, 1 << 62)
        if gain >= 0 or moves.n_logged[0] > moves.log.shape[0]:
            total += gain
        else:
            _undo(state, moves)
    return total
