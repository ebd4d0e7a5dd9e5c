"""Orders that look at no pair."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.ordering.baselines import frequency_order, original_order, random_order


@pytest.mark.parametrize("n_neurons", [1, 2, 100])
def test_original_order(n_neurons: int) -> None:
    """Checkpoint order is identity."""
    assert original_order(n_neurons).tolist() == list(range(n_neurons))
    assert original_order(n_neurons).dtype == np.int32


@pytest.mark.parametrize("n_neurons", [1, 2, 100])
def test_random_order(n_neurons: int) -> None:
    """A permutation; the same generator gives the same, another another."""
    orders = [random_order(n_neurons, np.random.default_rng(seed)).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == sorted(orders[2]) == list(range(n_neurons))
    assert n_neurons < 100 or orders[0] != orders[2]


def test_frequency_order() -> None:
    """Hottest first, ties and dead neurons by lowest id; counts near 2**62 must not wrap."""
    assert frequency_order(np.array([3, 0, 2**62, 3, 0, 9])).tolist() == [2, 5, 0, 3, 1, 4]
    assert frequency_order(np.array([3, 1])).dtype == np.int32
