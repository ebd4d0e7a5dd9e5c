"""Count how often two neurons fire together: popcounts of ANDs of neuron-major bits, tiled for registers and cache.

Neuron-major bits: row i holds the tokens for which neuron i fired, 64 to a word, padded with zero bits to
`WORD_MULTIPLE` words and with zero rows to `ROW_MULTIPLE` rows, so that no kernel has a remainder loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import prange

from ripple_place.kernels.bits import popcount
from ripple_place.kernels.compiled import compiled
from ripple_place.kernels.pair_tile import N_ROWS, add_pair_counts

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

ROW_MULTIPLE = 64
"""Neurons of one tile: with `WORD_TILE` words each, two tiles take 512 KiB and stay in a core's L2."""
WORD_TILE = 512
WORD_MULTIPLE = 8
"""Words of one vector."""


@compiled
def transpose_64x64(words: Array) -> None:
    """Transpose a 64 x 64 bit matrix in place: bit j of ``words[i]`` becomes bit i of ``words[j]``.

    References
    ----------
    .. [1] H. S. Warren, Hacker's Delight, 2nd ed., section 7-3.
    """
    mask = np.uint64(0x00000000FFFFFFFF)
    width = 32
    while width:
        shift = np.uint64(width)
        i = 0
        while i < 64:
            swap = ((words[i] >> shift) ^ words[i + width]) & mask
            words[i] ^= swap << shift
            words[i + width] ^= swap
            i = (i + width + 1) & ~width
        width >>= 1
        mask ^= mask << np.uint64(width)


@compiled(parallel=True)
def transpose_bits(active: Array, neuron_bits: Array) -> None:
    """Turn token-major packed bits into neuron-major words.

    Parameters
    ----------
    active : ndarray of shape (n_rows, row_bytes), uint8
        Bit ``j % 8`` of byte ``[t, j // 8]`` says whether neuron j fired for token t.
    neuron_bits : ndarray of shape (n_padded, n_words), uint64
        Written. Caller allocates: `n_padded` a multiple of 64 and >= 8 row_bytes, `n_words` a multiple of 8 and
        >= n_rows / 64.
    """
    n_rows, row_bytes = active.shape
    n_padded, n_words = neuron_bits.shape
    # A thread writes 8 adjacent words, a whole cache line, of every neuron.
    for group in prange(n_words // 8):
        tile = np.empty(64, np.uint64)
        for word in range(8 * group, 8 * group + 8):
            for column in range(n_padded // 64):
                for t in range(64):
                    value = np.uint64(0)
                    if 64 * word + t < n_rows:
                        for b in range(min(8, row_bytes - 8 * column)):
                            value |= np.uint64(active[64 * word + t, 8 * column + b]) << np.uint64(8 * b)
                    tile[t] = value
                transpose_64x64(tile)
                for j in range(64):
                    neuron_bits[64 * column + j, word] = tile[j]


@compiled(parallel=True)
def copy_rows(bits: Array, neurons: Array, selected: Array) -> None:
    """Copy the bits of some neurons, and zeros below them.

    Parameters
    ----------
    bits : ndarray of shape (n_padded, n_words), uint64
    neurons : ndarray of shape (n_selected,), int32
    selected : ndarray of shape (>= n_selected, n_words), uint64
        Written. Caller allocates.
    """
    for row in prange(selected.shape[0]):
        if row < neurons.size:
            i = neurons[row]
            for w in range(selected.shape[1]):
                selected[row, w] = bits[i, w]
        else:
            for w in range(selected.shape[1]):
                selected[row, w] = 0


@compiled(parallel=True)
def count_panel(bits: Array, row_start: int, row_end: int, column_end: Array, counts: Array) -> None:
    """Count the co-activations of the neurons of one panel with those that follow, up to a column.

    Parameters
    ----------
    bits : ndarray of shape (n_padded, n_words), uint64
    row_start, row_end : int
        The panel's neurons; multiples of `ROW_MULTIPLE`.
    column_end : ndarray of shape ((row_end - row_start) / `ROW_MULTIPLE`,), int64
        For each tile of rows, the column to count up to; multiples of `ROW_MULTIPLE`.
    counts : ndarray of shape (>= row_end - row_start, n_padded), int32
        Written in columns from `row_start` on; ``counts[i - row_start, j]`` is exact for every j >= i below the end.

    Notes
    -----
    Work is at most (row_end - row_start) x (n_padded - row_start) x n_words popcounts. Each thread owns column tiles,
    so the result does not depend on their number.
    """
    n_words = bits.shape[1]
    n_tiles = (column_end.max() - row_start) // ROW_MULTIPLE if column_end.size else 0
    # A tile has the more work the later it comes; threads get consecutive shares, so early and late ones take turns.
    for turn in prange(n_tiles):
        tile = int(turn) // 2
        if turn % 2:
            tile = n_tiles - 1 - tile
        j0 = row_start + ROW_MULTIPLE * tile
        for i0 in range(row_start, min(row_end, j0 + ROW_MULTIPLE), ROW_MULTIPLE):
            if j0 < column_end[(i0 - row_start) // ROW_MULTIPLE]:
                for i in range(i0, i0 + ROW_MULTIPLE):
                    for j in range(j0, j0 + ROW_MULTIPLE):
                        counts[i - row_start, j] = 0
                for word_start in range(0, n_words, WORD_TILE):
                    word_end = min(word_start + WORD_TILE, n_words)
                    for i in range(i0, i0 + ROW_MULTIPLE, N_ROWS):
                        for j in range(j0, j0 + ROW_MULTIPLE, N_ROWS):
                            add_pair_counts(bits, i, j, word_start, word_end, counts, i - row_start, j)


@compiled(parallel=True)
def count_pairs(bits: Array, first: Array, second: Array, word_start: int, word_end: int, counts: Array) -> None:
    """Count the co-activations of given pairs over a range of words.

    Parameters
    ----------
    bits : ndarray of shape (n_padded, n_words), uint64
    first, second : ndarray of shape (n_pairs,), int32
    word_start, word_end : int
    counts : ndarray of shape (n_pairs,), int64
        Written.
    """
    for pair in prange(first.size):
        count = 0
        for w in range(word_start, word_end):
            count += popcount(bits[first[pair], w] & bits[second[pair], w])
        counts[pair] = count
