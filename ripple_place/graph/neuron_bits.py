"""The activations of a block by neuron, a bit a row of the trace, and what is counted on them directly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.kernels import coactivation as kernels

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array, Int64Array, UInt64Array
    from ripple_place.trace.activation_trace import BlockTrace


@dataclass(frozen=True, eq=False)
class NeuronBits:
    """The activations of a block by neuron: one row of 64-bit words for each neuron.

    Attributes
    ----------
    words : ndarray of shape (n_padded, n_words), uint64
        Bit ``t % 64`` of ``words[i, t // 64]`` says whether neuron i fired in row t of the trace. Padded with zeros
        for the kernels (`ripple_place.kernels.coactivation`).
    n_neurons, n_rows : int
    """

    words: UInt64Array
    n_neurons: int
    n_rows: int

    @classmethod
    def of_block(cls, block: BlockTrace) -> NeuronBits:
        """Transpose a block's trace. Costs O(n_neurons x n_rows / 64) and as much memory as the bits."""
        words = cls._padded(block.n_neurons, block.n_rows)
        kernels.transpose_bits(np.asarray(block.active), words)
        return cls(words, block.n_neurons, block.n_rows)

    @staticmethod
    def _padded(n_neurons: int, n_rows: int) -> UInt64Array:
        rows, words = kernels.ROW_MULTIPLE, kernels.WORD_MULTIPLE
        return np.empty((-(-n_neurons // rows) * rows, max(1, -(-n_rows // (64 * words))) * words), np.uint64)

    def select(self, neurons: Int32Array) -> NeuronBits:
        """Return the bits of some of the neurons, in the order given."""
        words = self._padded(neurons.size, 64 * self.words.shape[1])
        kernels.copy_rows(self.words, neurons, words)
        return NeuronBits(words, neurons.size, self.n_rows)

    def frequency(self) -> Int64Array:
        """Return f(i), the rows in which each neuron fires; shape (n_neurons,), int64."""
        ones = np.bitwise_count(self.words[: self.n_neurons])
        return np.asarray(ones.sum(axis=1, dtype=np.int64))

    def pair_counts(self, first: Int32Array, second: Int32Array, rows: slice | None = None) -> Int64Array:
        """Return f(i, j) of the pairs ``first[k], second[k]``; shape (n_pairs,), int64.

        Parameters
        ----------
        first, second : ndarray of shape (n_pairs,), int32
        rows : slice, optional
            Rows of the trace to count in, from and to multiples of 64 (or the end); all if not given.
        """
        start, stop, _ = (rows or slice(None)).indices(self.n_rows)
        counts = np.empty(first.size, np.int64)
        kernels.count_pairs(self.words, first, second, start // 64, -(-stop // 64), counts)
        return counts

    def dense_counts(self) -> Int32Array:
        """Return f(i, j) for j >= i of all pairs; what lies below the diagonal is undefined.

        Returns
        -------
        ndarray of shape (n_padded, n_padded), int32
            Costs 4 n_neurons^2 bytes: for blocks small enough.
        """
        n_padded = self.words.shape[0]
        counts = np.empty((n_padded, n_padded), np.int32)
        column_end = np.full(n_padded // kernels.ROW_MULTIPLE, n_padded)
        kernels.count_panel(self.words, 0, n_padded, column_end, counts)
        return counts
