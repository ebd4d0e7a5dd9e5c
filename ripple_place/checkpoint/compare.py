"""Byte comparison of tensors, neurons put back into their original order first.

Deliberately plain numpy and `pread`: none of the code that permuted the tensors is used to prove that they were
permuted well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.checkpoint.fileio import CHUNK_BYTES, chunks, ignore_progress, prefetch, read_into
from ripple_place.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from ripple_place.checkpoint.ffn import NeuronTensor
    from ripple_place.checkpoint.fileio import Progress

    AnyArray = npt.NDArray[Any]
    Int32Array = npt.NDArray[np.int32]
    Int64Array = npt.NDArray[np.int64]

AGAIN = "do not use this output; run `ripple-place reorder` again"
_TRANSPOSE_ROWS, _TRANSPOSE_COLUMNS = 256, 32


def slots_of(order: Int32Array) -> Int64Array:
    """Return the inverse of a permutation, found by sorting it."""
    return np.argsort(order, kind="stable")


def ranges_equal(
    source: int,
    source_bytes: int,
    out: int,
    out_bytes: int,
    length_bytes: int,
    progress: Progress = ignore_progress,
) -> bool:
    """Tell whether two files hold the same `length_bytes` from two offsets on; files are given as descriptors."""
    pieces = zip(chunks(source, source_bytes, length_bytes), chunks(out, out_bytes, length_bytes), strict=True)
    for expected, found in pieces:
        if not np.array_equal(expected, found):
            return False
        progress(found.nbytes)
    return True


def check_tensor(
    where: str, tensor: NeuronTensor, source: int, source_bytes: int, out: int, out_bytes: int, slot_of: Int64Array,
    progress: Progress = ignore_progress,
) -> None:  # fmt: skip
    """Raise VerificationError unless a tensor is the source's with its neurons in another order.

    Parameters
    ----------
    where : str
        For the message.
    tensor : NeuronTensor
    source, out : int
        Descriptors of the files.
    source_bytes, out_bytes : int
        Offsets of the tensor in them.
    slot_of : ndarray of shape (n_neurons,), int64
        Where the output should have each neuron.
    progress : callable
        Called with bytes done.
    """
    dtype = np.dtype(f"u{tensor.item_bytes}")
    if tensor.axis == 0:
        placed = np.empty((slot_of.size, tensor.neuron_bytes // tensor.item_bytes), dtype)
        read_into(out, placed, out_bytes)
        for first, neurons in _rows(source, source_bytes, placed.shape, dtype):
            restored = placed[slot_of[first : first + len(neurons)]]
            _require_equal(where, restored == neurons, 0, first)
            progress(neurons.nbytes)
        return
    pairs = zip(
        _rows(source, source_bytes, tensor.shape, dtype), _rows(out, out_bytes, tensor.shape, dtype), strict=True
    )
    for (_, expected), (_, found) in pairs:
        _require_equal(where, np.take(found, slot_of, axis=1) == expected, 1, 0)
        progress(found.nbytes)


def check_bundled_component(
    where: str, tensor: NeuronTensor, source: int, source_bytes: int, out: int, entry: Mapping[str, Any],
    component: Mapping[str, Any], slot_of: Int64Array, progress: Progress = ignore_progress,
) -> None:  # fmt: skip
    """Raise VerificationError unless the bundles hold a component of every neuron where the index says.

    Each neuron is fetched by a read of its own, at the offset that any reader would compute from the index. Other
    parameters as in `check_tensor`.

    Parameters
    ----------
    entry, component : mapping of str to anything
        The block in the bundled file's index, and one of its components.
    """
    dtype = np.dtype(f"u{tensor.item_bytes}")
    restored = np.empty((slot_of.size, tensor.neuron_bytes // tensor.item_bytes), dtype)
    stride_bytes, begin = entry["stride_bytes"], entry["offset_bytes"] + component["offset_bytes"]
    prefetch(out, entry["offset_bytes"], stride_bytes * slot_of.size)
    for neuron, slot in enumerate(slot_of.tolist()):
        read_into(out, restored[neuron], begin + slot * stride_bytes)
    if tensor.axis == 0:
        for first, neurons in _rows(source, source_bytes, restored.shape, dtype):
            _require_equal(where, restored[first : first + len(neurons)] == neurons, 0, first)
            progress(neurons.nbytes)
        return
    for first, rows in _rows(source, source_bytes, tensor.shape, dtype, _TRANSPOSE_ROWS):
        for begin in range(0, slot_of.size, _TRANSPOSE_COLUMNS):
            columns = slice(begin, begin + _TRANSPOSE_COLUMNS)
            _require_equal(where, restored[columns, first : first + len(rows)] == rows[:, columns].T, 0, begin)
        progress(rows.nbytes)


def _rows(
    descriptor: int, offset_bytes: int, shape: tuple[int, ...], dtype: np.dtype[Any], rows_per_piece: int = 0
) -> Iterator[tuple[int, AnyArray]]:
    """Yield consecutive rows of a matrix and the number of the first; valid until the next are asked for."""
    n_rows, n_columns = shape
    row_bytes = n_columns * dtype.itemsize
    rows_per_piece = min(n_rows, rows_per_piece or max(1, CHUNK_BYTES // row_bytes))
    buffer = np.empty((rows_per_piece, n_columns), dtype)
    for first in range(0, n_rows, rows_per_piece):
        piece = buffer[: n_rows - first]
        read_into(descriptor, piece, offset_bytes + first * row_bytes)
        yield first, piece


def _require_equal(where: str, equal: npt.NDArray[np.bool_], neuron_axis: int, first: int) -> None:
    """Raise, naming the first neuron that differs, unless all elements are equal."""
    if not equal.all():
        neuron = first + int(np.flatnonzero(~equal.all(axis=1 - neuron_axis))[0])
        raise VerificationError(
            where, found=f"other weights for neuron {neuron}", expected="the source's, in the slot of the placement",
            remedy=AGAIN,
        )  # fmt: skip
