"""Packed tensors in another neuron order: integers of a few bits, several to a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.checkpoint.fileio import CHUNK_BYTES, read_into

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.arrays import Int32Array, Int64Array, UInt8Array, UInt32Array
    from ripple_place.checkpoint.model.neuron_tensor import NeuronTensor, Packing


def unpack(words: UInt8Array, packing: Packing) -> UInt8Array:
    """Return the integers in rows of packed bytes.

    Parameters
    ----------
    words : ndarray of shape (n_rows, n_bytes), uint8
        Whole words, as in the file.
    packing : Packing

    Returns
    -------
    ndarray of shape (n_rows, n_bytes * 8 // bits), uint8
        In the order of the axis.
    """
    n_rows = len(words)
    if packing.bits == 3:
        groups = words.reshape(n_rows, -1, 3)
        stream = groups[..., 0] | groups[..., 1].astype(np.uint32) << 8 | groups[..., 2].astype(np.uint32) << 16
        per_unit = 8
    else:
        stream = words.astype(np.uint32)
        per_unit = 8 // packing.bits
    shifts = np.arange(per_unit, dtype=np.uint32) * np.uint32(packing.bits)
    mask = np.uint32((1 << packing.bits) - 1)
    items = ((stream[..., None] >> shifts) & mask).astype(np.uint8).reshape(n_rows, -1)
    return _reorder(items, np.argsort(packing.lanes)) if packing.lanes else items


def pack(items: UInt8Array, packing: Packing) -> UInt8Array:
    """Return integers as rows of packed bytes, the inverse of `unpack`.

    >>> from ripple_place.checkpoint.model.neuron_tensor import Packing
    >>> pack(np.array([[1, 2, 3, 4]], np.uint8), Packing(4)).tolist()
    [[33, 67]]
    """
    if packing.lanes:
        items = _reorder(items, np.array(packing.lanes))
    n_rows = len(items)
    per_unit = 8 if packing.bits == 3 else 8 // packing.bits
    shifts = np.arange(per_unit, dtype=np.uint32) * np.uint32(packing.bits)
    shifted = items.reshape(n_rows, -1, per_unit).astype(np.uint32) << shifts
    stream: UInt32Array = shifted.sum(axis=-1, dtype=np.uint32)
    if packing.bits == 3:
        parts = [(stream >> np.uint32(8 * k)).astype(np.uint8) for k in range(3)]
        return np.stack(parts, axis=-1).reshape(n_rows, -1)
    packed: UInt8Array = stream.astype(np.uint8, order="C")
    return packed


def permuted_packed(
    descriptor: int, offset_bytes: int, tensor: NeuronTensor, order: Int32Array
) -> Iterator[UInt8Array]:
    """Yield a packed tensor's bytes with its neurons in another order; each run along the axis is held in memory."""
    packing = tensor.packing
    assert packing is not None
    item_bytes, n_words, n_after = tensor.item_bytes, tensor.n_units, tensor.n_after
    if n_after == 1:  # Words of one run follow each other.
        rows_per_piece = max(1, min(tensor.n_rows, CHUNK_BYTES // (8 * tensor.row_bytes)))
        buffer = np.empty((rows_per_piece, tensor.row_bytes), np.uint8)
        for first in range(0, tensor.n_rows, rows_per_piece):
            piece = buffer[: tensor.n_rows - first]
            read_into(descriptor, piece, offset_bytes + first * tensor.row_bytes)
            yield pack(np.take(unpack(piece, packing), order, axis=1), packing)
        return
    columns_per_piece = max(1, min(n_after, CHUNK_BYTES // (8 * n_words * item_bytes)))
    words = np.empty((n_words, n_after, item_bytes), np.uint8)
    for row in range(tensor.n_rows):
        read_into(descriptor, words, offset_bytes + row * tensor.row_bytes)
        for first in range(0, n_after, columns_per_piece):
            columns = words[:, first : first + columns_per_piece]
            turned = np.ascontiguousarray(columns.swapaxes(0, 1)).reshape(columns.shape[1], -1)
            moved = pack(np.take(unpack(turned, packing), order, axis=1), packing)
            columns[:] = moved.reshape(columns.shape[1], n_words, item_bytes).swapaxes(0, 1)
        yield words


def _reorder(items: UInt8Array, lanes: Int64Array) -> UInt8Array:
    """Reorder the integers of each word."""
    reordered: UInt8Array = np.take(items.reshape(len(items), -1, lanes.size), lanes, axis=-1)
    return reordered.reshape(len(items), -1)
