"""Ripple's greedy path: edge for edge the published algorithm, from all pairs; nearly so from a sparse graph."""

from __future__ import annotations

import os

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.ordering import greedy_path as module
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.objective import reads_per_token
from tests.reference import coactivation
from tests.reference import greedy_path as reference
from tests.trace_builders import bits_of, planted_chain, planted_clusters, random_activity

N_EXAMPLES = 60 if os.environ.get("NUMBA_DISABLE_JIT", "0") == "0" else 12


def expected_order(active: np.ndarray) -> list[int]:
    """Return the order that the heap over all pairs gives."""
    tokens = [set(np.flatnonzero(row).tolist()) for row in active]
    return reference.greedy_path(coactivation.counts(tokens, active.shape[1]))


@given(st.integers(0, 12), st.integers(1, 20), st.sampled_from([0.05, 0.2, 0.5, 0.9]), st.integers(0, 10_000))
@settings(max_examples=N_EXAMPLES, deadline=None)
def test_equal_to_the_published_algorithm(n_rows: int, n_neurons: int, share: float, seed: int) -> None:
    """Small blocks are full of ties and of neurons that never fire together: the order is equal all the same."""
    active = random_activity(np.random.default_rng(seed), n_rows, n_neurons, share)
    assert greedy_path(bits_of(active)).tolist() == expected_order(active)


@pytest.mark.parametrize("seed", range(8))
def test_equal_on_clusters_with_dead_neurons(seed: int) -> None:
    """The same with structure: distinct counts, and a third of the block dead."""
    rng = np.random.default_rng(seed)
    active = planted_clusters(rng, n_clusters=5, cluster_size=6, n_rows=90)[0]
    active[:, rng.permutation(30)[:10]] = False
    assert greedy_path(bits_of(active)).tolist() == expected_order(active)


@pytest.mark.parametrize(
    "active",
    [
        np.ones((1, 1)),
        np.ones((3, 2)),
        np.zeros((3, 2)),
        np.zeros((0, 4)),
        np.ones((5, 9)),
        np.zeros((5, 9)),
        np.eye(7),
    ],
    ids=["one-neuron", "two", "two-dead", "no-tokens", "all-fire", "none-fires", "never-together"],
)
@pytest.mark.parametrize("max_pairs", [3, 10**6])
def test_degenerate_blocks(active: np.ndarray, max_pairs: int) -> None:
    """One neuron, none that fires, all alike: equal to the published algorithm, all pairs at once or three."""
    order = greedy_path(bits_of(active), max_pairs=max_pairs)
    assert order.tolist() == expected_order(active.astype(bool))
    assert order.dtype == np.int32


def test_four_neurons_by_hand() -> None:
    """{0, 2}, {}, {0, 1, 3}: pairs 01, 02, 03, 13 once each; 01 and 02 are linked, 03 is too much, 13 is linked."""
    active = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]])
    assert greedy_path(bits_of(active)).tolist() == [2, 0, 1, 3]


def test_planted_chain_is_found() -> None:
    """Each token fires two neighbours of a hidden chain: greedy finds it, and every token is one read, the optimum."""
    for seed in range(3):
        active, _ = planted_chain(np.random.default_rng(seed), 100, 300)
        bits = bits_of(active)
        assert reads_per_token(bits, greedy_path(bits)) == 1


def test_never_worse_than_it_says() -> None:
    """On clusters it reads far less than checkpoint order, and close to one read for each firing cluster."""
    active, cluster_of = planted_clusters(np.random.default_rng(0), noise=0.0)
    bits = bits_of(active)
    original, greedy = reads_per_token(bits, np.arange(64, dtype=np.int32)), reads_per_token(bits, greedy_path(bits))
    by_cluster = reads_per_token(bits, np.argsort(cluster_of, kind="stable").astype(np.int32))
    assert greedy <= by_cluster < original / 2


@pytest.mark.parametrize(("max_pairs", "first_share"), [(40, 1 / 16), (1000, 1 / 16), (1000, 1.0), (10**6, 0.5)])
@pytest.mark.parametrize("skewed", [False, True])
def test_however_few_pairs_are_held(
    max_pairs: int, first_share: float, skewed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs picked a part at a time, hottest neurons first or not, give the published algorithm's order, ties and all.

    In the skewed block hot neurons are among everyone's most frequent companions and have no link left to give: a graph
    of a few neighbours each knows nothing else.
    """
    monkeypatch.setattr(module, "FIRST_SHARE", first_share)
    rng = np.random.default_rng(0)
    active = planted_clusters(rng, n_clusters=8, cluster_size=8, n_rows=200)[0]
    active[:, :9] = False
    if skewed:
        active |= rng.random(active.shape) < rng.permutation(np.geomspace(1, 0.001, 64))
    assert greedy_path(bits_of(active), max_pairs=max_pairs).tolist() == expected_order(active)


def test_bits_come_before_a_graph() -> None:
    """Where there are activations, a graph of few neighbours changes nothing."""
    active = planted_clusters(np.random.default_rng(0), n_clusters=5, cluster_size=6, n_rows=90)[0]
    bits = bits_of(active)
    assert greedy_path(bits, neighbor_graph(bits, 1)).tolist() == greedy_path(bits).tolist()


def test_a_complete_graph_gives_the_same_path() -> None:
    """If an imported graph holds every pair, its edges are all that is needed."""
    active = planted_clusters(np.random.default_rng(1), n_clusters=7, cluster_size=10, n_rows=200)[0]
    bits = bits_of(active)
    assert greedy_path(None, neighbor_graph(bits, 69)).tolist() == greedy_path(bits).tolist()


def test_graph_without_bits() -> None:
    """Imported counts: fragments of the graph, joined by lowest ids."""
    active, _ = planted_chain(np.random.default_rng(0), 30, 200)
    bits = bits_of(active)
    order = greedy_path(None, neighbor_graph(bits, 4))
    assert sorted(order.tolist()) == list(range(30))
    assert reads_per_token(bits, order) == 1


def test_nothing_to_go_by() -> None:
    """Neither bits nor a graph is a mistake of the caller."""
    with pytest.raises(ValueError, match="needs activation bits or a neighbour graph"):
        greedy_path(None)


@pytest.mark.parametrize("max_pairs", [40, 10**6])
def test_same_order_whatever_the_threads(max_pairs: int) -> None:
    """Counts are exact integers and ties go by id: cores must not show in the result."""
    active = planted_clusters(np.random.default_rng(3), n_clusters=10, cluster_size=12, n_rows=100)[0]
    before = numba.get_num_threads()
    orders = []
    for n_threads in (1, 2):
        numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
        orders.append(greedy_path(bits_of(active), max_pairs=max_pairs).tolist())
    numba.set_num_threads(before)
    assert orders[0] == orders[1]
