"""What one block served each token: neurons from DRAM, neurons from flash, and the time of reading them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray, Float64Array, Int32Array
    from ripple_place.flash.replay import Chunk


@dataclass(frozen=True, eq=False)
class BlockRows:
    """What one block served each token of a trace.

    Attributes
    ----------
    flash_us : ndarray of shape (n_tokens,), float64
        Time of all reads.
    n_hits, n_misses : ndarray of shape (n_tokens,), int32
        Active neurons that DRAM held, and those that were read. Neurons read through in gaps count as neither. Where
        gates are read first, of the neurons whose gates are asked for.
    gate_us : ndarray of shape (n_tokens,), float64, optional
        The part of `flash_us` in which the gate's weights are read, where those of a neuron are read in two phases.
    ahead_us : float
        The part of each row's `flash_us` that is read before it is known what the row asks for.

    Notes
    -----
    0 where a token does not reach the block. Memory is 16 bytes a token, and 8 more where there are two phases.
    """

    flash_us: Float64Array
    n_hits: Int32Array
    n_misses: Int32Array
    gate_us: Float64Array | None = None
    ahead_us: float = 0.0

    @property
    def n_tokens(self) -> int:
        """Tokens of the trace."""
        return self.flash_us.size


class RowCounter:
    """Counts the accesses of each row of a block, a chunk of rows at a time.

    Attributes
    ----------
    n_hits, n_misses : ndarray of shape (n_rows,), int32
    """

    def __init__(self, n_rows: int) -> None:
        self.n_hits, self.n_misses = np.zeros((2, n_rows), np.int32)

    def count(self, chunk: Chunk) -> None:
        """Set the counts of a chunk's rows."""
        rows = slice(chunk.first_row, chunk.first_row + chunk.n_rows)
        hits_before = np.zeros(chunk.is_hit.size + 1, np.int32)
        np.cumsum(chunk.is_hit, out=hits_before[1:])
        n_hits = np.diff(hits_before[chunk.row_starts])
        self.n_hits[rows] = n_hits
        self.n_misses[rows] = np.diff(chunk.row_starts) - n_hits


def by_token(row_values: AnyArray, token_index: Int32Array | None, n_tokens: int) -> AnyArray:
    """Return a value for each token out of one for each row; 0 for tokens that do not reach the block.

    >>> by_token(np.array([5, 7]), np.array([1, 2], np.int32), 4).tolist()
    [0, 5, 7, 0]
    """
    if token_index is None:
        return row_values
    token_values = np.zeros(n_tokens, row_values.dtype)
    token_values[token_index] = row_values
    return token_values
