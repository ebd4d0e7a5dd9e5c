"""The bundles of a block as a stream of bytes, put together from rows that are held in memory as far as it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.checkpoint.fileio import CHUNK_BYTES, Scratch, opened, read_into, read_through
from ripple_place.checkpoint.output.permute import write_unit_rows
from ripple_place.kernels.gather import gather_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.arrays import Int32Array, UInt8Array
    from ripple_place.checkpoint.model.ffn_block import FfnBlock
    from ripple_place.checkpoint.model.neuron_tensor import Component
    from ripple_place.checkpoint.model.shards import Checkpoint


HELD_ROWS_BYTES = 256 << 20
"""Memory for components with a neuron per row, beside the turned one, or for turned ones: two of a 7B model's fit."""
_ALIGNMENT_BYTES = 64


def bundle_pieces(
    checkpoint: Checkpoint,
    block: FfnBlock,
    order: Int32Array,
    weights: Int32Array | None,
    stride: int,
    scratch: Scratch,
) -> Iterator[UInt8Array]:
    """Yield a block's bundles, some slots at a time.

    Parameters
    ----------
    checkpoint : Checkpoint
    block : FfnBlock
    order : ndarray of int32
        The unit in each slot.
    weights : ndarray of int32 or None
        The order of the weights within each component; None where they are as in the checkpoint.
    stride : int
        Bytes from one bundle to the next.
    scratch : Scratch
        Memory for what is held.

    Yields
    ------
    ndarray of shape (n_slots, stride), uint8
        C-contiguous, valid until the next is asked for.

    Notes
    -----
    Components are held in memory with a unit per row: those with a unit per column are turned, the others held as far
    as `HELD_ROWS_BYTES` go. Rows beyond that are read one by one, once the system holds them in its own memory. Where
    the turned ones are too large together, they are turned for some of the slots at a time.
    """
    groups = _slot_groups(block, order)
    for group in groups:
        is_whole = len(groups) == 1
        held = _held_rows(checkpoint, block, scratch, None if is_whole else group)
        slots_per_piece = max(1, min(group.size, CHUNK_BYTES // stride))
        buffer = np.zeros((slots_per_piece, stride), np.uint8)
        for first in range(0, group.size, slots_per_piece):
            units = group[first : first + slots_per_piece]
            piece = buffer[: units.size]
            offset = 0
            for component in block.components:
                if component.role in held:
                    rows = held[component.role][units if is_whole else slice(first, first + units.size)]
                else:
                    rows = _read_rows(checkpoint, component, units)
                piece[:, offset : offset + component.unit_bytes] = _with_weights_in(weights, rows, component)
                offset += component.unit_bytes
            yield piece


def _slot_groups(block: FfnBlock, order: Int32Array) -> list[Int32Array]:
    """Return the units by slot, in groups whose turned components are held together: one group where memory allows."""
    turned = [part for part in block.components if part.by_input and part.rows_begin_bytes is None]
    if any(part.tensor.n_before > 1 for part in turned):
        return [order]  # Parts of one tensor, and copied rather than turned.
    held_bytes = max([HELD_ROWS_BYTES, *(part.tensor.length_bytes for part in turned)])
    return np.array_split(order, max(1, -(-sum(part.length_bytes for part in turned) // held_bytes)))


def _held_rows(
    checkpoint: Checkpoint, block: FfnBlock, scratch: Scratch, units: Int32Array | None
) -> dict[str, UInt8Array]:
    """Return the rows that are held in memory, by role: of the turned components those of some units, if asked for."""
    n_rows, budget_bytes, end = block.n_neurons if units is None else units.size, HELD_ROWS_BYTES, 0
    begins: dict[str, int] = {}
    for component in block.components:
        is_turned = component.rows_begin_bytes is None
        if is_turned or component.length_bytes <= budget_bytes:
            budget_bytes -= 0 if is_turned else component.length_bytes
            begins[component.role] = end
            end += -(-n_rows * component.unit_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    # One stretch of memory for all of them, since other blocks may have other components.
    memory = scratch.array("held", (end,), np.uint8)
    held: dict[str, UInt8Array] = {}
    for component in block.components:
        if component.role in begins:
            begin = begins[component.role]
            rows = memory[begin : begin + n_rows * component.unit_bytes].reshape(n_rows, component.unit_bytes)
            held[component.role] = rows
        if component.rows_begin_bytes is None:
            write_unit_rows(checkpoint, component, rows.view(f"u{component.tensor.item_bytes}"), units)
            continue
        with opened(checkpoint.file_of(component.name)) as descriptor:
            begin_bytes = checkpoint.extent(component.name).offset_bytes + component.rows_begin_bytes
            if component.role in held:
                read_into(descriptor, rows, begin_bytes)
            else:
                read_through(descriptor, begin_bytes, component.length_bytes)
    return held


def _read_rows(checkpoint: Checkpoint, component: Component, units: Int32Array) -> UInt8Array:
    """Read the rows of some units."""
    assert component.rows_begin_bytes is not None
    rows = np.empty((units.size, component.unit_bytes), np.uint8)
    offset_bytes = checkpoint.extent(component.name).offset_bytes + component.rows_begin_bytes
    with opened(checkpoint.file_of(component.name)) as descriptor:
        for row, unit in zip(rows, units.tolist(), strict=True):
            read_into(descriptor, row, offset_bytes + unit * component.unit_bytes)
    return rows


def _with_weights_in(order: Int32Array | None, rows: UInt8Array, component: Component) -> UInt8Array:
    """Return rows with the weights of each in an order."""
    if order is None:
        return rows
    items = rows.view(f"u{component.tensor.item_bytes}")
    out = np.empty_like(items)
    gather_columns(items, order.view(np.uint32), out)
    return out.view(np.uint8)
