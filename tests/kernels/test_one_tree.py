"""Spanning trees over all pairs: of the right weight, and really trees."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.kernels import one_tree as kernels
from tests.reference import hamiltonian_path as reference


def symmetric(rng: np.random.Generator, n: int, high: int) -> np.ndarray:
    """Return random symmetric counts."""
    upper = np.triu(rng.integers(0, high, (n, n)), 1)
    return (upper + upper.T).astype(np.int32)


@pytest.mark.parametrize(("n", "high"), [(2, 5), (3, 2), (9, 3), (30, 1000), (70, 1), (70, 4)])
@pytest.mark.parametrize("spread", [1, 200])
def test_as_heavy_as_kruskals(n: int, high: int, spread: int) -> None:
    """Whatever penalties, ties and zero counts: the weight is the reference's, and that of the edges returned."""
    rng = np.random.default_rng(n + high + spread)
    counts = symmetric(rng, n, high)
    penalty = rng.integers(-spread, spread, n).astype(np.int32)
    remaining, best, parent = np.empty((3, n), np.int32)
    weight = kernels.spanning_tree(counts, 8, penalty, remaining, best, parent)
    weights = 8 * counts.astype(int) - penalty[:, None].astype(int) - penalty
    assert weight == reference.spanning_tree(weights.tolist())
    assert weight == sum(weights[j, parent[j]] for j in range(1, n))
    assert parent[0] == -1
    for neuron in range(n):
        way = [neuron]
        while way[-1] != 0:
            way.append(parent[way[-1]])
            assert len(way) <= n


def test_rows_longer_than_a_chunk() -> None:
    """A star whose middle lies in the third chunk: every neuron hangs on it."""
    n = 2 * kernels.CHUNK + 40
    counts = np.zeros((n, n), np.int32)
    middle = n - 3
    counts[middle] = counts[:, middle] = np.arange(1, n + 1)
    remaining, best, parent = np.empty((3, n), np.int32)
    weight = kernels.spanning_tree(counts, 1, np.zeros(n, np.int32), remaining, best, parent)
    assert weight == n * (n + 1) // 2 - (middle + 1)
    assert set(np.delete(parent, [0, middle]).tolist()) == {middle}
    assert parent[middle] == 0


@pytest.mark.parametrize("n", [1, 63, 64, 130])
def test_mirror(n: int) -> None:
    """Below the diagonal stands what stands above; that and the diagonal stay."""
    counts = np.random.default_rng(n).integers(0, 100, (n, n)).astype(np.int32)
    upper = np.triu(counts)
    kernels.mirror(counts)
    np.testing.assert_array_equal(counts, upper + np.triu(upper, 1).T)
