"""What one wants to know of a block's activations before ordering it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from scipy.sparse import csr_array

    from ripple_place.graph.coactivation import NeuronBits

N_BEST = 8
"""Neighbours of each neuron whose lift is looked at."""
MIN_FIRINGS = 8
"""Neurons that fire more rarely in a half of the trace are left out of the lifts: their ratios are noise."""


@dataclass(frozen=True)
class BlockStatistics:
    """The activity of one block.

    Attributes
    ----------
    n_neurons, n_rows : int
        Rows are 0 where unknown.
    active_share : float or None
        Mean share of the neurons that fire for a token; None if nobody knows on how many tokens they were counted.
    dead_neurons : int
        Neurons that never fire.
    hottest_tenth_share : float or None
        Share of all activations made by the hottest 10 % of neurons; None if nothing fires.
    lift_of_best_neighbors : float or None
        Median of f(i,j) n_rows / (f(i) f(j)) in the second half of the trace, over the 8 neighbours of each neuron
        with the largest lift in the first half: how much likelier than by chance neighbours fire together on text
        that did not choose them. None if the trace is too short to tell.
    lift_rank_correlation : float or None
        Spearman's correlation of those lifts between the halves: near 1, the trace is long enough.
    neighbors_kept : float or None
        Of each neuron's 8 companions in the graph with the largest lift in the first half, the share that is among
        its 8 of largest lift in the second, too; neurons count by their firings, since what fires often decides where
        reads break. None if no neuron has twice as many companions to choose from.
    neighbors_kept_by_chance : float or None
        What that share would be if the halves chose at random.
    """

    n_neurons: int
    n_rows: int
    active_share: float | None
    dead_neurons: int
    hottest_tenth_share: float | None
    lift_of_best_neighbors: float | None
    lift_rank_correlation: float | None
    neighbors_kept: float | None = None
    neighbors_kept_by_chance: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the attributes by name."""
        return asdict(self)


def block_statistics(frequency: npt.NDArray[np.int64], graph: csr_array, bits: NeuronBits) -> BlockStatistics:
    """Return the statistics of a block from its firing counts, neighbour graph and bits."""
    lifts = HalfLifts.of_graph(graph, bits)
    lift, correlation = (None, None) if lifts is None else lifts.of_best()
    kept, by_chance = (None, None) if lifts is None else lifts.kept(frequency)
    statistics = _statistics(frequency, bits.n_rows, 1, lift, correlation)
    return replace(statistics, neighbors_kept=kept, neighbors_kept_by_chance=by_chance)


def count_statistics(frequency: npt.NDArray[np.int64], n_tokens: int | None) -> BlockStatistics:
    """Return what firing counts alone say of a block."""
    return _statistics(frequency, n_tokens or 0, 0, None, None)


def _statistics(
    frequency: npt.NDArray[np.int64], n_rows: int, least_rows: int, lift: float | None, correlation: float | None
) -> BlockStatistics:
    total = int(frequency.sum())
    n_hottest = max(1, frequency.size // 10)
    hottest = int(np.sort(frequency)[-n_hottest:].sum())
    n_rows_or_one = max(least_rows, n_rows)
    return BlockStatistics(
        n_neurons=frequency.size,
        n_rows=n_rows,
        active_share=total / (frequency.size * n_rows_or_one) if n_rows_or_one else None,
        dead_neurons=int((frequency == 0).sum()),
        hottest_tenth_share=hottest / total if total else None,
        lift_of_best_neighbors=lift,
        lift_rank_correlation=correlation,
    )


@dataclass(frozen=True, eq=False)
class HalfLifts:
    """The lifts of a graph's edges in either half of the trace, of neurons that fire often enough in both.

    Attributes
    ----------
    first, second : ndarray of shape (n_edges,), int32
        Ascending by `first`, then `second`; both directions of each edge.
    lifts : tuple of two ndarray of shape (n_edges,), float64
    """

    first: npt.NDArray[np.int32]
    second: npt.NDArray[np.int32]
    lifts: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

    @classmethod
    def of_graph(cls, graph: csr_array, bits: NeuronBits) -> HalfLifts | None:
        """Count in both halves; None if the trace is too short to have any."""
        middle = bits.n_rows // 2 // 64 * 64
        halves = slice(0, middle), slice(middle, bits.n_rows)
        if middle == 0:
            return None
        edges = graph.tocoo()
        first, second = (np.ascontiguousarray(ids, dtype=np.int32) for ids in edges.coords)
        everyone = np.arange(bits.n_neurons, dtype=np.int32)
        firings = [bits.pair_counts(everyone, everyone, half) for half in halves]
        often = np.minimum(*firings) >= MIN_FIRINGS
        kept = often[first] & often[second]
        first, second = first[kept], second[kept]
        earlier, later = (
            bits.pair_counts(first, second, half) * (half.stop - half.start) / (firing[first] * firing[second])
            for half, firing in zip(halves, firings, strict=True)
        )
        return cls(first, second, (earlier, later))

    def best(self, half: int) -> npt.NDArray[np.int64]:
        """Return the edges to each neuron's best companions by lift in one half; of equal ones the lower neuron."""
        by_lift = np.lexsort((self.second, -self.lifts[half], self.first))
        starts = np.searchsorted(self.first, self.first[by_lift])
        return by_lift[np.arange(by_lift.size) - starts < N_BEST]

    def of_best(self) -> tuple[float | None, float | None]:
        """Return the median lift in the second half of the edges chosen in the first, and the rank correlation."""
        from scipy.stats import spearmanr

        chosen = self.best(0)
        if chosen.size < 2:
            return None, None
        earlier, later = self.lifts[0][chosen], self.lifts[1][chosen]
        constant = np.ptp(earlier) == 0 or np.ptp(later) == 0
        return float(np.median(later)), None if constant else float(spearmanr(earlier, later).statistic)

    def kept(self, frequency: npt.NDArray[np.int64]) -> tuple[float | None, float | None]:
        """Return the share of best companions that both halves agree on, and what chance alone would give."""
        n_companions = np.bincount(self.first, minlength=frequency.size)
        has_choice = n_companions >= 2 * N_BEST
        weight = frequency * has_choice
        if not weight.any():
            return None, None
        agreed = np.intersect1d(self.best(0), self.best(1), assume_unique=True)
        n_agreed = np.bincount(self.first[agreed], minlength=frequency.size)
        by_chance = N_BEST / np.maximum(n_companions, 1)
        return float(weight @ n_agreed / (N_BEST * weight.sum())), float(weight @ by_chance / weight.sum())
