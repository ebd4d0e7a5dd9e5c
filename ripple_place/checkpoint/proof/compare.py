"""Byte comparison of tensors, neurons put back into their original order first.

Deliberately plain numpy and `pread`: none of the code that permuted the tensors is used to prove that they were
permuted well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.checkpoint.fileio import CHUNK_BYTES, chunks, ignore_progress, read_into
from ripple_place.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ripple_place.arrays import AnyArray, BoolArray, Int32Array, Int64Array
    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.model.neuron_tensor import Component, NeuronTensor


AGAIN = "do not use this output; run `ripple-place reorder` again (--force replaces it)"
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
    where: str, tensor: NeuronTensor, source: int, source_bytes: int, out: int, out_bytes: int, order: Int32Array,
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
        Offsets of the tensor (of all its parts) in them.
    order : ndarray of shape (n_neurons,), int32
        Which neuron should be in each slot of the output.
    progress : callable
        Called with bytes done.
    """
    source_bytes, out_bytes = source_bytes + tensor.begin_bytes, out_bytes + tensor.begin_bytes
    if tensor.packing is not None:
        _check_packed(where, tensor, source, source_bytes, out, out_bytes, slots_of(order), progress)
        return
    slot_of = slots_of(order[:: tensor.granule] // tensor.granule)
    width = math.gcd(8, tensor.unit_bytes)
    shape = (tensor.n_units, tensor.unit_bytes // width) if tensor.unit_bytes > width else (tensor.n_units,)
    if tensor.row_bytes > CHUNK_BYTES:
        for row in range(tensor.n_rows):
            begin = row * tensor.row_bytes
            _check_long_row(where, shape, width, (source, source_bytes + begin), (out, out_bytes + begin), slot_of,
                            tensor.granule, progress)  # fmt: skip
        return
    expected = _arrays(source, source_bytes, tensor.n_rows, shape, width)
    for (_, rows), (_, found) in zip(expected, _arrays(out, out_bytes, tensor.n_rows, shape, width), strict=True):
        _require_equal(where, np.take(found, slot_of, axis=1) == rows, 1, 0, tensor.granule)
        progress(found.nbytes)


def _check_long_row(
    where: str, shape: tuple[int, ...], width: int, source: tuple[int, int], out: tuple[int, int], slot_of: Int64Array,
    granule: int, progress: Progress,
) -> None:  # fmt: skip
    """Compare one run along the neuron axis, the output's held in memory."""
    placed = np.empty(shape, f"u{width}")
    read_into(out[0], placed, out[1])
    for first, units in _arrays(*source, shape[0], shape[1:], width):
        restored = placed[slot_of[first : first + len(units)]]
        _require_equal(where, restored == units, 0, first, granule)
        progress(units.nbytes)


def _check_packed(
    where: str, tensor: NeuronTensor, source: int, source_bytes: int, out: int, out_bytes: int, slot_of: Int64Array,
    progress: Progress,
) -> None:  # fmt: skip
    """Compare a packed tensor bit by bit: of each run along the axis, the bits are laid out and regrouped."""
    n_words, item_bytes = tensor.n_units, tensor.item_bytes
    per_piece = max(1, CHUNK_BYTES // (16 * n_words * item_bytes))
    for row in range(tensor.n_rows):
        runs = []
        for descriptor, begin in ((source, source_bytes), (out, out_bytes)):
            words = np.empty((n_words, tensor.n_after * item_bytes), np.uint8)
            read_into(descriptor, words, begin + row * tensor.row_bytes)
            runs.append(words.reshape(n_words, tensor.n_after, item_bytes))
        for first in range(0, tensor.n_after, per_piece):
            expected, found = (_bits(run[:, first : first + per_piece], tensor) for run in runs)
            _require_equal(where, found[:, slot_of] == expected, 1, 0, 1)
        progress(tensor.row_bytes)


def _bits(words: AnyArray, tensor: NeuronTensor) -> AnyArray:
    """Return the bits of packed words ``[n_words, n_columns, item_bytes]`` as ``[n_columns, n_neurons, bits]``."""
    packing = tensor.packing
    assert packing is not None
    stream = np.unpackbits(np.moveaxis(words, 0, 1).reshape(words.shape[1], -1), axis=1, bitorder="little")
    integers = stream.reshape(words.shape[1], -1, packing.bits)
    if not packing.lanes:
        return integers
    in_axis_order = np.empty_like(integers)
    n_lanes = len(packing.lanes)
    for position, lane in enumerate(packing.lanes):
        in_axis_order[:, lane::n_lanes] = integers[:, position::n_lanes]
    return in_axis_order


def check_bundled_component(
    where: str, component: Component, source: int, source_bytes: int, out: int, entry: Mapping[str, Any],
    in_bundle: Mapping[str, Any], slot_of: Int64Array, place_of: Int64Array | None = None,
    progress: Progress = ignore_progress,
) -> None:  # fmt: skip
    """Raise VerificationError unless the bundles hold a component of every unit where the index says.

    Each unit is fetched by a read of its own, at the offset that any reader would compute from the index. Other
    parameters as in `check_tensor`.

    Parameters
    ----------
    entry, in_bundle : mapping of str to anything
        The block in the bundled file's index, and one of its components.
    slot_of : ndarray of shape (n_units,), int64
        Where the output should have each unit.
    place_of : ndarray of shape (n_weights,), int64, or None
        Where it should have each weight of a unit; None: as in the source.
    """
    tensor = component.tensor
    restored = np.empty((component.n_units, component.n_weights), f"u{tensor.item_bytes}")
    stride_bytes, begin = entry["stride_bytes"], entry["offset_bytes"] + in_bundle["offset_bytes"]
    for unit, slot in enumerate(slot_of.tolist()):
        read_into(out, restored[unit], begin + slot * stride_bytes)
        if place_of is not None:
            restored[unit] = restored[unit][place_of]
    what = "input" if component.by_input else "neuron"
    # A row of the source is a unit, or has a weight of each.
    is_turned = component.by_input == (tensor.n_before == 1)
    for first, rows in _stored_rows(component, source, source_bytes + tensor.begin_bytes):
        if not is_turned:
            _require_equal(where, restored[first : first + len(rows)] == rows, 0, first, what=what)
        for begin in range(0, component.n_units, _TRANSPOSE_COLUMNS) if is_turned else ():
            units = slice(begin, begin + _TRANSPOSE_COLUMNS)
            equal = restored[units, first : first + len(rows)] == rows[:, units].T
            _require_equal(where, equal, 0, begin, what=what)
        progress(rows.nbytes)


def _stored_rows(component: Component, source: int, begin_bytes: int) -> Iterator[tuple[int, AnyArray]]:
    """Yield the rows of a component's matrix as the source stores it, and the number of the first."""
    tensor, part = component.tensor, component.part
    n_rows, n_before, n_parts, item_bytes = tensor.n_neurons, tensor.n_before, tensor.n_parts, tensor.item_bytes
    shape: tuple[int, ...] = (n_parts, tensor.n_after) if tensor.interleaved else (1, tensor.n_after)
    if n_before > 1:
        assert tensor.n_after == 1, "a matrix has neurons along its rows or its columns"
        n_rows = n_before
        shape = (tensor.n_neurons, n_parts) if tensor.interleaved else (n_parts, tensor.n_neurons)
    elif not tensor.interleaved:
        begin_bytes += part * component.length_bytes
    for first, rows in _arrays(source, begin_bytes, n_rows, shape, item_bytes, _TRANSPOSE_ROWS):
        if n_before > 1:
            yield first, rows[:, :, part] if tensor.interleaved else rows[:, part]
        else:
            yield first, rows[:, part if tensor.interleaved else 0]


def _arrays(
    descriptor: int, offset_bytes: int, n_rows: int, shape: tuple[int, ...], item_bytes: int, rows_per_piece: int = 0
) -> Iterator[tuple[int, AnyArray]]:
    """Yield consecutive rows, arrays of `shape`, and the number of the first; valid until the next are asked for."""
    row_bytes = math.prod(shape) * item_bytes
    rows_per_piece = min(n_rows, rows_per_piece or max(1, CHUNK_BYTES // row_bytes))
    buffer = np.empty((rows_per_piece, *shape), f"u{item_bytes}")
    for first in range(0, n_rows, rows_per_piece):
        piece = buffer[: n_rows - first]
        read_into(descriptor, piece, offset_bytes + first * row_bytes)
        yield first, piece


def _require_equal(
    where: str, equal: BoolArray, neuron_axis: int, first: int, granule: int = 1, *, what: str = "neuron"
) -> None:
    """Raise, naming the first neuron (or `what` else) that differs, unless all elements are equal."""
    if not equal.all():
        others = tuple(axis for axis in range(equal.ndim) if axis != neuron_axis)
        neuron = granule * (first + int(np.flatnonzero(~equal.all(axis=others))[0]))
        raise VerificationError(
            where, found=f"other weights for {what} {neuron}", expected="the source's, in the slot of the placement",
            remedy=AGAIN,
        )  # fmt: skip
