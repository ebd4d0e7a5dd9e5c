"""Nearest neighbours by cosine, against the definition."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.ordering.neighbors import nearest_by_cosine
from tests.trace_builders import bits_of, random_activity


@pytest.mark.parametrize(("n_neurons", "n_neighbors"), [(2, 1), (30, 4), (65, 8), (600, 5)])
def test_equal_to_the_definition(n_neurons: int, n_neighbors: int) -> None:
    """Best first, ties by lowest neuron, over more neurons than are handled at a time."""
    active = random_activity(np.random.default_rng(n_neurons), 40, n_neurons, 0.1)
    together = active.T.astype(np.int64) @ active
    frequency = np.maximum(active.sum(axis=0), 1)
    cosine = together**2 / (frequency[:, None] * frequency)
    np.fill_diagonal(cosine, 0)
    for neuron, found in enumerate(nearest_by_cosine(bits_of(active), n_neighbors)):
        expected = [j for j in np.argsort(-cosine[neuron], kind="stable")[:n_neighbors] if cosine[neuron, j] > 0]
        assert found.tolist() == expected + [-1] * (n_neighbors - len(expected))


@pytest.mark.parametrize("n_neurons", [1, 3])
def test_neurons_without_company(n_neurons: int) -> None:
    """One neuron alone, or none that fires: no neighbours."""
    assert (nearest_by_cosine(bits_of(np.zeros((5, n_neurons), bool)), 4) == -1).all()
