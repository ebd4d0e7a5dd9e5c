"""Firing counts and the neighbour graph, against sets of neurons; the same whatever the panels and threads."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.graph.neuron_bits import NeuronBits
from tests.reference import coactivation as reference
from tests.trace_builders import bits_of, block_of, planted_clusters, random_activity

ACTIVITIES = {
    "four-neurons": np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]], bool),
    "one-neuron": np.ones((3, 1), bool),
    "two-neurons": np.ones((3, 2), bool),
    "no-token": np.zeros((0, 5), bool),
    "none-fires": np.zeros((9, 5), bool),
    "all-fire": np.ones((9, 70), bool),
    "random": random_activity(np.random.default_rng(0), 90, 70, 0.1),
}
each_activity = pytest.mark.parametrize("active", ACTIVITIES.values(), ids=ACTIVITIES)


def counts_of(active: np.ndarray) -> list[list[int]]:
    """Return the twin's counts."""
    return reference.counts([set(np.flatnonzero(row).tolist()) for row in active], active.shape[1])


@each_activity
def test_frequency(active: np.ndarray) -> None:
    """f(i) is the number of rows in which neuron i fires."""
    frequency = bits_of(active).frequency()
    assert frequency.tolist() == active.sum(axis=0).tolist()
    assert frequency.dtype == np.int64


@each_activity
def test_dense_counts(active: np.ndarray) -> None:
    """All pairs, at and above the diagonal."""
    n_neurons = active.shape[1]
    upper = np.triu_indices(n_neurons)
    counts = bits_of(active).dense_counts()[:n_neurons, :n_neurons]
    np.testing.assert_array_equal(counts[upper], np.array(counts_of(active))[upper])


def test_pair_counts_over_rows() -> None:
    """Over all rows, and over either part of a trace that is split at a multiple of 64; the parts add up."""
    rng = np.random.default_rng(0)
    active = random_activity(rng, 200, 20)
    bits = bits_of(active)
    first, second = rng.integers(0, 20, (2, 50)).astype(np.int32)
    for rows in (None, slice(0, 128), slice(128, 200), slice(64, None), slice(None, 64), slice(0, 0)):
        part = active[rows or slice(None)].astype(int)
        assert bits.pair_counts(first, second, rows).tolist() == (part[:, first] * part[:, second]).sum(axis=0).tolist()


def test_select() -> None:
    """The bits of some neurons in another order are those of a trace with these columns."""
    active = random_activity(np.random.default_rng(0), 90, 70)
    neurons = np.array([69, 3, 5], np.int32)
    selected, expected = bits_of(active).select(neurons), bits_of(active[:, neurons])
    np.testing.assert_array_equal(selected.words, expected.words)
    assert (selected.n_neurons, selected.n_rows) == (3, 90)


def test_bits_of_a_mapped_trace(tmp_path: object) -> None:
    """A read-only, strided view of a file is as good as an array."""
    active = random_activity(np.random.default_rng(0), 20, 16)
    block = block_of(active)
    block.active.flags.writeable = False
    np.testing.assert_array_equal(NeuronBits.of_block(block).frequency(), active.sum(axis=0))


@each_activity
@pytest.mark.parametrize("k", [1, 3, 100])
def test_neighbor_graph(active: np.ndarray, k: int) -> None:
    """An edge wherever one is among the other's best k, with its exact count; symmetric, sorted, no loops."""
    graph = neighbor_graph(bits_of(active), k)
    edges = graph.tocoo()
    found = dict(zip(zip(*(axis.tolist() for axis in edges.coords), strict=True), edges.data.tolist(), strict=True))
    # Asking for more neighbours than there are is asking for all.
    assert found == reference.neighbor_graph(counts_of(active), max(1, min(k, active.shape[1] - 1)))
    assert graph.shape == (active.shape[1], active.shape[1])
    assert graph.has_sorted_indices
    assert graph.data.dtype == np.int32


def test_ties_keep_the_lowest() -> None:
    """By hand: all of five neurons fire together; with one neighbour each, all choose 0, and 0 chooses 1."""
    graph = neighbor_graph(bits_of(np.ones((2, 5))), 1)
    assert graph.toarray().tolist() == [
        [0, 2, 2, 2, 2], [2, 0, 0, 0, 0], [2, 0, 0, 0, 0], [2, 0, 0, 0, 0], [2, 0, 0, 0, 0],
    ]  # fmt: skip


def graph_bytes(active: np.ndarray, panel_bytes: int) -> bytes:
    """Return all arrays of the graph."""
    graph = neighbor_graph(bits_of(active), 5, panel_bytes=panel_bytes)
    return graph.indptr.tobytes() + graph.indices.tobytes() + graph.data.tobytes()


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("panel_bytes", [1, 2 * 64 * 192 * 4, 2**29])
def test_same_bytes_whatever_panels_and_threads(n_threads: int, panel_bytes: int) -> None:
    """Three panels of 64 neurons, one of 128 and one of 64, or one: memory and cores must not change the result."""
    active = planted_clusters(np.random.default_rng(0), n_clusters=15, cluster_size=10, n_rows=60)[0]
    before = numba.get_num_threads()
    expected = graph_bytes(active, 2**29)
    numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
    try:
        assert graph_bytes(active, panel_bytes) == expected
    finally:
        numba.set_num_threads(before)
