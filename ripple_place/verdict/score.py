"""Scores: what reordering is worth in one block or in several together.

Everything is in the verdict's unit per token: flash time, or lambda x reads + neurons read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ripple_place.placing.block_report import HELPLESS_GAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import Int32Array, Int64Array
    from ripple_place.placing.comparison import OrderingComparison
    from ripple_place.trace.activation_trace import BlockTrace


DRAM_SHARES = (0.0, 0.1)
"""Without DRAM, and with the hottest tenth of each block in it."""


@dataclass(frozen=True)
class Learned:
    """Cost per token of the greedy order that was learned on `n_rows` rows."""

    n_rows: int
    cost: float


@dataclass(frozen=True)
class Crowd:
    """Cost of orders if the neurons of `n_together` tokens are read together; all figures are per such reading."""

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
        """Share of the cost that greedy order saves."""
        return 1 - self.greedy / self.original if self.original else 0.0


@dataclass(frozen=True)
class Score:
    """The worth of reordering, on tokens that did not choose the orders.

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
        """Return the share of the original's cost that an order saves, at one of `DRAM_SHARES`."""
        before, after = (self.orderings.cost_per_token[name][place] for name in ("original", ordering))
        return 1 - after / before if before else 0.0

    @property
    def best(self) -> str:
        """The cheaper of frequency and greedy order."""
        return min(("frequency", "greedy"), key=lambda name: self.orderings.cost_per_token[name][0])

    @property
    def is_gain(self) -> bool:
        """Whether the cheaper one is worth writing a checkpoint for."""
        return self.gain(self.best) >= HELPLESS_GAIN

    @property
    def last_doubling(self) -> float | None:
        """Share by which the cost fell when the order was learned on twice as many rows; None if unknown."""
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
    """One block's score, and the data of its pictures.

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
