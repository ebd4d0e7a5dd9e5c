"""Tensors in another neuron order, as a stream of bytes: at most one tensor is held in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.checkpoint.fileio import CHUNK_BYTES, opened, read_into
from ripple_place.kernels.gather import gather_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ripple_place.checkpoint.ffn import NeuronTensor
    from ripple_place.checkpoint.shards import Checkpoint

    AnyArray = npt.NDArray[Any]
    Int32Array = npt.NDArray[np.int32]

_UNSIGNED: dict[int, type[np.unsignedinteger[Any]]] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_TRANSPOSE_ROWS, _TRANSPOSE_COLUMNS = 256, 32
"""Block in which a transpose runs fastest: 512 bytes written at a time, 8 MB of pages touched."""


def opaque_dtype(tensor: NeuronTensor) -> type[np.unsignedinteger[Any]]:
    """Return the unsigned dtype as wide as a tensor's elements: weights are moved, never looked at."""
    return _UNSIGNED[tensor.item_bytes]


def permuted_pieces(checkpoint: Checkpoint, tensor: NeuronTensor, order: Int32Array) -> Iterator[AnyArray]:
    """Yield a tensor's bytes with its neurons in another order.

    Parameters
    ----------
    checkpoint : Checkpoint
    tensor : NeuronTensor
    order : ndarray of shape (n_neurons,), int32
        Neuron ``order[slot]`` goes to slot `slot`.

    Yields
    ------
    ndarray
        C-contiguous, valid until the next is asked for.

    Notes
    -----
    Rows are gathered from the whole tensor in memory; columns stream through, some rows at a time.
    """
    if tensor.axis == 0:
        yield from _permuted_rows(checkpoint, tensor, order)
    else:
        unsigned_order = order.view(np.uint32)
        for source in matrix_pieces(checkpoint, tensor, CHUNK_BYTES):
            out = np.empty_like(source)
            gather_columns(source, unsigned_order, out)
            yield out


def matrix_pieces(checkpoint: Checkpoint, tensor: NeuronTensor, piece_bytes: int) -> Iterator[AnyArray]:
    """Yield consecutive rows of a matrix, about `piece_bytes` at a time; valid until the next is asked for."""
    n_rows, n_columns = tensor.shape
    row_bytes = n_columns * tensor.item_bytes
    rows_per_piece = max(1, min(n_rows, piece_bytes // row_bytes))
    buffer = np.empty((rows_per_piece, n_columns), opaque_dtype(tensor))
    offset_bytes = checkpoint.extent(tensor.name).offset_bytes
    with opened(checkpoint.file_of(tensor.name)) as descriptor:
        for first in range(0, n_rows, rows_per_piece):
            piece = buffer[: n_rows - first]
            read_into(descriptor, piece, offset_bytes + first * row_bytes)
            yield piece


def columns_as_rows(checkpoint: Checkpoint, tensor: NeuronTensor) -> AnyArray:
    """Return a matrix that stores one neuron per column as one with a neuron per row, in checkpoint order.

    Returns
    -------
    ndarray of shape (n_neurons, n_rows)
        Unsigned, as wide as the tensor's elements.
    """
    n_rows, n_neurons = tensor.shape
    out = np.empty((n_neurons, n_rows), opaque_dtype(tensor))
    begin = 0
    piece_bytes = _TRANSPOSE_ROWS * n_neurons * tensor.item_bytes
    for source in matrix_pieces(checkpoint, tensor, piece_bytes):
        end = begin + len(source)
        for first in range(0, n_neurons, _TRANSPOSE_COLUMNS):
            columns = slice(first, first + _TRANSPOSE_COLUMNS)
            out[columns, begin:end] = source[:, columns].T
        begin = end
    return out


def _permuted_rows(checkpoint: Checkpoint, tensor: NeuronTensor, order: Int32Array) -> Iterator[AnyArray]:
    source = np.empty((order.size, tensor.neuron_bytes // tensor.item_bytes), opaque_dtype(tensor))
    with opened(checkpoint.file_of(tensor.name)) as descriptor:
        read_into(descriptor, source, checkpoint.extent(tensor.name).offset_bytes)
    slots_per_piece = max(1, CHUNK_BYTES // tensor.neuron_bytes)
    buffer = np.empty((min(slots_per_piece, order.size), source.shape[1]), source.dtype)
    for first in range(0, order.size, slots_per_piece):
        neurons = order[first : first + slots_per_piece]
        # "clip" because numpy buffers the result of "raise"; the order is known to be a permutation.
        yield np.take(source, neurons, axis=0, out=buffer[: neurons.size], mode="clip")
