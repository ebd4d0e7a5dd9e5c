"""Counting token by token, against sets; lists that begin at any tile."""

from __future__ import annotations

import os

import numba
import numpy as np
import pytest

from ripple_place.kernels import firing_lists as kernels
from tests.reference import coactivation as reference
from tests.trace_builders import bits_of, random_activity

COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
WIDE, LONG = (600, 600) if COMPILED else (300, 70)

ACTIVITIES = {
    "one-neuron": np.ones((3, 1), bool),
    "no-token": np.zeros((0, 5), bool),
    "none-fires": np.zeros((9, 5), bool),
    "all-fire": np.ones((9, 70), bool),
    "one-tile": random_activity(np.random.default_rng(0), 70, 67),
    "three-tiles": random_activity(np.random.default_rng(1), LONG, WIDE, 0.03),
}
each_activity = pytest.mark.parametrize("active", ACTIVITIES.values(), ids=ACTIVITIES)


def lists_of(words: np.ndarray, first_tile: int, kind: type) -> tuple[np.ndarray, np.ndarray]:
    """Return where each tile begins in each list, and the lists; buffers hold garbage before."""
    n_tiles = -(-words.shape[0] // kernels.LIST_TILE)
    starts = np.full((n_tiles - first_tile + 1, 64 * words.shape[1]), -7, np.int64)
    kernels.measure_lists(words, first_tile, starts)
    ends = np.cumsum(starts[-1])
    starts += ends - starts[-1]
    lists = np.full(ends[-1], 9, kind)
    kernels.fill_lists(words, kernels.LIST_TILE * first_tile, starts[0], lists)
    return starts, lists


@each_activity
@pytest.mark.parametrize("kind", [np.uint16, np.uint32])
def test_lists(active: np.ndarray, kind: type) -> None:
    """Each token's list names who fires from the first tile on, ascending, and says where every tile begins."""
    words = bits_of(active).words
    n_tiles = -(-words.shape[0] // kernels.LIST_TILE)
    for first_tile in range(n_tiles + 1):
        starts, lists = lists_of(words, first_tile, kind)
        for t in range(64 * words.shape[1]):
            row = active[t] if t < active.shape[0] else np.zeros(active.shape[1], bool)
            for c in range(n_tiles - first_tile):
                tile = np.flatnonzero(row[: kernels.LIST_TILE * (first_tile + c + 1)])
                tile = tile[tile >= kernels.LIST_TILE * (first_tile + c)]
                assert lists[starts[c, t] : starts[c + 1, t]].tolist() == tile.tolist()


@each_activity
@pytest.mark.parametrize("n_threads", [1, 2])
def test_counts(active: np.ndarray, n_threads: int) -> None:
    """Rows of any panel, each from its own tile on, equal the counts over sets; columns before it are left alone."""
    words, n_neurons = bits_of(active).words, active.shape[1]
    n_tiles = -(-words.shape[0] // kernels.LIST_TILE)
    tokens = [set(np.flatnonzero(row).tolist()) for row in active]
    expected = np.zeros((words.shape[0], words.shape[0]), np.int32)
    expected[:n_neurons, :n_neurons] = np.array(reference.counts(tokens, n_neurons)).reshape(n_neurons, n_neurons)
    before = numba.get_num_threads()
    numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
    try:
        for first_tile in range(n_tiles):
            starts, lists = lists_of(words, first_tile, np.uint16)
            row_start, row_end = min(64, words.shape[0] - 64), words.shape[0]
            tiles = np.maximum(first_tile, np.arange(row_start, row_end) % (n_tiles + 1))
            counts = np.full((row_end - row_start + 1, words.shape[0]), -1, np.int32)
            kernels.count_listed(words, row_start, row_end, tiles, first_tile, starts, lists, counts)
            for row, tile, i in zip(counts, tiles, range(row_start, row_end), strict=False):
                column = kernels.LIST_TILE * tile
                assert (row[:column] == -1).all()
                np.testing.assert_array_equal(row[column:], expected[i, column:])
            assert (counts[-1] == -1).all()
    finally:
        numba.set_num_threads(before)
