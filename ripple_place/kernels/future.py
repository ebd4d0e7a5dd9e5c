"""When each neuron of a trace is needed next: going through the rows from the last to the first."""

from __future__ import annotations

from typing import Any

import numpy as np

from ripple_place.kernels.bits import trailing_zeros
from ripple_place.kernels.compiled import compiled


@compiled
def note_rows(words: Any, first_row: int, next_row: Any) -> None:
    """Go back through rows and note in which each neuron fires first; in place.

    Parameters
    ----------
    words : ndarray of shape (n_rows, n_words), uint64
        Bit j of word w is neuron ``64 w + j``.
    first_row : int
        Number of the first of these rows in the whole trace.
    next_row : ndarray of shape (n_neurons,), int32
        By neuron, the first row after these in which it fires; of these when done.
    """
    one = np.uint64(1)
    for row in range(words.shape[0] - 1, -1, -1):
        for w in range(words.shape[1]):
            word = words[row, w]
            while word != 0:
                next_row[64 * w + trailing_zeros(word)] = first_row + row
                word &= word - one


@compiled
def next_rows(neurons: Any, row_starts: Any, first_row: int, next_row: Any, next_of_access: Any) -> None:
    """Write for each access of consecutive rows the row that asks for its neuron next; in place, caller allocates.

    Parameters
    ----------
    neurons : ndarray of shape (n_accesses,), int32
        Row by row.
    row_starts : ndarray of shape (n_rows + 1,), int64
    first_row : int
    next_row : ndarray of shape (n_neurons,), int32
        As `note_rows` left it for the rows after these; changed.
    next_of_access : ndarray of shape (n_accesses,), int32
        Written.
    """
    for i in range(row_starts.size - 2, -1, -1):
        for access in range(row_starts[i], row_starts[i + 1]):
            next_of_access[access] = next_row[neurons[access]]
            next_row[neurons[access]] = first_row + i
