"""Popcount and trailing zeros: as Python, and compiled."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from ripple_place.kernels.bits import popcount, prefetch, trailing_zeros

WORDS = [1, 2, 3, 0x80, 0xFF, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 2, 2**64 - 1, 0x5555_5555_5555_5555]


@njit
def compiled_popcount(word: int) -> int:
    """Call it from compiled code."""
    return popcount(word)


@njit
def compiled_trailing_zeros(word: int) -> int:
    """Call it from compiled code."""
    return trailing_zeros(word)


@njit
def compiled_prefetch(array: np.ndarray, position: int) -> int:
    """Call it from compiled code."""
    prefetch(array, position)
    return array[0]


@pytest.mark.parametrize("word", [0, *WORDS])
def test_popcount(word: int) -> None:
    """The one instruction counts what the digits say, with the highest bit set too."""
    expected = f"{word:b}".count("1")
    assert popcount(word) == popcount(np.uint64(word)) == expected
    assert compiled_popcount(np.uint64(word)) == expected


@pytest.mark.parametrize("word", WORDS)
def test_trailing_zeros(word: int) -> None:
    """The same for the position of the lowest set bit."""
    expected = len(f"{word:b}") - len(f"{word:b}".rstrip("0"))
    assert trailing_zeros(word) == trailing_zeros(np.uint64(word)) == expected
    assert compiled_trailing_zeros(np.uint64(word)) == expected


def test_random_words() -> None:
    """Compared with numpy's own count over words of every density."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**64, 200, np.uint64) >> rng.integers(0, 64, 200).astype(np.uint64)
    assert [compiled_popcount(word) for word in words] == np.bitwise_count(words).tolist()
    for word in words[words > 0]:
        assert int(word) >> compiled_trailing_zeros(word) & 1
        assert int(word) & ((1 << int(compiled_trailing_zeros(word))) - 1) == 0


@pytest.mark.parametrize("kind", [np.uint16, np.int64])
def test_prefetch(kind: type) -> None:
    """Asking for a cache line changes nothing, within the array or past its end."""
    array = np.arange(7, 107, dtype=kind)
    for position in (0, 99, 100, 10**6):
        assert compiled_prefetch(array, position) == 7
        prefetch(array, position)
    assert array.tolist() == list(range(7, 107))
