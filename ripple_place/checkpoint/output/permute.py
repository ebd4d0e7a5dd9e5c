"""Tensors in another neuron order, as a stream of bytes: at most one tensor is held in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.checkpoint.fileio import CHUNK_BYTES, Scratch, opened, read_into
from ripple_place.checkpoint.output.packed import permuted_packed
from ripple_place.kernels.gather import gather_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ripple_place.arrays import AnyArray, Int32Array
    from ripple_place.checkpoint.model.neuron_tensor import Component, NeuronTensor
    from ripple_place.checkpoint.model.shards import Checkpoint


_UNSIGNED: dict[int, type[np.unsignedinteger[Any]]] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_TRANSPOSE_ROWS, _TRANSPOSE_COLUMNS = 256, 32
"""Block in which a transpose runs fastest: 512 bytes written at a time, 8 MB of pages touched."""
_GAP_BYTES = 64
"""A line of the cache."""


def permuted_tensor(
    checkpoint: Checkpoint, parts: Iterable[tuple[NeuronTensor, Int32Array]], scratch: Scratch | None = None
) -> Iterator[AnyArray]:  # fmt: skip
    """Yield the bytes of a tensor of several blocks: its parts, in file order, each with its order."""
    scratch = scratch or Scratch()
    for tensor, order in parts:
        yield from permuted_pieces(checkpoint, tensor, order, scratch)


def permuted_pieces(
    checkpoint: Checkpoint, tensor: NeuronTensor, order: Int32Array, scratch: Scratch
) -> Iterator[AnyArray]:
    """Yield a tensor's bytes with its neurons in another order.

    Parameters
    ----------
    checkpoint : Checkpoint
    tensor : NeuronTensor
    order : ndarray of shape (n_neurons,), int32
        Neuron ``order[slot]`` goes to slot `slot`.
    scratch : Scratch
        Memory for what is held.

    Yields
    ------
    ndarray
        C-contiguous, valid until the next is asked for.

    Notes
    -----
    A long row of the neuron axis (the whole tensor, where a neuron's bytes are contiguous) is held in memory and
    gathered from; short ones stream through, some at a time. Packed tensors are held whole.
    """
    offset_bytes = checkpoint.extent(tensor.name).offset_bytes + tensor.begin_bytes
    units = np.ascontiguousarray(tensor.unit_order(order))
    with opened(checkpoint.file_of(tensor.name)) as descriptor:
        if tensor.packing is not None:
            yield from permuted_packed(descriptor, offset_bytes, tensor, order)
        elif tensor.n_rows > 1 and tensor.unit_bytes in _UNSIGNED:
            yield from _permuted_items(descriptor, offset_bytes, tensor, units)
        elif tensor.row_bytes <= CHUNK_BYTES:
            yield from _permuted_short_rows(descriptor, offset_bytes, tensor, units)
        else:
            for row in range(tensor.n_rows):
                yield from _permuted_long_row(descriptor, offset_bytes + row * tensor.row_bytes, tensor, units, scratch)


def write_unit_rows(
    checkpoint: Checkpoint, component: Component, out: AnyArray, units: Int32Array | None = None
) -> None:
    """Write a component to memory with a unit per row, however the tensor stores it.

    Parameters
    ----------
    checkpoint : Checkpoint
    component : Component
    out : ndarray of shape (n_units, n_weights)
        Unsigned, as wide as the tensor's elements.
    units : ndarray of int32, optional
        Which rows to write; all, in checkpoint order, by default. Only of inputs that are columns of the tensor.
    """
    tensor, scratch = component.tensor, Scratch()
    for before, neurons, piece in _stored_pieces(checkpoint, component):
        if component.by_input:
            place = out.reshape(tensor.n_before, -1, tensor.n_neurons)[before, :, neurons]
            turned = _spread(piece if units is None else np.take(piece, units, axis=2), 2, scratch).swapaxes(1, 2)
        else:
            place = out.reshape(tensor.n_neurons, tensor.n_before, tensor.n_after)[neurons, before].swapaxes(0, 1)
            turned = _spread(piece, 1, scratch)
        for first in range(0, place.shape[1], _TRANSPOSE_COLUMNS):
            some = slice(first, first + _TRANSPOSE_COLUMNS)
            place[:, some] = turned[:, some]


def _spread(piece: AnyArray, axis: int, scratch: Scratch) -> AnyArray:
    """Return a copy with a gap behind each run along an axis.

    What lies a power of two apart, as columns of most models do, shares a few lines of the cache.
    """
    shape = list(piece.shape)
    shape[axis] += _GAP_BYTES // piece.itemsize
    spread = scratch.array("spread", tuple(shape), piece.dtype)[tuple(slice(size) for size in piece.shape)]
    spread[:] = piece
    return spread


def _stored_pieces(checkpoint: Checkpoint, component: Component) -> Iterator[tuple[slice, slice, AnyArray]]:
    """Yield what a tensor has of a component in file order, as ``[before, neurons, after]``, and the ranges of both."""
    tensor, part = component.tensor, component.part
    n_before, n_neurons, n_parts = tensor.n_before, tensor.n_neurons, tensor.n_parts
    begin_bytes = checkpoint.extent(tensor.name).offset_bytes + tensor.begin_bytes
    n_rows, row_shape = n_before, (n_neurons, n_parts) if tensor.interleaved else (n_parts, n_neurons)
    if n_before == 1:  # A row for each neuron, rather than one for all.
        n_rows, row_shape = n_neurons, (n_parts, 1) if tensor.interleaved else (1, 1)
        begin_bytes += 0 if tensor.interleaved else part * component.length_bytes
    buffer = np.empty((min(n_rows, _TRANSPOSE_ROWS), *row_shape, tensor.n_after), _UNSIGNED[tensor.item_bytes])
    with opened(checkpoint.file_of(tensor.name)) as descriptor:
        for first in range(0, n_rows, len(buffer)):
            rows = slice(first, min(first + len(buffer), n_rows))
            piece = buffer[: rows.stop - first]
            read_into(descriptor, piece, begin_bytes + first * buffer[0].nbytes)
            if n_before > 1:
                yield rows, slice(0, n_neurons), piece[:, :, part] if tensor.interleaved else piece[:, part]
            else:
                yield slice(0, 1), rows, piece[None, :, part if tensor.interleaved else 0, 0]


def _permuted_items(descriptor: int, offset_bytes: int, tensor: NeuronTensor, units: Int32Array) -> Iterator[AnyArray]:
    """Permute the columns of a matrix, some rows at a time."""
    rows_per_piece = max(1, min(tensor.n_rows, CHUNK_BYTES // tensor.row_bytes))
    buffer = np.empty((rows_per_piece, tensor.n_units), _UNSIGNED[tensor.unit_bytes])
    out = np.empty_like(buffer)
    unsigned_units = units.view(np.uint32)
    for first in range(0, tensor.n_rows, rows_per_piece):
        piece = buffer[: tensor.n_rows - first]
        read_into(descriptor, piece, offset_bytes + first * tensor.row_bytes)
        gather_columns(piece, unsigned_units, out[: len(piece)])
        yield out[: len(piece)]


def _permuted_short_rows(
    descriptor: int, offset_bytes: int, tensor: NeuronTensor, units: Int32Array
) -> Iterator[AnyArray]:
    rows_per_piece = max(1, min(tensor.n_rows, CHUNK_BYTES // max(1, tensor.row_bytes)))
    buffer = np.empty((rows_per_piece, tensor.n_units, tensor.unit_bytes), np.uint8)
    for first in range(0, tensor.n_rows, rows_per_piece):
        piece = buffer[: tensor.n_rows - first]
        read_into(descriptor, piece, offset_bytes + first * tensor.row_bytes)
        yield np.take(piece, units, axis=1)


def _permuted_long_row(
    descriptor: int, offset_bytes: int, tensor: NeuronTensor, units: Int32Array, scratch: Scratch
) -> Iterator[AnyArray]:
    """Permute one run along the neuron axis, held in memory."""
    shape = (tensor.n_units, tensor.unit_bytes // tensor.item_bytes)
    source = scratch.array("row", shape, _UNSIGNED[tensor.item_bytes])
    read_into(descriptor, source, offset_bytes)
    slots_per_piece = max(1, CHUNK_BYTES // tensor.unit_bytes)
    buffer = np.empty((min(slots_per_piece, units.size), source.shape[1]), source.dtype)
    for first in range(0, units.size, slots_per_piece):
        some = units[first : first + slots_per_piece]
        # "clip" because numpy buffers the result of "raise"; the order is known to be a permutation.
        yield np.take(source, some, axis=0, out=buffer[: some.size], mode="clip")
