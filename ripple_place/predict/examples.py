"""What a predictor is fitted on and judged by: inputs of an FFN, and what its neurons did with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.arrays import AnyArray, BoolArray, Float32Array, Int64Array
    from ripple_place.trace.activation_trace import BlockTrace

HELD_OUT = 8
"""The last one of so many parts of each text segment is held out: thresholds are set and predictors are judged there.
A part of every segment stands for the whole text better than the last segment does."""
CHUNK_ROWS = 256


@dataclass(frozen=True, eq=False)
class Examples:
    """Some rows of one block.

    Attributes
    ----------
    x : ndarray of shape (n_all_rows, n_inputs), float32
        Inputs of the FFN; may be mapped from a file.
    block : BlockTrace
        As many rows; with magnitudes where these are to be predicted.
    rows : ndarray of shape (n_rows,), int64
        Which of them are meant, ascending.
    """

    x: Float32Array
    block: BlockTrace
    rows: Int64Array

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.rows.size

    def inputs(self, some: Int64Array) -> Float32Array:
        """Return the inputs of rows, named by their places in `rows`; shape (n, n_inputs)."""
        return np.asarray(self.x[self.rows[some]], np.float32)

    def fires(self, some: Int64Array) -> BoolArray:
        """Return which neurons fire in rows, named by their places in `rows`; shape (n, n_neurons)."""
        packed = np.asarray(self.block.active)[self.rows[some]]
        return np.unpackbits(packed, axis=1, bitorder="little", count=self.block.n_neurons).view(bool)

    def outputs(self, some: Int64Array) -> Float32Array:
        """Return the absolute outputs of neurons, 0 where they do not fire; as for `fires`, in float32."""
        matrix = self.block.magnitudes
        assert matrix is not None
        outputs = np.zeros((some.size, self.block.n_neurons), np.float32)
        for place, row in enumerate(self.rows[some].tolist()):
            values = slice(int(matrix.indptr[row]), int(matrix.indptr[row + 1]))
            outputs[place, np.asarray(matrix.indices[values])] = np.abs(np.asarray(matrix.values[values]))
        return outputs

    def chunks(self) -> Iterator[Int64Array]:
        """Yield the places of consecutive rows, `CHUNK_ROWS` at a time."""
        for start in range(0, len(self), CHUNK_ROWS):
            yield np.arange(start, min(start + CHUNK_ROWS, len(self)))


def split_examples(x: Float32Array, block: BlockTrace, segment_starts: Int64Array, n_tokens: int) -> tuple[
    Examples, Examples
]:  # fmt: skip
    """Return the rows to fit on, and those that are held out: the last part of each text segment.

    Parameters
    ----------
    x : ndarray of shape (n_rows, n_inputs), float32
    block : BlockTrace
    segment_starts : ndarray of shape (n_segments,), int64
    n_tokens : int
        Of the text.

    Returns
    -------
    tuple of Examples
        Where one of them would be empty, both are all rows: of so short a text nothing better can be had.
    """
    tokens: AnyArray = np.arange(block.n_rows) if block.token_index is None else block.token_index
    ends = np.append(segment_starts[1:], n_tokens)
    segment = np.searchsorted(segment_starts, tokens, side="right") - 1
    is_held_out = (tokens - segment_starts[segment]) * HELD_OUT >= (ends - segment_starts)[segment] * (HELD_OUT - 1)
    fitted, held_out = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    if not fitted.size or not held_out.size:
        fitted = held_out = np.arange(block.n_rows)
    return Examples(x, block, fitted), Examples(x, block, held_out)
