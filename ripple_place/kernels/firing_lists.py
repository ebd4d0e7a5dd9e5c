"""Count co-activations of rarely firing neurons token by token: who fires for a token, written as a list.

A pair of neurons that fires together c times costs c increments here, and n_rows / 64 popcounts in
`ripple_place.kernels.coactivation` however rarely it fires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import prange

from ripple_place.kernels.bits import prefetch, trailing_zeros
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

LIST_TILE = 256
"""Neurons whose place in the lists is known by one look-up; a multiple of the tiles of `count_panel`."""
_AHEAD = 2
"""Tokens between asking for the start of a list, which comes from far away, and reading it."""
_GROUP_WORDS = 8
"""Words of a cache line; a thread goes through the bits of all neurons line by line."""


@compiled(parallel=True)
def measure_lists(bits: Array, first_tile: int, ends: Array) -> None:
    """Count how many neurons of the tiles so far fire for each token.

    Parameters
    ----------
    bits : ndarray of shape (n_padded, n_words), uint64
        Neuron-major; n_words a multiple of 8.
    first_tile : int
        Tile of the first neuron to be listed.
    ends : ndarray of shape (n_tiles - first_tile + 1, 64 n_words), int64
        Written: ``ends[c, t]`` is the number of neurons of the tiles from `first_tile` to before ``first_tile + c``
        that fire for token t. Caller allocates.
    """
    for group in prange(bits.shape[1] // _GROUP_WORDS):
        first_token = 64 * _GROUP_WORDS * group
        n_firing = np.zeros(64 * _GROUP_WORDS, np.int64)
        for c in range(ends.shape[0]):
            for t in range(n_firing.size):
                ends[c, first_token + t] = n_firing[t]
            start = LIST_TILE * (first_tile + c)
            for i in range(start, min(start + LIST_TILE, bits.shape[0])):
                for w in range(_GROUP_WORDS):
                    word = bits[i, _GROUP_WORDS * group + w]
                    while word != 0:
                        n_firing[64 * w + trailing_zeros(word)] += 1
                        word &= word - np.uint64(1)


@compiled(parallel=True)
def fill_lists(bits: Array, first_neuron: int, starts: Array, lists: Array) -> None:
    """Write down which neurons fire for each token, ascending.

    Parameters
    ----------
    bits : ndarray of shape (n_padded, n_words), uint64
    first_neuron : int
        Neurons before it are not listed.
    starts : ndarray of shape (64 n_words,), int64
        Where each token's list begins.
    lists : ndarray of shape (n_firings,), unsigned integers
        Written. Caller allocates.
    """
    for group in prange(bits.shape[1] // _GROUP_WORDS):
        place = starts[64 * _GROUP_WORDS * group : 64 * _GROUP_WORDS * (group + 1)].copy()
        for i in range(first_neuron, bits.shape[0]):
            for w in range(_GROUP_WORDS):
                word = bits[i, _GROUP_WORDS * group + w]
                while word != 0:
                    t = 64 * w + trailing_zeros(word)
                    lists[place[t]] = i
                    place[t] += 1
                    word &= word - np.uint64(1)


@compiled(parallel=True)
def count_listed(
    bits: Array, row_start: int, row_end: int, tiles: Array, first_tile: int, starts: Array, lists: Array, counts: Array
) -> None:
    """Count the co-activations of one panel's neurons with those listed from some tile on.

    Parameters
    ----------
    bits : ndarray of shape (n_padded, n_words), uint64
    row_start, row_end : int
        The panel's neurons.
    tiles : ndarray of shape (row_end - row_start,), int64
        Of each row, the tile from which on its co-activations are counted.
    first_tile : int
        As for `measure_lists`.
    starts : ndarray of shape (n_tiles - first_tile + 1, 64 n_words), int64
        Where the neurons of each tile begin in each token's list; the last row, where the list ends.
    lists : ndarray of shape (n_firings,), unsigned integers
    counts : ndarray of shape (>= row_end - row_start, n_padded), int32
        Row i - row_start is written from its tile's first column on.
    """
    for p in prange(row_end - row_start):
        i = row_start + p
        tile = tiles[p]
        if tile - first_tile < starts.shape[0] - 1:
            row = counts[p]
            begins, ends = starts[tile - first_tile], starts[starts.shape[0] - 1]
            for j in range(LIST_TILE * tile, row.size):
                row[j] = 0
            tokens = np.empty(64 * bits.shape[1] + _AHEAD, np.int32)
            n_tokens = 0
            for w in range(bits.shape[1]):
                word = bits[i, w]
                while word != 0:
                    tokens[n_tokens] = 64 * w + trailing_zeros(word)
                    n_tokens += 1
                    word &= word - np.uint64(1)
            tokens[n_tokens : n_tokens + _AHEAD] = 0
            for k in range(n_tokens):
                soon = begins[tokens[k + _AHEAD]]
                prefetch(lists, soon)
                prefetch(lists, soon + 64 // lists.itemsize)
                for place in range(begins[tokens[k]], ends[tokens[k]]):
                    row[lists[place]] += 1
