"""Placement by flash time itself: local search on the gap-aware cost of the trace's own tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.graph.coactivation import NeuronBits
from ripple_place.kernels import gap_search as kernels
from ripple_place.ordering.neighbors import nearest_by_cosine
from ripple_place.trace.activation_trace import BlockTrace

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Int32Array = npt.NDArray[np.int32]

MAX_BREAK_EVEN_GAP = 250.0
"""Distances are kept in bytes."""


@dataclass(frozen=True)
class FlashTimeParams:
    """How to search.

    Parameters
    ----------
    break_even_gap : float
        lambda: unwanted neurons that cost as much to read through as one more read; at most `MAX_BREAK_EVEN_GAP`.
    effort : int
        Sweeps over all neurons at most; the search ends earlier where nothing improves.
    n_neighbors : int
        Neighbours beside which a segment is tried.
    max_length : int
        Longest segment that is moved.

    Raises
    ------
    UsageError
        If a number is out of range.
    """

    break_even_gap: float
    effort: int = 20
    n_neighbors: int = 10
    max_length: int = 4

    def __post_init__(self) -> None:
        if not (0 <= self.break_even_gap <= MAX_BREAK_EVEN_GAP and self.effort >= 0 and self.max_length >= 1):
            raise UsageError(
                "flash-time", found=f"a break-even gap of {self.break_even_gap}, effort {self.effort}",
                expected=f"a gap from 0 to {MAX_BREAK_EVEN_GAP:g}, an effort of at least 0",
                remedy="correct the number, or order by the greedy path",
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
        Of each start and of ``flash-time``: lambda x reads + neurons read, per token, on the tokens that were searched
        and on those held out (NaN where there are none).
    n_sweeps, n_moves : int
    """

    order: Int32Array
    chosen: str
    cost: Mapping[str, float]
    held_out: Mapping[str, float]
    n_sweeps: int
    n_moves: int


class GapCost:
    """The expected flash time of an order on a block's tokens, in units of one neuron: lambda x reads + neurons read.

    Equal to what the simulator charges where bundles are whole pages and the device is its line.

    Parameters
    ----------
    block : BlockTrace
    break_even_gap : float
    """

    def __init__(self, block: BlockTrace, break_even_gap: float) -> None:
        self.bits = NeuronBits.of_block(block)
        self.n_rows = block.n_rows
        self.limit = round((break_even_gap + 1) * kernels.SCALE)
        self.cap = math.floor(self.limit / kernels.SCALE - 1) + 2
        self.indptr = np.concatenate([[0], np.cumsum(self.bits.frequency())])
        self.tokens = np.empty(int(self.indptr[-1]), np.int32)
        kernels.list_tokens(self.bits.words, self.bits.n_neurons, self.indptr, self.tokens)

    def __call__(self, order: Int32Array) -> float:
        """Return the cost of an order per token; NaN without tokens."""
        if self.n_rows == 0:
            return math.nan
        last_slot = np.empty(self.n_rows, np.int64)
        units = kernels.gap_cost(order, self.indptr, self.tokens, self.limit, last_slot)
        return float(units) / kernels.SCALE / self.n_rows


def flash_time_order(
    searched: BlockTrace,
    held_out: BlockTrace | None,
    starts: Mapping[str, Int32Array],
    params: FlashTimeParams,
    rng: np.random.Generator,
) -> FlashTimeResult:
    """Return an order of low flash time.

    Parameters
    ----------
    searched : BlockTrace
        Tokens whose cost is lowered.
    held_out : BlockTrace or None
        Tokens that decide whether the gain is real: if a start is better on them, it is returned.
    starts : mapping of str to ndarray of shape (n_neurons,), int32
        Orders by name; the search begins at the cheapest.
    params : FlashTimeParams
    rng : numpy.random.Generator
        Shuffles the tokens, so that the first of them stand for all.

    Notes
    -----
    Starting from the cheapest order, segments of up to `max_length` neurons move, in either orientation, next to a
    neighbour by cosine similarity wherever that lowers the cost; changes are exact
    (`ripple_place.kernels.gap_search`). Sweeps go on until nothing improves or `effort` is spent: a local optimum, no
    guarantee. Never costlier than the cheapest start on the searched tokens. Deterministic under `rng`. Memory:
    2 n_neurons x n_rows bytes.
    """
    shuffled = BlockTrace(searched.n_neurons, np.asarray(searched.active)[rng.permutation(searched.n_rows)])
    cost = GapCost(shuffled, params.break_even_gap)
    unseen = None if held_out is None else GapCost(held_out, params.break_even_gap)
    costs = {name: cost(order) for name, order in starts.items()}
    best_start = min(costs, key=lambda name: (costs[name], name))
    order = starts[best_start].copy()
    n_sweeps, n_moves = _search(order, cost, params) if searched.n_rows and order.size > 1 else (0, 0)
    costs["flash-time"] = cost(order)
    orders = {**starts, "flash-time": order}
    unseen_costs = {name: math.nan if unseen is None else unseen(orders[name]) for name in orders}
    chosen = "flash-time"
    if unseen is not None and unseen.n_rows:
        chosen = min(orders, key=lambda name: (unseen_costs[name], name != "flash-time", name))
    return FlashTimeResult(orders[chosen], chosen, costs, unseen_costs, n_sweeps, n_moves)


def _search(order: Int32Array, cost: GapCost, params: FlashTimeParams) -> tuple[int, int]:
    """Improve an order in place; return sweeps and moves made."""
    n_neurons, n_rows = order.size, cost.n_rows
    max_length = min(params.max_length, n_neurons - 1)
    slot_of = np.empty_like(order)
    slot_of[order] = np.arange(n_neurons, dtype=np.int32)
    neighbors = nearest_by_cosine(cost.bits, params.n_neighbors)
    step_cost = np.minimum(np.arange(2 * (cost.cap + max_length)) * kernels.SCALE, cost.limit).astype(np.int64)
    left, right = np.empty((2, n_neurons + 1, n_rows), np.uint8)
    stretch, is_known = np.zeros((n_neurons + 1, max_length + 1), np.int64), np.zeros(n_neurons + 1, np.uint8)
    is_open = np.ones(n_neurons, np.uint8)
    kernels.refresh_boundaries(order, -1, n_neurons, cost.cap, cost.indptr, cost.tokens, left, right, is_known)
    total_moves = 0
    for sweep in range(params.effort):
        n_moves, _ = kernels.search_sweep(
            order, slot_of, is_open, neighbors, cost.indptr, cost.tokens, cost.cap, max_length, step_cost,
            left, right, stretch, is_known,
        )  # fmt: skip
        total_moves += n_moves
        if n_moves == 0:
            return sweep + 1, total_moves
    return params.effort, total_moves
