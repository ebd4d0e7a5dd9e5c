"""How a DRAM budget is split over the blocks: evenly, or by what the next neuron in DRAM saves."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CURVE_SHARES = (0.0, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
"""Shares of a block in DRAM at which its cost is measured: closer where curves are steep."""


@dataclass(frozen=True)
class CostCurve:
    """What a block costs by the neurons of it that DRAM holds.

    Attributes
    ----------
    n_neurons : tuple of int
        Ascending from 0.
    cost : tuple of float
        At each; in neurons read, as lambda x reads + neurons read.
    """

    n_neurons: tuple[int, ...]
    cost: tuple[float, ...]

    def convex_steps(self) -> list[tuple[float, int]]:
        """Return gain per neuron, and neurons, along the lower convex hull: gains descend, and are positive."""
        hull: list[tuple[int, float]] = []
        for point in zip(self.n_neurons, self.cost, strict=True):
            while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-2], point):
                hull.pop()
            hull.append(point)
        steps = [(-_slope(hull[i], hull[i + 1]), hull[i + 1][0] - hull[i][0]) for i in range(len(hull) - 1)]
        return [(gain, n_neurons) for gain, n_neurons in steps if gain > 0]


def budget_bytes_of(budget: float | int, n_neurons: Mapping[str, int], bundle_bytes: Mapping[str, int]) -> int:
    """Return a budget in bytes: as given, or a share (float) of all bundles.

    >>> budget_bytes_of(0.29, {"layers.0": 100}, {"layers.0": 4})
    116
    """
    if isinstance(budget, int):
        return budget
    # 29 % of 100 neurons is 28.999... in floating point.
    return int(budget * sum(n * bundle_bytes[name] for name, n in n_neurons.items()) + 1e-6)


def split_evenly(budget: float | int, n_neurons: Mapping[str, int], bundle_bytes: Mapping[str, int]) -> dict[str, int]:
    """Return how many neurons of each block DRAM holds: a share of each (float), or as many bytes for each (int)."""
    if isinstance(budget, float):
        return {name: int(budget * n + 1e-6) for name, n in n_neurons.items()}
    per_block_bytes = budget // len(n_neurons)
    return {name: min(n, per_block_bytes // bundle_bytes[name]) for name, n in n_neurons.items()}


def split_by_gain(
    budget_bytes: int, curves: Mapping[str, CostCurve], bundle_bytes: Mapping[str, int]
) -> dict[str, int]:
    """Return how many neurons of each block DRAM holds if each byte goes where it saves most flash time.

    Parameters
    ----------
    budget_bytes : int
    curves : mapping of str to CostCurve
        By block. A neuron's worth of cost takes as long to read as a neuron's worth of DRAM is large, so that gain per
        byte is gain per neuron, whatever the bundles of the block.
    bundle_bytes : mapping of str to int

    Notes
    -----
    Greedy on the convex hulls, which is optimal for convex curves but for the rest that is smaller than a bundle; ties
    go to the first block. Neurons that would save nothing stay out.
    """
    capacity = dict.fromkeys(curves, 0)
    steps = {name: curve.convex_steps() for name, curve in curves.items()}
    heap: list[tuple[float, int, str, int]] = []
    for place, name in enumerate(curves):
        if steps[name]:
            heapq.heappush(heap, (-steps[name][0][0], place, name, 0))
    left_bytes = budget_bytes
    while heap:
        _, place, name, index = heapq.heappop(heap)
        wanted = steps[name][index][1]
        n_neurons = min(wanted, left_bytes // bundle_bytes[name])
        capacity[name] += n_neurons
        left_bytes -= n_neurons * bundle_bytes[name]
        if n_neurons == wanted and index + 1 < len(steps[name]):
            heapq.heappush(heap, (-steps[name][index + 1][0], place, name, index + 1))
    return capacity


def curve_capacities(n_neurons: int) -> tuple[int, ...]:
    """Return the capacities at which a block's cost is measured.

    >>> curve_capacities(24)
    (0, 1, 2, 3, 4, 7, 9, 14, 19, 24)
    """
    return tuple(sorted({int(share * n_neurons + 1e-6) for share in CURVE_SHARES}))


def _slope(first: Sequence[float], second: Sequence[float]) -> float:
    return (second[1] - first[1]) / (second[0] - first[0])
