"""The register tile: 4 x 4 pairs of bit rows at once, against numpy's popcount of ANDs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from ripple_place.kernels.pair_tile import N_LANES, N_ROWS, add_pair_counts


@njit
def add(bits: Any, i: int, j: int, word_start: int, word_end: int, counts: Any, p: int, q: int) -> None:
    """Call the tile from compiled code, where it is LLVM vector operations."""
    add_pair_counts(bits, i, j, word_start, word_end, counts, p, q)


def expected_counts(bits: np.ndarray, i: int, j: int, words: slice) -> np.ndarray:
    """Return the counts of rows i.. with rows j.. over some words."""
    first, second = bits[i : i + N_ROWS, None, words], bits[None, j : j + N_ROWS, words]
    return np.bitwise_count(first & second).sum(axis=2, dtype=np.int64)


@pytest.mark.parametrize(("word_start", "word_end"), [(0, 8), (8, 16), (0, 24), (16, 16)])
@pytest.mark.parametrize(("i", "j"), [(0, 8), (4, 4), (8, 0)])
@pytest.mark.parametrize("kind", ["random", "zeros", "ones"])
def test_tile(i: int, j: int, word_start: int, word_end: int, kind: str) -> None:
    """Every pair of the tile, over part of the words, none of them or all; nothing else is touched."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, (12, 3 * N_LANES), np.uint64)
    if kind != "random":
        bits[:] = 0 if kind == "zeros" else 2**64 - 1
    counts = np.full((8, 16), 100, np.int32)
    expected = counts.copy()
    expected[2:6, 5:9] += expected_counts(bits, i, j, slice(word_start, word_end)).astype(np.int32)
    add(bits, i, j, word_start, word_end, counts, 2, 5)
    np.testing.assert_array_equal(counts, expected)


def test_its_twin() -> None:
    """The uncompiled function is the reference that `NUMBA_DISABLE_JIT` runs: it must be the same."""
    bits = np.random.default_rng(1).integers(0, 2**64, (8, N_LANES), np.uint64)
    compiled, plain = np.zeros((4, 4), np.int32), np.zeros((4, 4), np.int32)
    add(bits, 0, 4, 0, N_LANES, compiled, 0, 0)
    add_pair_counts(bits, 0, 4, 0, N_LANES, plain, 0, 0)
    np.testing.assert_array_equal(compiled, plain)


def test_one_bit_at_a_time() -> None:
    """A bit in any word and lane is seen, in both rows of its pair and in no other."""
    for word in range(N_LANES):
        bits = np.zeros((8, N_LANES), np.uint64)
        bits[1, word] = bits[6, word] = np.uint64(1) << np.uint64(8 * word + 7)
        counts = np.zeros((4, 4), np.int32)
        add(bits, 0, 4, 0, N_LANES, counts, 0, 0)
        assert counts.sum() == counts[1, 2] == 1
