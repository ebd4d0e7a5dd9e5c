"""Splitting a DRAM budget: evenly as `simulate` does, or where each byte saves most."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from ripple_place.placing.dram.split import (
    CostCurve,
    budget_bytes_of,
    curve_capacities,
    split_by_gain,
    split_evenly,
)


def test_even_shares_and_bytes() -> None:
    """A share of each block; or the same bytes for each, as many whole bundles as fit."""
    sizes, bundle_bytes = {"layers.0": 100, "layers.1": 10}, {"layers.0": 4, "layers.1": 32}
    assert split_evenly(0.29, sizes, bundle_bytes) == {"layers.0": 29, "layers.1": 2}
    assert split_evenly(200, sizes, bundle_bytes) == {"layers.0": 25, "layers.1": 3}
    assert split_evenly(10**6, sizes, bundle_bytes) == sizes
    assert budget_bytes_of(0.5, sizes, bundle_bytes) == 360
    assert budget_bytes_of(200, sizes, bundle_bytes) == 200


def test_every_byte_goes_where_it_saves_most() -> None:
    """Convex curves of blocks with equal bundles: no other split of the budget costs less (all are tried)."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        curves = {}
        for layer in range(3):
            gains = np.sort(rng.random(6))[::-1]
            curves[f"layers.{layer}"] = CostCurve(
                tuple(range(7)), tuple((10 - np.concatenate([[0], np.cumsum(gains)])).tolist())
            )
        for budget in (0, 1, 7, 12, 18, 30):
            capacity = split_by_gain(10 * budget + 9, curves, dict.fromkeys(curves, 10))
            assert sum(capacity.values()) == min(budget, 18)
            cost = sum(curve.cost[capacity[name]] for name, curve in curves.items())
            best = min(
                sum(curve.cost[n] for curve, n in zip(curves.values(), split, strict=True))
                for split in product(range(7), repeat=3)
                if sum(split) <= budget
            )
            assert cost == pytest.approx(best)


def test_steps_that_begin_flat_are_worth_their_slope_to_the_far_end() -> None:
    """A cache that is useless when tiny is judged by what it is worth once it is large enough."""
    curve = CostCurve((0, 10, 20, 30), (100.0, 100.0, 60.0, 60.0))
    assert curve.convex_steps() == [(2.0, 20)]
    steady = CostCurve((0, 10, 20, 30), (100.0, 85.0, 70.0, 55.0))
    sizes = {"layers.0": 1, "layers.1": 1}
    assert split_by_gain(25, {"layers.0": steady, "layers.1": curve}, sizes) == {"layers.0": 5, "layers.1": 20}


def test_bundles_of_different_sizes() -> None:
    """Gain per neuron of cost is gain per byte; what is left over goes to a block whose bundles still fit."""
    curves = {
        "layers.0": CostCurve((0, 4), (10.0, 2.0)),
        "layers.1": CostCurve((0, 100), (10.0, 0.0)),
    }
    assert split_by_gain(90, curves, {"layers.0": 40, "layers.1": 1}) == {"layers.0": 2, "layers.1": 10}


def test_nothing_to_gain() -> None:
    """A block that nothing saves in gets nothing, however large the budget."""
    flat = CostCurve((0, 5, 10), (3.0, 3.0, 3.0))
    assert split_by_gain(100, {"layers.0": flat}, {"layers.0": 1}) == {"layers.0": 0}
    assert curve_capacities(1) == (0, 1)
