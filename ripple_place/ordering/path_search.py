"""The path with the fewest reads that a chained Lin-Kernighan search finds, and how close that is to the least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.kernels import path_search as kernels
from ripple_place.ordering.activity import Ordered
from ripple_place.ordering.frequency import frequency_order
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.original import original_order
from ripple_place.ordering.path_bound import PairTable, PathBound, path_bound
from ripple_place.placement import slots_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import Int32Array, Int64Array
    from ripple_place.graph.neuron_bits import NeuronBits
    from ripple_place.ordering.activity import Activity, OrderingParams


MAX_STRETCH = 50
"""Longest stretch that a perturbation moves: local ones cost little and are repaired or kept nearby."""
NEURONS_PER_KICK = 64
MIN_KICKS = 16
_ROWS_AT_A_TIME = 256


@dataclass(frozen=True)
class PathParams:
    """How to search.

    Parameters
    ----------
    effort : int
        Rounds of perturbations, one for every `NEURONS_PER_KICK` neurons in a round. 0: the local optimum.
    n_candidates : int
        Neurons beside which each is tried.
    n_steps : int
        Of the ascent to the bound.
    table_limit_neurons : int
        Up to so many firing neurons all pairs are counted (4 n^2 bytes), which the bound needs. Above, candidates
        come from the neighbour graph, pairs are counted as they are needed, and there is no bound.

    Raises
    ------
    UsageError
        If a number is out of range.
    """

    effort: int = 20
    n_candidates: int = 8
    n_steps: int = 300
    table_limit_neurons: int = 8192

    def __post_init__(self) -> None:
        if self.effort < 0 or self.n_candidates < 1 or self.n_steps < 1:
            raise UsageError(
                "path", found=f"effort {self.effort}, {self.n_candidates} candidates, {self.n_steps} steps",
                expected="an effort of at least 0, and at least one candidate and step",
                remedy="correct the number",
            )  # fmt: skip


@dataclass(frozen=True, eq=False)
class PathResult:
    """What the search found.

    Attributes
    ----------
    order : ndarray of shape (n_neurons,), int32
    reads : float
        Of a token on the trace that was searched.
    start_reads : float
        Of the best start.
    bound : PathBound or None
        None above `PathParams.table_limit_neurons`.
    n_kicks : int
        Perturbations tried.
    """

    order: Int32Array
    reads: float
    start_reads: float
    bound: PathBound | None
    n_kicks: int

    @property
    def lower_bound(self) -> float | None:
        """Return the reads per token that no order can fall below; None if unknown."""
        return None if self.bound is None else self.bound.reads

    @property
    def gap_to_bound(self) -> float | None:
        """Return ``reads / lower_bound - 1``; 0 where nothing is ever read, None if unknown."""
        if self.bound is None:
            return None
        return self.reads / self.bound.reads - 1 if self.bound.reads else 0.0


def path_order(
    bits: NeuronBits, starts: Mapping[str, Int32Array], params: PathParams, rng: np.random.Generator
) -> PathResult:
    """Return an order of few expected reads, with a bound on how few they can be.

    Parameters
    ----------
    bits : NeuronBits
    starts : mapping of str to ndarray of shape (n_neurons,), int32
        Orders by name; the search begins at the one with the fewest reads, ties by name.
    params : PathParams
    rng : numpy.random.Generator
        Draws the perturbations.

    Notes
    -----
    The penalties of the Held-Karp bound (`ripple_place.ordering.path_bound`) come first: under them the edges of good
    tours are about equally short, whatever the neurons' rates, so the nearest few neighbours are the right candidates
    and chains are cut off early. Then Lin-Kernighan chains from every neuron, then local double bridges, each repaired
    by more chains and taken back if the tour got longer. Neurons that never fire go last. Without a table of all pairs
    the Hamming metric f(i) + f(j) - 2 f(i, j) takes the place of the penalised one. Never more reads than the best
    start's. Deterministic under `rng`, whatever the threads.
    """
    kept = {name: _kept(bits, order) for name, order in starts.items()}
    start = max(sorted(kept), key=lambda name: kept[name])
    frequency = bits.frequency()
    total, n_rows = int(frequency.sum()), max(1, bits.n_rows)
    firing = np.flatnonzero(frequency > 0).astype(np.int32)
    if firing.size <= params.table_limit_neurons:
        table = PairTable.of_bits(bits)
        bound = path_bound(table, kept[start], params.n_steps)
        scale, penalty, selected, counts = bound.scale, bound.penalty.astype(np.int64), table.bits, table.counts
        candidates = _nearest(counts, scale, penalty, params.n_candidates)
    else:
        bound = None
        selected, counts = bits.select(firing), np.empty((0, 0), np.int32)
        scale, penalty = 2, selected.frequency()
        candidates = _candidates_of_graph(selected, params.n_candidates)
    order, n_kicks = starts[start], 0
    if firing.size > 2:
        place = np.full(bits.n_neurons, -1, np.int32)
        place[firing] = np.arange(firing.size, dtype=np.int32)
        path = place[order]
        path = path[path >= 0]
        n_kicks = _search(path, selected, counts, scale, penalty, candidates, params.effort, rng)
        found = np.concatenate([firing[path], np.flatnonzero(frequency == 0)]).astype(np.int32)
        if _kept(bits, found) > kept[start]:
            order = found
    return PathResult(order, (total - _kept(bits, order)) / n_rows, (total - kept[start]) / n_rows, bound, n_kicks)


def make(activity: Activity, params: OrderingParams) -> Ordered:
    """Search for the path of fewest reads from greedy, hot-cold or checkpoint order, and bound it.

    Raises
    ------
    TraceFormatError
        If there are no rows to search on.
    """
    bits = activity.bits
    if bits is None:
        raise TraceFormatError(
            "--ordering path", found="a profile without activation bits", expected="a trace to search on",
            remedy="profile a trace, or order by frequency",
        )  # fmt: skip
    starts = {
        "greedy": greedy_path(bits),
        "frequency": frequency_order(activity.frequency),
        "original": original_order(activity.n_neurons),
    }
    path = path_order(bits, starts, PathParams(params.effort), params.rng())
    return Ordered(path.order, lower_bound=path.lower_bound, gap_to_bound=path.gap_to_bound)


def _kept(bits: NeuronBits, order: Int32Array) -> int:
    """Return the co-firings of neighbours: the reads that the order saves, over all rows."""
    return int(bits.pair_counts(np.ascontiguousarray(order[:-1]), np.ascontiguousarray(order[1:])).sum())


def _search(
    path: Int32Array, bits: NeuronBits, counts: Int32Array, scale: int, penalty: Int64Array, candidates: Int32Array,
    effort: int, rng: np.random.Generator,
) -> int:  # fmt: skip
    """Shorten a path in place; return the perturbations tried."""
    size = path.size + 1
    nodes = np.append(path, np.int32(path.size))
    tour = kernels.Tour(nodes, slots_of(nodes), np.empty((kernels.JOURNAL_SIZE, 2), np.int32))
    edges = kernels.Edges(candidates, counts, bits.words, np.append(penalty, 0), scale)
    kernels.settle_all(tour, edges)
    n_kicks = max(MIN_KICKS, size // NEURONS_PER_KICK)
    for _ in range(effort):
        draws = np.empty((n_kicks, 4), np.int64)
        draws[:, 0] = rng.integers(0, size, n_kicks)
        draws[:, 1:] = rng.integers(1, min(MAX_STRETCH, (size - 1) // 3) + 1, (n_kicks, 3))
        kernels.perturb(draws, tour, edges)
    cut = int(tour.slot_of[-1])
    found = np.concatenate([nodes[cut + 1 :], nodes[:cut]])
    path[:] = found if found[0] < found[-1] else found[::-1]
    return effort * n_kicks


def _nearest(counts: Int32Array, scale: int, penalty: Int64Array, n_candidates: int) -> Int32Array:
    """Return each node's nearest under penalties, the node that never fires included; ties by lowest id."""
    n_neurons = penalty.size
    n_candidates = min(n_candidates, n_neurons)
    nearest = np.full((n_neurons + 1, n_candidates), -1, np.int32)
    nearest[n_neurons] = np.argsort(penalty, kind="stable")[:n_candidates]
    for start in range(0, n_neurons, _ROWS_AT_A_TIME):
        rows = np.arange(start, min(start + _ROWS_AT_A_TIME, n_neurons))
        length = np.zeros((rows.size, n_neurons + 1), np.int64)
        length[:, :n_neurons] = penalty - scale * counts[rows, :n_neurons].astype(np.int64)
        # Ids in the low bits: no two are equal.
        key = (length << 20) + np.arange(n_neurons + 1)
        key[np.arange(rows.size), rows] = np.iinfo(np.int64).max
        best = np.sort(np.partition(key, n_candidates - 1, axis=1)[:, :n_candidates], axis=1)
        nearest[rows] = best & ((1 << 20) - 1)
    return nearest


def _candidates_of_graph(bits: NeuronBits, n_candidates: int, n_neighbors: int = 64) -> Int32Array:
    """Return candidates from the neighbour graph: half of them by count, the others by cosine; -1 where it ends.

    By counts alone all would point to the hottest neurons, which have room beside two others only.
    """
    graph = neighbor_graph(bits, n_neighbors)
    frequency = bits.frequency()
    candidates = np.full((bits.n_neurons + 1, n_candidates), -1, np.int32)
    coldest = np.argsort(frequency, kind="stable")[:n_candidates]
    candidates[-1, : coldest.size] = coldest
    for neuron in range(bits.n_neurons):
        nodes = graph.indices[graph.indptr[neuron] : graph.indptr[neuron + 1]]
        counts = graph.data[graph.indptr[neuron] : graph.indptr[neuron + 1]].astype(np.int64)
        by_count = nodes[np.argsort(-counts, kind="stable")[: n_candidates // 2]]
        by_cosine = nodes[np.argsort(-(counts / np.sqrt(frequency[nodes])), kind="stable")]
        chosen = np.concatenate([by_count, by_cosine[~np.isin(by_cosine, by_count)]])[:n_candidates]
        candidates[neuron, : chosen.size] = chosen
    return candidates
