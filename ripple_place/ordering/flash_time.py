"""Placement by flash time itself: local search on the gap-aware cost of the trace's own tokens."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.read_cost import ReadCost
from ripple_place.kernels import gap_search
from ripple_place.kernels.gap_state import SCALE, GapState, refresh
from ripple_place.ordering.activity import Ordered
from ripple_place.ordering.flash_cost import FlashCost
from ripple_place.ordering.frequency import frequency_order
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.neighbors import nearest_by_cosine
from ripple_place.ordering.original import original_order
from ripple_place.placement import slots_of
from ripple_place.trace.activation_trace import BlockTrace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from ripple_place.arrays import Int32Array
    from ripple_place.ordering.activity import Activity, OrderingParams, Pulse
    from ripple_place.trace.split_block import SplitBlock


MAX_BREAK_EVEN_GAP = 250.0
"""Distances are kept in bytes: beyond this lambda, moves go by this one; orders are judged by the true one."""
_TOKEN_MULTIPLE = 64
_STEPS_AT_A_TIME = 512
_LOG_LENGTH = 4096


@dataclass(frozen=True)
class FlashTimeParams:
    """How to search.

    Parameters
    ----------
    cost : ReadCost
        What reads cost. Orders are judged by it; single moves go by its lambda, also where its unit is time.
    effort : int
        Rounds of kicks, each of ``n_neurons / neurons_per_kick``, after the first descent; the time grows with it.
    n_neighbors : int
        Neighbours beside which a segment is tried.
    max_length : int
        Longest segment that is moved.
    kick_length : int
        Longest stretch that a kick swaps.
    neurons_per_kick : int
    max_tokens : int
        Search on so many tokens at most, drawn at random; costs are reported on all.

    Raises
    ------
    UsageError
        If a number is out of range.
    """

    cost: ReadCost
    effort: int = 10
    n_neighbors: int = 8
    max_length: int = 4
    kick_length: int = 8
    neurons_per_kick: int = 32
    max_tokens: int = 16384

    def __post_init__(self) -> None:
        positive = min(self.max_length, self.kick_length, self.neurons_per_kick, self.max_tokens)
        if self.effort < 0 or positive < 1:
            raise UsageError(
                "flash-time", found=f"effort {self.effort}, or a limit below 1",
                expected="an effort of at least 0, and limits of at least 1",
                remedy="correct the number",
            )  # fmt: skip


@dataclass(frozen=True, eq=False)
class FlashTimeResult:
    """What the search found.

    Attributes
    ----------
    order : ndarray of shape (n_neurons,), int32
    chosen : str
        ``flash-time``, or the name of the start that serves the held-out tokens better.
    cost, held_out : mapping of str to float
        Of each start and of ``flash-time``: flash time per token, on the tokens that were searched and on those held
        out (NaN where there are none), in the unit of `FlashTimeParams.cost`.
    reads : mapping of str to float
        Reads per token on the tokens that were searched.
    is_complete : bool
        Whether the effort was spent; False if the search was told to stop.
    """

    order: Int32Array
    chosen: str
    cost: Mapping[str, float]
    held_out: Mapping[str, float]
    reads: Mapping[str, float]
    is_complete: bool


def flash_time_order(
    rows: SplitBlock,
    starts: Mapping[str, Int32Array],
    params: FlashTimeParams,
    rng: np.random.Generator,
    pulse: Pulse | None = None,
    counting: AbstractContextManager[object] = nullcontext(),  # noqa: B008  (it has no state)
) -> FlashTimeResult:
    """Return an order of low flash time.

    Parameters
    ----------
    rows : SplitBlock
        The rows searched are those whose cost is lowered. The rows held out decide whether the gain is real: if a start
        is better on them, it is returned.
    starts : mapping of str to ndarray of shape (n_neurons,), int32
        Orders by name; the search begins at the cheapest.
    params : FlashTimeParams
    rng : numpy.random.Generator
        Shuffles the tokens, so that the first of them stand for all, and places the kicks.
    pulse : Pulse, optional
        Told now and then how far the search has come; may stop it, which keeps the best order so far.
    counting : context manager
        Entered while kernels run on all threads; the search itself runs on one and lets go of the interpreter.

    Notes
    -----
    Starting from the cheapest order, segments of up to `max_length` neurons move next to a neighbour by cosine
    similarity, and stretches are reversed, wherever that lowers the cost; changes are exact
    (`ripple_place.kernels.gap_search`). From the local optimum, random swaps of short stretches are repaired in the
    same way and kept unless they cost more: iterated local search, no guarantee. Never costlier than the cheapest start
    on the tokens that were searched, by the line of `params`. Deterministic under `rng` unless stopped by `pulse`.
    Memory: 2 n_neurons bytes for each token searched.
    """
    searched = rows.searched
    sample = BlockTrace(
        searched.n_neurons, np.asarray(searched.active)[rng.permutation(searched.n_rows)[: params.max_tokens]]
    )
    with counting:
        cost = FlashCost(searched, params.cost)
        unseen = None if rows.held_out is None else FlashCost(rows.held_out, params.cost)
        line = FlashCost(sample, ReadCost.by_line(min(params.cost.break_even_gap, MAX_BREAK_EVEN_GAP)))
        neighbors = nearest_by_cosine(line.bits, params.n_neighbors)
    orders = dict(starts)
    best_start = min(orders, key=lambda name: (line(orders[name]), name))
    order, is_complete = orders[best_start], True
    if sample.n_rows and order.size > 1:
        order, is_complete = _search(order, line, neighbors, params, rng, pulse or (lambda *_: True))
    orders["flash-time"] = order
    costs = {name: cost(orders[name]) for name in orders}
    unseen_costs = {name: math.nan if unseen is None else unseen(orders[name]) for name in orders}
    judge = unseen_costs if rows.has_held_out else costs
    chosen = min(orders, key=lambda name: (judge[name], name != "flash-time", name)) if searched.n_rows else best_start
    reads = {name: cost.reads(orders[name]) for name in orders}
    return FlashTimeResult(orders[chosen], chosen, costs, unseen_costs, reads, is_complete)


def make(activity: Activity, params: OrderingParams) -> Ordered:
    """Search from the cheapest of the starts, by default of greedy, hot-cold and checkpoint order.

    Raises
    ------
    UsageError
        If nothing says what a read costs, or there are no rows to search on.
    """
    if params.cost is None or activity.rows is None:
        raise UsageError(
            "flash-time", found="no rows to search on" if params.cost else "nothing that says what a read costs",
            expected="activations, and a device with a bundle size or a break-even gap",
            remedy="give them, or order by the greedy path",
        )  # fmt: skip
    starts = activity.starts or {
        "greedy": greedy_path(activity.bits),
        "frequency": frequency_order(activity.frequency),
        "original": original_order(activity.n_neurons),
    }
    how = FlashTimeParams(params.cost, params.effort)
    result = flash_time_order(activity.rows, starts, how, params.rng(), params.pulse, params.counting)
    return Ordered(result.order, result.chosen, result.cost, result.held_out)


def search_state(order: Int32Array, line: FlashCost, break_even_gap: float) -> GapState:
    """Return an order, copied, and all that the search knows of it."""
    n_neurons = order.size
    n_tokens = -(-line.n_rows // _TOKEN_MULTIPLE) * _TOKEN_MULTIPLE
    # lambda in units of 1 / SCALE, split into whole neurons and the rest.
    gap, fraction = divmod(round(min(break_even_gap, MAX_BREAK_EVEN_GAP) * SCALE), SCALE)
    cap = gap + 2
    eighth = max(512, n_tokens // 8 // _TOKEN_MULTIPLE * _TOKEN_MULTIPLE)
    n_probe = min(n_tokens, eighth), min(n_tokens, 3 * eighth)
    probed = line.bits.words[:n_neurons, : n_probe[0] // _TOKEN_MULTIPLE]
    state = GapState(
        order=order.astype(np.int32),
        slot_of=slots_of(order),
        edge_at=np.arange(n_neurons + 1, dtype=np.int32),
        is_turned=np.zeros(n_neurons + 1, np.uint8),
        rows=np.full((2, n_neurons + 1, n_tokens), cap, np.uint8),
        saving=np.zeros((n_neurons + 1, 3), np.int64),
        is_known=np.zeros(n_neurons + 1, np.uint8),
        indptr=line.indptr,
        tokens=line.tokens,
        probe_ends=line.indptr[:-1] + np.bitwise_count(probed).sum(axis=1, dtype=np.int64),
        cap=cap,
        fraction=fraction,
        n_probe=n_probe,
        head=np.full(n_tokens, cap, np.uint8),
        tail=np.full(n_tokens, cap, np.uint8),
        is_active=np.zeros(n_tokens, np.uint8),
        left_here=np.empty(n_tokens, np.uint8),
        right_here=np.empty(n_tokens, np.uint8),
    )
    refresh(state, 0, n_neurons)
    return state


def search_moves(n_neurons: int, longest: int) -> gap_search.Moves:
    """Return a queue of all neurons and an empty log, for segments of up to `longest` neurons."""
    return gap_search.Moves(
        queue=np.arange(n_neurons, dtype=np.int32),
        span=np.array([0, n_neurons]),
        is_queued=np.ones(n_neurons, np.uint8),
        log=np.empty((_LOG_LENGTH, 5), np.int64),
        n_logged=np.zeros(1, np.int64),
        scratch=np.empty((2, longest), np.int32),
    )


def _search(
    order: Int32Array,
    line: FlashCost,
    neighbors: Int32Array,
    params: FlashTimeParams,
    rng: np.random.Generator,
    pulse: Pulse,
) -> tuple[Int32Array, bool]:
    """Return a better order, and whether all effort was spent on it."""
    n_neurons = order.size
    state = search_state(order, line, params.cost.break_even_gap)
    moves = search_moves(n_neurons, max(params.max_length, params.kick_length))
    max_length, kick_length = min(params.max_length, n_neurons - 1), min(params.kick_length, n_neurons // 2)
    start_units = max(1.0, line(order) * line.n_rows * SCALE)
    gain = 0
    while moves.span[0] < moves.span[1]:
        gain += gap_search.improve(state, moves, neighbors, max_length, _STEPS_AT_A_TIME)
        if not pulse(0.0, gain / start_units):
            return state.order, False
    n_kicks = -(-n_neurons // params.neurons_per_kick)
    for effort in range(params.effort):
        lengths = rng.integers(1, kick_length + 1, (n_kicks, 2))
        kicks = np.column_stack([rng.integers(0, n_neurons, n_kicks), lengths])
        gain += gap_search.kick(state, moves, neighbors, max_length, kicks)
        if not pulse((effort + 1) / params.effort, gain / start_units):
            return state.order, effort + 1 == params.effort
    return state.order, True
