"""Rows that are kept block by block, brought into another order and back."""

from __future__ import annotations

from typing import Any

from ripple_place.kernels.compiled import compiled


@compiled
def copy_rows(source: Any, source_starts: Any, target: Any, target_starts: Any, lengths: Any, offsets: Any) -> None:
    """Copy rows from one place to another, adding to each of them a number of its own; caller allocates.

    Parameters
    ----------
    source : ndarray, of integers
    source_starts, target_starts : ndarray of shape (n_rows,), int64
        Where each row begins.
    target : ndarray, of integers
        Written where rows go.
    lengths : ndarray of shape (n_rows,), int64
    offsets : ndarray of shape (n_rows,), int64
        Added to each entry of a row.
    """
    for row in range(lengths.size):
        begin, end, offset = source_starts[row], target_starts[row], offsets[row]
        for i in range(lengths[row]):
            target[end + i] = source[begin + i] + offset
