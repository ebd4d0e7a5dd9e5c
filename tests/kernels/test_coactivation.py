"""The counting kernels against plain Python, on random and degenerate activity, whatever panels and threads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numba
import numpy as np
import pytest

from ripple_place.kernels import coactivation as kernels
from tests.reference import coactivation as reference
from tests.trace_builders import pack, random_activity

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
"""Otherwise the kernels run as plain Python, a thousand times slower and on one thread."""


def activities() -> dict[str, np.ndarray]:
    """Return activity of every shape that has gone wrong somewhere: padding, emptiness, ties."""
    rng = np.random.default_rng(0)
    some_dead = random_activity(rng, 70, 67)
    some_dead[:, rng.permutation(67)[:30]] = False
    blocks = {
        "one neuron": random_activity(rng, 70, 1, 0.5),
        "one token": random_activity(rng, 1, 70, 0.5),
        "one of each": np.ones((1, 1), bool),
        "no token": np.zeros((0, 9), bool),
        "none fires": np.zeros((65, 9), bool),
        "all fire": np.ones((65, 66), bool),
        "some dead": some_dead,
        "7 neurons": random_activity(rng, 63, 7, 0.5),
        "8 neurons": random_activity(rng, 64, 8, 0.5),
        "64 neurons": random_activity(rng, 65, 64),
        "65 neurons": random_activity(rng, 511, 65, 0.05),
        "130 neurons": random_activity(rng, 513 if COMPILED else 65, 130, 0.05),
    }
    return {name.replace(" ", "-"): active for name, active in blocks.items()}


ACTIVITIES = activities()
each_activity = pytest.mark.parametrize("active", ACTIVITIES.values(), ids=ACTIVITIES)


@pytest.fixture(params=[1, 2] if COMPILED else [1])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run with this many threads, as far as there are."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(request.param, numba.config.NUMBA_NUM_THREADS))
    yield request.param
    numba.set_num_threads(before)


def transposed(active: np.ndarray) -> np.ndarray:
    """Return a dense matrix as padded neuron-major words, by the kernel; what was in the buffer before is garbage."""
    n_rows, n_neurons = active.shape
    n_padded = -(-n_neurons // 64) * 64
    n_words = max(1, -(-n_rows // 512)) * 8
    words = np.full((n_padded, n_words), 0xDEADBEEF, np.uint64)
    kernels.transpose_bits(pack(active), words)
    return words


def tokens_of(active: np.ndarray) -> list[set[int]]:
    """Return the set of neurons that fire for each token."""
    return [set(np.flatnonzero(row).tolist()) for row in active]


def test_transpose_64x64() -> None:
    """Bit j of word i becomes bit i of word j; twice is identity."""
    words = np.random.default_rng(0).integers(0, 2**64, 64, np.uint64)
    before = words.copy()
    kernels.transpose_64x64(words)
    for i in range(64):
        for j in range(64):
            assert int(before[i]) >> j & 1 == int(words[j]) >> i & 1
    kernels.transpose_64x64(words)
    np.testing.assert_array_equal(words, before)


@each_activity
def test_transpose_bits(active: np.ndarray, n_threads: int) -> None:
    """Row i holds the tokens of neuron i; all padding, rows and words, is zero."""
    words = transposed(active)
    dense = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    assert dense.sum() == active.sum()
    np.testing.assert_array_equal(dense[: active.shape[1], : active.shape[0]].T, active)


@each_activity
def test_count_panel(active: np.ndarray, n_threads: int) -> None:
    """Every pair i <= j, in one panel and in panels of 64 neurons, equals the count over sets."""
    words, n_neurons = transposed(active), active.shape[1]
    expected = np.array(reference.counts(tokens_of(active), n_neurons)).reshape(n_neurons, n_neurons)
    upper = np.triu_indices(n_neurons)
    for n_panel in {64, words.shape[0]}:
        counts = np.full((words.shape[0], words.shape[0]), -1, np.int32)
        for start in range(0, words.shape[0], n_panel):
            end = min(start + n_panel, words.shape[0])
            kernels.count_panel(words, start, end, np.full((end - start) // 64, words.shape[0]), counts[start:end])
        np.testing.assert_array_equal(counts[:n_neurons, :n_neurons][upper], expected[upper])


def test_count_panel_up_to_a_column() -> None:
    """Each tile of rows is counted up to its own column; what lies right of it is left alone."""
    words = transposed(random_activity(np.random.default_rng(0), 65, 192))
    whole = np.full((192, 192), -1, np.int32)
    kernels.count_panel(words, 0, 192, np.full(3, 192), whole)
    for ends in ([64, 192, 128], [0, 0, 0], [192, 128, 192]):
        counts = np.full((192, 192), -1, np.int32)
        kernels.count_panel(words, 0, 192, np.array(ends), counts)
        for tile, end in enumerate(ends):
            rows = slice(64 * tile, 64 * tile + 64)
            np.testing.assert_array_equal(counts[rows, 64 * tile : end], whole[rows, 64 * tile : end])
            assert (counts[rows, end:] == -1).all()


def test_more_words_than_a_tile() -> None:
    """Beyond 512 words the tokens come in several tiles whose counts add up."""
    n_words = kernels.WORD_TILE + kernels.WORD_MULTIPLE
    words = np.random.default_rng(0).integers(0, 2**64, (64, n_words), np.uint64)
    if not COMPILED:
        words[8:] = 0
    counts = np.full((64, 64), -1, np.int32)
    kernels.count_panel(words, 0, 64, np.array([64]), counts)
    for i in range(0, 64, 7):
        expected = np.bitwise_count(words[i] & words).sum(axis=1, dtype=np.int64)
        np.testing.assert_array_equal(counts[i, i:], expected[i:])


@each_activity
def test_count_pairs(active: np.ndarray, n_threads: int) -> None:
    """Pairs in any order, with themselves too, over all words and over part of them."""
    rng = np.random.default_rng(1)
    words, n_neurons = transposed(active), active.shape[1]
    first, second = rng.integers(0, n_neurons, (2, 40)).astype(np.int32)
    for start, end in ((0, words.shape[1]), (1, words.shape[1]), (2, 2)):
        counts = np.full(40, -1, np.int64)
        kernels.count_pairs(words, first, second, start, end, counts)
        part = active[64 * start : 64 * end].astype(int)
        assert counts.tolist() == (part[:, first] * part[:, second]).sum(axis=0).tolist()


@each_activity
def test_copy_rows(active: np.ndarray, n_threads: int) -> None:
    """Rows in any order, some twice; what is below them becomes zero."""
    words = transposed(active)
    neurons = np.random.default_rng(2).integers(0, active.shape[1], 9).astype(np.int32)
    selected = np.full((12, words.shape[1]), 0xDEADBEEF, np.uint64)
    kernels.copy_rows(words, neurons, selected)
    np.testing.assert_array_equal(selected[:9], words[neurons])
    assert not selected[9:].any()
