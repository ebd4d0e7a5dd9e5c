"""Scores a block: orders are learned on one half of its rows and judged on the other. Adds up the scores of blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.graph.stability import neighbors_kept
from ripple_place.ordering.flash_cost import FlashCost
from ripple_place.ordering.frequency import frequency_order
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.original import original_order
from ripple_place.placement import NeuronPlacement
from ripple_place.placing.block_report import FEW_ROWS
from ripple_place.placing.cached_block import CachedBlock
from ripple_place.placing.comparison import combine, compare_orders
from ripple_place.trace.activation_trace import BlockTrace
from ripple_place.trace.split_block import SplitBlock, rows_of
from ripple_place.verdict.score import DRAM_SHARES, BlockScore, Crowd, Learned, Score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ripple_place.arrays import Int32Array
    from ripple_place.flash.read_cost import ReadCost


LEARNED_PARTS = (8, 4, 2, 1)
"""Orders are learned on an eighth of the searched rows, a quarter, half, all: what doubling them brings."""
GROUP_ROWS = 64
"""A part of the searched rows is every k-th group of this many: spread over the text, so that a small part is no
further from the judged rows than a large one, and long enough that neighbouring tokens stay together."""
TOGETHER = (1, 2, 4, 8, 16, 32)
"""Tokens whose active neurons are read together, to see how the gain shrinks as more neurons are active."""


def score_block(name: str, searched: BlockTrace, judged: BlockTrace, read_cost: ReadCost) -> BlockScore:
    """Order a block on some rows, and judge the orders by others.

    Parameters
    ----------
    name : str
    searched, judged : BlockTrace
        At least one row each.
    read_cost : ReadCost

    Notes
    -----
    Costs about two greedy searches on `searched`, and a simulation of `judged` for each of six cases. Deterministic.
    """
    bits = NeuronBits.of_block(searched)
    frequency = bits.frequency()
    orders = {
        "original": original_order(searched.n_neurons),
        "frequency": frequency_order(frequency),
        "greedy": greedy_path(bits),
    }
    learned = NeuronPlacement.original(judged.n_neurons, frequency)
    block = CachedBlock(name, SplitBlock(judged, 0), read_cost, learned)
    costs = compare_orders(block, orders, DRAM_SHARES)
    cost = FlashCost(judged, read_cost)
    lengths = {ordering: cost.read_lengths(order) for ordering, order in orders.items()}
    score = Score(
        combine([costs], read_cost.unit, judged.n_rows, held_out=True, dram_shares=DRAM_SHARES),
        {ordering: float(counts.sum()) / judged.n_rows for ordering, counts in lengths.items()},
        {
            ordering: float(counts @ np.arange(counts.size)) / judged.n_rows for ordering, counts in lengths.items()
        },
        _learn(searched, cost, orders["greedy"]),
        tuple(_crowd(judged, n_together, orders, read_cost) for n_together in _crowd_sizes(judged.n_rows)),
        neighbors_kept(bits, cost.bits),
    )  # fmt: skip
    return BlockScore(score, judged, orders["greedy"], lengths)


def searched_and_judged(
    block: BlockTrace, middle: int, max_searched: int, max_judged: int
) -> tuple[BlockTrace, BlockTrace]:
    """Return the last `max_searched` rows before the middle and the first `max_judged` from it on."""
    searched = rows_of(block, max(0, middle - max_searched), middle)
    return searched, rows_of(block, middle, min(block.n_rows, middle + max_judged))


def part_of(searched: BlockTrace, part: int) -> BlockTrace:
    """Return every `part`-th group of `GROUP_ROWS` rows, from the first on."""
    groups = np.arange(searched.n_rows) // GROUP_ROWS
    return BlockTrace(searched.n_neurons, np.asarray(searched.active)[groups % part == 0])


def union_of_rows(block: BlockTrace, n_together: int) -> BlockTrace:
    """Return rows far apart joined to one: row t of each of `n_together` equal parts.

    >>> block = BlockTrace(8, np.array([[1], [2], [4], [8], [16]], np.uint8))
    >>> union_of_rows(block, 2).active.ravel().tolist()
    [5, 10]
    """
    n_rows = block.n_rows // n_together
    parts = np.asarray(block.active)[: n_rows * n_together].reshape(n_together, n_rows, -1)
    return BlockTrace(block.n_neurons, np.bitwise_or.reduce(parts, axis=0))


def combine_scores(scores: Sequence[tuple[Score, float]], n_tokens: int) -> Score:
    """Return the score of blocks together, per token.

    Parameters
    ----------
    scores : sequence of (Score, float)
        Each with the share of the tokens that reach the block.
    n_tokens : int
        Tokens that judged.
    """
    parts = [score for score, _ in scores]
    first = parts[0].orderings
    costs = [
        {name: np.array(cost) * share * n_tokens for name, cost in score.orderings.cost_per_token.items()}
        for score, share in scores
    ]

    def total(values: Iterable[float]) -> float:
        return sum(share * value for (_, share), value in zip(scores, values, strict=True))

    # Blocks with few rows have fewer steps; all of them end with the same one, all rows.
    n_steps = min(len(score.learned) for score in parts)
    steps = [[score.learned[place] for score in parts] for place in range(-n_steps, 0)]
    crowds = zip(*(score.crowds for score in parts), strict=False)
    return Score(
        combine(costs, first.unit, n_tokens, held_out=True, dram_shares=DRAM_SHARES),
        {name: total(score.reads[name] for score in parts) for name in parts[0].reads},
        {name: total(score.neurons_read[name] for score in parts) for name in parts[0].reads},
        tuple(Learned(max(one.n_rows for one in step), total(one.cost for one in step)) for step in steps),
        tuple(_crowd_of_blocks(crowd, total) for crowd in crowds),
        _mean_kept(scores),
    )


def _crowd_of_blocks(crowds: Sequence[Crowd], total: Callable[[Iterable[float]], float]) -> Crowd:
    """Return the sum of the blocks' crowds of one size; `total` adds up over the blocks."""
    return Crowd(
        crowds[0].n_together,
        total(crowd.n_active for crowd in crowds),
        total(crowd.n_neurons for crowd in crowds),
        total(crowd.original for crowd in crowds),
        total(crowd.greedy for crowd in crowds),
    )


def _mean_kept(scores: Sequence[tuple[Score, float]]) -> tuple[float, float] | None:
    """Return the mean over blocks, which count by how many of their neurons a token activates."""
    known = [
        (np.array(score.neighbors_kept), share * score.crowds[0].n_active)
        for score, share in scores
        if score.neighbors_kept is not None
    ]
    if not known:
        return None
    kept, by_chance = np.average([pair for pair, _ in known], axis=0, weights=[weight for _, weight in known])
    return float(kept), float(by_chance)


def _learn(searched: BlockTrace, cost: FlashCost, greedy: Int32Array) -> tuple[Learned, ...]:
    """Return the cost of the greedy order that is learned on growing parts of the rows."""
    steps = []
    for part in LEARNED_PARTS:
        if part * GROUP_ROWS > searched.n_rows:
            continue
        rows = searched if part == 1 else part_of(searched, part)
        order = greedy if part == 1 else greedy_path(NeuronBits.of_block(rows))
        steps.append(Learned(rows.n_rows, cost(order)))
    return tuple(steps)


def _crowd_sizes(n_rows: int) -> list[int]:
    return [n_together for n_together in TOGETHER if n_together == 1 or n_rows // n_together >= FEW_ROWS]


def _crowd(judged: BlockTrace, n_together: int, orders: Mapping[str, Int32Array], read_cost: ReadCost) -> Crowd:
    """Return the cost of orders if `n_together` tokens are served together."""
    cost = FlashCost(union_of_rows(judged, n_together), read_cost)
    n_active = cost.tokens.size / cost.n_rows
    return Crowd(n_together, n_active, float(judged.n_neurons), cost(orders["original"]), cost(orders["greedy"]))
