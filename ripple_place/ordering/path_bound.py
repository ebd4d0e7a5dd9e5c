"""How few reads any order can need: the Held-Karp bound on the Hamiltonian path, over all pairs of neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.kernels import one_tree as kernels

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array, Int64Array
    from ripple_place.graph.neuron_bits import NeuronBits


MAX_SCALE = 64
"""Penalties are resolved to 1/64 of a count; coarser only where a trace has more than two million rows."""
MAX_SCALED_COUNT = 1 << 27
MAX_PENALTY = 1 << 28
MAX_DEGREE_STEP = 3
"""What a neuron counts at most beyond two links: the hubs of an early tree would overshoot for many steps."""
MOMENTUM = 0.3
"""Share of the previous step's degrees in a step, as in LKH (K. Helsgaun, EJOR 126 (2000) 106-130)."""
CONVERGED_GAIN = 1e-3
"""The ascent has converged if its last tenth raised the bound by less."""
_ROWS_AT_A_TIME = 256


@dataclass(frozen=True, eq=False)
class PairTable:
    """All pairs of a block's neurons that ever fire. Those that never do cost nothing at either end of a path.

    Attributes
    ----------
    neurons : ndarray of shape (n_firing,), int32
        Ascending.
    bits : NeuronBits
        Of these neurons.
    counts : ndarray of shape (n_padded, n_padded), int32
        Symmetric, 0 on the diagonal. Costs 4 n_firing^2 bytes.
    """

    neurons: Int32Array
    bits: NeuronBits
    counts: Int32Array

    @classmethod
    def of_bits(cls, bits: NeuronBits) -> PairTable:
        """Count all pairs."""
        neurons = np.flatnonzero(bits.frequency() > 0).astype(np.int32)
        firing = bits.select(neurons)
        counts = firing.dense_counts()
        kernels.mirror(counts)
        np.fill_diagonal(counts, 0)
        return cls(neurons, firing, counts)


@dataclass(frozen=True, eq=False)
class PathBound:
    """A lower bound on the reads of any order.

    Attributes
    ----------
    reads : float
        Reads per token that no order can fall below on this trace.
    penalty : ndarray of shape (n_firing,), int32
        The multipliers that prove it, in units of 1 / `scale` counts.
    scale : int
    n_steps : int
    last_tenth_gain : float
        By how much of the bound the last tenth of the steps raised it.
    """

    reads: float
    penalty: Int32Array
    scale: int
    n_steps: int
    last_tenth_gain: float

    @property
    def is_converged(self) -> bool:
        """Tell whether more steps would hardly raise it."""
        return self.last_tenth_gain < CONVERGED_GAIN


def path_bound(table: PairTable, kept: int, n_steps: int = 300) -> PathBound:
    """Return the Held-Karp lower bound on the expected reads of an order.

    Parameters
    ----------
    table : PairTable
    kept : int
        Co-firings of neighbours (reads saved, over all rows) of some order, the better the faster the ascent.
    n_steps : int
        Spanning trees to compute; fewer if the bound meets the order.

    Raises
    ------
    UsageError
        If `n_steps` is not positive.

    Notes
    -----
    A path through n neurons is a tour through them and a node that never fires. A tour is a 1-tree: a spanning tree
    of the neurons, and two links of the special node, here the one that never fires. With a penalty on each link of
    neuron i and twice that given back, all tours keep their value, and the best 1-tree bounds the co-firings that an
    order can keep [1]_, for whatever penalties. They descend by subgradients with Polyak's step towards `kept`,
    shrinking quadratically to zero, each neuron's in proportion to the counts of its two most frequent companions,
    since counts range over three orders of magnitude; where that overshoots, from the best
    penalties on by half the step. Trees are over all pairs (Prim's algorithm, O(n^2) a step).
    Values are integers, and what is kept is rounded down to whole reads: the bound is exact, and the same everywhere.

    References
    ----------
    .. [1] M. Held, R. M. Karp, The traveling-salesman problem and minimum spanning trees: part II, Mathematical
       Programming 1 (1971) 6-25, doi:10.1007/BF01584070.
    """
    if n_steps < 1:
        raise UsageError(
            "the path's bound", found=f"{n_steps} steps", expected="at least 1", remedy="leave it at the default"
        )
    total, n_rows = int(table.bits.frequency().sum()), max(1, table.bits.n_rows)
    n_neurons = table.neurons.size
    scale = _scale(table.bits.n_rows)
    if n_neurons < 2:
        return PathBound(total / n_rows, np.zeros(n_neurons, np.int32), scale, 0, 0.0)
    companions = _two_best(table)
    penalty = 0.2 * scale * companions
    best_penalty = np.rint(penalty).astype(np.int32)
    previous = best_excess = np.zeros(n_neurons, np.int64)
    best = early = None
    caution, best_norm = 1.0, 1
    step = 0
    for step in range(1, n_steps + 1):
        rounded = np.clip(np.rint(penalty), -MAX_PENALTY, MAX_PENALTY).astype(np.int32)
        value, excess = _one_tree(table.counts, scale, rounded)
        if best is None or value < best:
            best, best_penalty = value, rounded
        if step <= max(1, n_steps - n_steps // 10):
            early = best
        if best // scale <= kept:
            break
        excess = np.minimum(excess, MAX_DEGREE_STEP)
        # Sums of integers and element-wise arithmetic only: nothing depends on an order of summation.
        norm = int((companions * excess * excess).sum())
        if norm == 0:
            break
        if value - kept * scale > 2 * (best - kept * scale):
            # Far overshot: back to the best penalties, and on from there by shorter steps.
            penalty, previous, caution = best_penalty.astype(np.float64), best_excess, caution / 2
            excess, norm = best_excess, best_norm
        elif value == best:
            best_excess, best_norm = excess, norm
        length = caution * (1 - (step - 1) / n_steps) ** 2 * (best - kept * scale) / norm
        penalty = penalty + length * (companions * ((1 - MOMENTUM) * excess + MOMENTUM * previous))
        previous = excess
    assert best is not None
    assert early is not None
    reads = total - best // scale
    gain = (early // scale - best // scale) / max(1, reads)
    return PathBound(reads / n_rows, best_penalty, scale, step, gain)


def _scale(n_rows: int) -> int:
    scale = MAX_SCALE
    while scale > 1 and scale * n_rows > MAX_SCALED_COUNT:
        scale //= 2
    return scale


def _two_best(table: PairTable) -> Int64Array:
    """Return the sum of each neuron's two largest counts, plus 2."""
    n_neurons = table.neurons.size
    best = np.empty(n_neurons, np.int64)
    for start in range(0, n_neurons, _ROWS_AT_A_TIME):
        rows = table.counts[start : min(start + _ROWS_AT_A_TIME, n_neurons), :n_neurons]
        best[start : start + len(rows)] = np.partition(rows, n_neurons - 2, axis=1)[:, -2:].sum(axis=1)
    return best + 2


def _one_tree(counts: Int32Array, scale: int, penalty: Int32Array) -> tuple[int, Int64Array]:
    """Return the value of the best 1-tree, in units of 1 / scale, and by how much each neuron's links exceed two."""
    n_neurons = penalty.size
    remaining, best, parent = np.empty((3, n_neurons), np.int32)
    weight: Any = kernels.spanning_tree(counts, scale, penalty, remaining, best, parent)
    ends = np.argsort(penalty, kind="stable")[:2]
    excess = np.bincount(parent[1:], minlength=n_neurons) - 1
    excess[0] -= 1
    excess[ends] += 1
    value = int(weight) - int(penalty[ends].sum(dtype=np.int64)) + 2 * int(penalty.sum(dtype=np.int64))
    return value, excess
