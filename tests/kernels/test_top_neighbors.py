"""Each neuron's best companions and the graph of them, against sorting; whatever the ranks, panels and threads."""

from __future__ import annotations

import os

import numba
import numpy as np
import pytest

from ripple_place.kernels import top_neighbors as kernels
from tests.reference import coactivation as reference

COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"


def symmetric_counts(rng: np.random.Generator, n_neurons: int, highest: int) -> np.ndarray:
    """Return random counts, full of ties and of pairs that never fire together."""
    upper = np.triu(rng.integers(0, highest + 1, (n_neurons, n_neurons)), 1)
    return (upper + upper.T).astype(np.int32)


def heaps_of(counts: np.ndarray, neurons: np.ndarray, k: int, n_panel: int) -> np.ndarray:
    """Return the heaps by rank; what the kernel must not read is garbage."""
    n_neurons = neurons.size
    ranked = np.full((n_neurons, n_neurons + 5), 10**6, np.int32)
    ranked[:, :n_neurons] = np.where(
        np.triu(np.ones((n_neurons, n_neurons), bool), 1), counts[np.ix_(neurons, neurons)], 10**6
    )
    heaps = np.zeros((n_neurons, k), np.int64)
    for start in range(0, n_neurons, n_panel):
        kernels.update_top_neighbors(np.ascontiguousarray(ranked[start : start + n_panel]), start, neurons, heaps)
    return heaps


def names_of(heap: np.ndarray) -> list[int]:
    """Return the companions in a heap, best first."""
    return [kernels.LOW_BITS - (int(key) & kernels.LOW_BITS) for key in sorted(heap, reverse=True) if key]


CASES = [(1, 3, 1), (2, 1, 1), (7, 0, 2), (40, 3, 5), (40, 1000, 5), (33, 2, 50), (70 if COMPILED else 20, 1, 3)]


@pytest.mark.parametrize(("n_neurons", "highest", "k"), CASES)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_heaps(n_neurons: int, highest: int, k: int, n_threads: int) -> None:
    """The best k of each neuron, ties to the lowest id and not the lowest rank, in one panel or several."""
    rng = np.random.default_rng(n_neurons)
    counts = symmetric_counts(rng, n_neurons, highest)
    expected = reference.top_neighbors(counts.tolist(), k)
    before = numba.get_num_threads()
    numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
    try:
        for neurons in (np.arange(n_neurons, dtype=np.int32), rng.permutation(n_neurons).astype(np.int32)):
            for n_panel in (n_neurons, 16, 3):
                heaps = heaps_of(counts, neurons, k, n_panel)
                assert {int(i): names_of(heap) for i, heap in zip(neurons, heaps, strict=True)} == dict(
                    enumerate(expected)
                )
    finally:
        numba.set_num_threads(before)


def test_ties_go_to_the_lowest_neuron() -> None:
    """By hand: all of 9 neurons fire once together, so each one's best two are 0 and 1, or what comes next."""
    counts = 1 - np.eye(9, dtype=np.int32)
    tops = [names_of(heap) for heap in heaps_of(counts, np.arange(9, dtype=np.int32), 2, 9)]
    assert tops == [[1, 2], [0, 2], *[[0, 1]] * 7]


@pytest.mark.parametrize(("n_neurons", "highest", "k"), CASES)
def test_edges(n_neurons: int, highest: int, k: int) -> None:
    """Rows of the symmetric graph: each edge once a side with its count, ascending; some neurons have no rank."""
    rng = np.random.default_rng(n_neurons)
    counts = symmetric_counts(rng, n_neurons, highest)
    unranked = rng.permutation(n_neurons)[: n_neurons // 3]
    counts[unranked] = counts[:, unranked] = 0
    neurons = rng.permutation(np.setdiff1d(np.arange(n_neurons, dtype=np.int32), unranked))
    rank_of = np.zeros(n_neurons, np.int32)
    rank_of[neurons] = np.arange(neurons.size, dtype=np.int32)
    heaps = heaps_of(counts, neurons, k, 8)
    degree = np.zeros(n_neurons, np.int64)
    companions = kernels.Companions(heaps, neurons, rank_of)
    kernels.count_edges(companions, degree)
    starts = np.concatenate(([0], np.cumsum(degree)))
    indices, found = np.full((2, starts[-1]), -1, np.int32)
    kernels.fill_edges(
        companions, starts[:-1].copy(), starts[:-1].copy(), np.empty(starts[-1], np.int64), indices, found
    )
    first = np.repeat(np.arange(n_neurons), degree)
    edges = list(zip(first.tolist(), indices.tolist(), strict=True))
    assert edges == sorted(edges)
    assert dict(zip(edges, found.tolist(), strict=True)) == reference.neighbor_graph(counts.tolist(), k)
