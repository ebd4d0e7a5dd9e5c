"""All pairs panel by panel: the same counts whichever way a tile is counted."""

from __future__ import annotations

import os

import numpy as np
import pytest

from ripple_place.graph.pair_panels import PairPanels
from tests.reference import coactivation as reference
from tests.trace_builders import bits_of, planted_clusters, random_activity

COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"


def skewed_activity() -> np.ndarray:
    """Return neurons of three tiles that fire for all tokens, some, few or none, in no order."""
    rng = np.random.default_rng(0)
    n_neurons = 700 if COMPILED else 270
    share = rng.permutation(np.concatenate([[1.0, 0.0, 0.0], np.geomspace(0.9, 0.002, n_neurons - 3)]))
    return rng.random((1100 if COMPILED else 70, n_neurons)) < share


ACTIVITIES = {
    "one-neuron": np.ones((3, 1), bool),
    "no-token": np.zeros((0, 5), bool),
    "none-fires": np.zeros((9, 5), bool),
    "all-fire": np.ones((9, 70), bool),
    "random": random_activity(np.random.default_rng(0), 90, 70, 0.1),
    "clusters": planted_clusters(np.random.default_rng(0))[0][:100],
    "skewed": skewed_activity(),
}


@pytest.mark.parametrize("active", ACTIVITIES.values(), ids=ACTIVITIES)
@pytest.mark.parametrize("increments", [0.0, 0.1, 1.0, 1e9], ids=["popcounts", "more-popcounts", "even", "lists"])
def test_counts(active: np.ndarray, increments: float) -> None:
    """All by popcounts, all by lists, or a staircase between: every pair of neurons that fire, once, exactly."""
    n_neurons = active.shape[1]
    matrix = np.array(reference.counts([set(np.flatnonzero(row).tolist()) for row in active], n_neurons))
    matrix = matrix.reshape(n_neurons, n_neurons)
    frequency = matrix.diagonal()
    for neurons in (None, np.arange(n_neurons, dtype=np.int32)[::3]):
        pairs = PairPanels(bits_of(active), neurons, None, increments)
        kept = range(n_neurons) if neurons is None else neurons.tolist()
        firing = [i for i in kept if frequency[i] > 0]
        assert pairs.neurons.tolist() == sorted(firing, key=lambda i: (-frequency[i], i))
        expected = matrix[np.ix_(pairs.neurons, pairs.neurons)]
        for panel_bytes in (1, 4 * 128 * pairs.words.shape[0], 2**29):
            n_seen = 0
            for start, panel in pairs.panels(panel_bytes):
                assert start == n_seen
                n_seen += panel.shape[0]
                for i in range(start, min(n_seen, pairs.neurons.size)):
                    np.testing.assert_array_equal(panel[i - start, i + 1 : pairs.neurons.size], expected[i, i + 1 :])
            assert n_seen >= pairs.neurons.size


@pytest.mark.parametrize("increments", [0.0, 1e9])
def test_both_ways_are_taken(increments: float) -> None:
    """The parameter decides: with 0 nothing is listed, with very much all firings are."""
    active = ACTIVITIES["skewed"]
    pairs = PairPanels(bits_of(active), None, None, increments)
    assert pairs.n_listed == (active.sum() if increments else 0)
