"""What reordering is worth in one block, and in several together: learned on one half of a trace, judged on the other.

Everything is in the verdict's unit per token: flash time, or lambda x reads + neurons read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.graph.stability import neighbors_kept
from ripple_place.ordering.flash_cost import FlashCost
from ripple_place.ordering.frequency import frequency_order
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.original import original_order
from ripple_place.placement import NeuronPlacement
from ripple_place.placing.block_report import FEW_ROWS, HELPLESS_GAIN
from ripple_place.placing.cached_block import CachedBlock
from ripple_place.placing.comparison import combine, compare_orders
from ripple_place.trace.activation_trace import BlockTrace
from ripple_place.trace.split_block import SplitBlock, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.placing.comparison import OrderingComparison

    Int32Array = npt.NDArray[np.int32]
    Int64Array = npt.NDArray[np.int64]
    Float64Array = npt.NDArray[np.float64]

DRAM_SHARES = (0.0, 0.1)
"""Without DRAM, and with the hottest tenth of each block in it."""
LEARNED_PARTS = (8, 4, 2, 1)
"""Orders are learned on an eighth of the searched rows, a quarter, half, all: what doubling them brings."""
GROUP_ROWS = 64
"""A part of the searched rows is every so manieth group of this many: spread over the text, so that a small part is no
further from the rows that judge than a large one, and long enough that what follows each other stays together."""
TOGETHER = (1, 2, 4, 8, 16, 32)
"""Tokens whose active neurons are read together, to see what is left of the gain as more neurons are active."""


@dataclass(frozen=True)
class Learned:
    """What the greedy order costs a token if it was learned on so many rows."""

    n_rows: int
    cost: float


@dataclass(frozen=True)
class Crowd:
    """What orders cost where some tokens' neurons are read together; neurons are those of one such reading."""

    n_together: int
    n_active: float
    n_neurons: float
    original: float
    greedy: float

    @property
    def active_share(self) -> float:
        """Share of the neurons that are active."""
        return self.n_active / self.n_neurons

    @property
    def gain(self) -> float:
        """What greedy order saves, as a share."""
        return 1 - self.greedy / self.original if self.original else 0.0


@dataclass(frozen=True)
class Score:
    """What reordering is worth, by tokens that did not choose the orders.

    Attributes
    ----------
    orderings : OrderingComparison
        Cost per token without DRAM and with the hottest tenth in it: original, frequency, greedy.
    reads, neurons_read : mapping of str to float
        Per token, by ordering; gaps are read through, and count.
    learned : tuple of Learned
        By growing number of rows; the last is all that there were. Empty if there were too few to divide.
    crowds : tuple of Crowd
        By growing number of tokens together; the first is one alone.
    neighbors_kept : tuple of float or None
        Share of best companions that both halves agree on, and what chance would give
        (`ripple_place.graph.stability.neighbors_kept`).
    """

    orderings: OrderingComparison
    reads: Mapping[str, float]
    neurons_read: Mapping[str, float]
    learned: tuple[Learned, ...]
    crowds: tuple[Crowd, ...]
    neighbors_kept: tuple[float, float] | None

    def read_length(self, ordering: str) -> float | None:
        """Return the mean length of a read in neurons; None without reads."""
        return self.neurons_read[ordering] / self.reads[ordering] if self.reads[ordering] else None

    def gain(self, ordering: str, place: int = 0) -> float:
        """Return what an order saves of the original's cost, as a share, at one of `DRAM_SHARES`."""
        before, after = (self.orderings.cost_per_token[name][place] for name in ("original", ordering))
        return 1 - after / before if before else 0.0

    @property
    def best(self) -> str:
        """The cheaper of frequency and greedy order."""
        return min(("frequency", "greedy"), key=lambda name: self.orderings.cost_per_token[name][0])

    @property
    def is_gain(self) -> bool:
        """Whether that one is worth writing a checkpoint for."""
        return self.gain(self.best) >= HELPLESS_GAIN

    @property
    def last_doubling(self) -> float | None:
        """By what share the cost fell when the order was learned on twice as many rows; None if that is unknown."""
        if len(self.learned) < 2 or not self.learned[-2].cost:
            return None
        return 1 - self.learned[-1].cost / self.learned[-2].cost

    @property
    def stops_paying_share(self) -> float | None:
        """Active share from which greedy order saves less than `HELPLESS_GAIN`; None if it still does at the largest.

        Interpolated between the measured ones, evenly in the logarithm of the share.
        """
        if self.crowds[0].gain < HELPLESS_GAIN:
            return self.crowds[0].active_share
        for below, above in pairwise(self.crowds):
            if above.gain < HELPLESS_GAIN:
                way = (below.gain - HELPLESS_GAIN) / (below.gain - above.gain)
                return math.exp(
                    (1 - way) * math.log(below.active_share) + way * math.log(max(above.active_share, 1e-12))
                )
        return None

    def to_json(self) -> dict[str, Any]:
        """Return the score as an entry of ``verdict`` in ``profile --json``."""
        return {
            "orderings": self.orderings.to_json(),
            "reads_per_token": dict(self.reads),
            "read_length_mean": {name: self.read_length(name) for name in self.reads},
            "learned": [{"n_rows": step.n_rows, "cost_per_token": step.cost} for step in self.learned],
            "together": [
                {"n_tokens": crowd.n_together, "active_share": crowd.active_share, "gain": crowd.gain}
                for crowd in self.crowds
            ],
            "stops_paying_active_share": self.stops_paying_share,
            "neighbors_kept": None if self.neighbors_kept is None else self.neighbors_kept[0],
            "neighbors_kept_by_chance": None if self.neighbors_kept is None else self.neighbors_kept[1],
        }


@dataclass(frozen=True, eq=False)
class BlockScore:
    """One block's score, and what its pictures are drawn from.

    Attributes
    ----------
    score : Score
    judged : BlockTrace
        The rows that judged.
    greedy : ndarray of shape (n_neurons,), int32
        ``order[slot] -> neuron``.
    read_length_counts : mapping of str to ndarray of shape (n_neurons + 1,), int64
        Reads of each length on those rows, by ordering.
    """

    score: Score
    judged: BlockTrace
    greedy: Int32Array
    read_length_counts: Mapping[str, Int64Array]


def score_block(name: str, searched: BlockTrace, judged: BlockTrace, read_cost: ReadCost) -> BlockScore:
    """Order a block on some rows, and judge by others.

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
    costs = compare_orders(CachedBlock(name, SplitBlock(judged, 0), read_cost, learned), orders, DRAM_SHARES)
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
    first = scores[0][0].orderings
    costs = [
        {name: np.array(cost) * share * n_tokens for name, cost in score.orderings.cost_per_token.items()}
        for score, share in scores
    ]
    depth = min(len(score.learned) for score, _ in scores)
    width = min(len(score.crowds) for score, _ in scores)
    return Score(
        combine(costs, first.unit, n_tokens, held_out=True, dram_shares=DRAM_SHARES),
        {name: sum(share * score.reads[name] for score, share in scores) for name in scores[0][0].reads},
        {name: sum(share * score.neurons_read[name] for score, share in scores) for name in scores[0][0].reads},
        tuple(
            Learned(
                max(score.learned[place].n_rows for score, _ in scores),
                sum(share * score.learned[place].cost for score, share in scores),
            )
            for place in range(-depth, 0)
        ),
        tuple(
            replace(
                scores[0][0].crowds[place],
                **{
                    field: sum(share * getattr(score.crowds[place], field) for score, share in scores)
                    for field in ("n_active", "n_neurons", "original", "greedy")
                },
            )
            for place in range(width)
        ),
        _mean_kept(scores),
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
    """Return what the greedy order costs when it is learned on growing parts of the rows."""
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
    """Return what orders cost where some tokens are served together."""
    cost = FlashCost(union_of_rows(judged, n_together), read_cost)
    n_active = cost.tokens.size / cost.n_rows
    return Crowd(n_together, n_active, float(judged.n_neurons), cost(orders["original"]), cost(orders["greedy"]))


def searched_and_judged(
    block: BlockTrace, middle: int, max_searched: int, max_judged: int
) -> tuple[BlockTrace, BlockTrace]:
    """Return the last rows before the middle, and the first behind it; no more than so many of each."""
    return rows_of(block, max(0, middle - max_searched), middle), rows_of(
        block, middle, min(block.n_rows, middle + max_judged)
    )
