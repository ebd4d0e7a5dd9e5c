"""What one wants to know of a block's activations before ordering it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from ripple_place.arrays import Int64Array
    from ripple_place.graph.neuron_bits import NeuronBits

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
    """

    n_neurons: int
    n_rows: int
    active_share: float | None
    dead_neurons: int
    hottest_tenth_share: float | None
    lift_of_best_neighbors: float | None
    lift_rank_correlation: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the attributes by name."""
        return asdict(self)


def block_statistics(frequency: Int64Array, graph: csr_array, bits: NeuronBits) -> BlockStatistics:
    """Return the statistics of a block from its firing counts, neighbour graph and bits."""
    return _statistics(frequency, bits.n_rows, 1, *_lifts(graph, bits))


def count_statistics(frequency: Int64Array, n_tokens: int | None) -> BlockStatistics:
    """Return what firing counts alone say of a block."""
    return _statistics(frequency, n_tokens or 0, 0, None, None)


def _statistics(
    frequency: Int64Array, n_rows: int, least_rows: int, lift: float | None, correlation: float | None
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


def _lifts(graph: csr_array, bits: NeuronBits) -> tuple[float | None, float | None]:
    """Return the median lift in the second half of the pairs chosen in the first, and the rank correlation."""
    from scipy.stats import spearmanr

    middle = bits.n_rows // 2 // 64 * 64
    halves = slice(0, middle), slice(middle, bits.n_rows)
    if middle == 0:
        return None, None
    edges = graph.tocoo()
    first, second = (np.ascontiguousarray(ids, dtype=np.int32) for ids in edges.coords)
    everyone = np.arange(bits.n_neurons, dtype=np.int32)
    firings = [bits.pair_counts(everyone, everyone, half) for half in halves]
    often = np.minimum(*firings) >= MIN_FIRINGS
    kept = often[first] & often[second]
    first, second = first[kept], second[kept]
    lifts = [
        bits.pair_counts(first, second, half) * (half.stop - half.start) / (firing[first] * firing[second])
        for half, firing in zip(halves, firings, strict=True)
    ]
    # Of each neuron's neighbours, the best by lift in the first half.
    by_lift = np.lexsort((second, -lifts[0], first))
    starts = np.searchsorted(first[by_lift], everyone)
    rank = np.arange(first.size) - starts[first[by_lift]]
    chosen = by_lift[rank < N_BEST]
    if chosen.size < 2:
        return None, None
    earlier, later = lifts[0][chosen], lifts[1][chosen]
    constant = np.ptp(earlier) == 0 or np.ptp(later) == 0
    return float(np.median(later)), None if constant else float(spearmanr(earlier, later).statistic)
