"""The reads of one token, for pictures: which token to show, and where its reads fall in a layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.arrays import BoolArray, Int32Array
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import BlockLayout, Layout
    from ripple_place.flash.results import LayoutResult
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.trace.activation_trace import ActivationTrace


@dataclass(frozen=True, eq=False)
class TokenReads:
    """The reads of one token in one block of one layout.

    Attributes
    ----------
    layout : str
        Its name.
    n_slots : int
    slots : ndarray of shape (n_active,), int32
        Slots of the active neurons, ascending; of two copies the slots that they are read from, those of the second
        counting on from those of the first.
    is_hit : ndarray of shape (n_active,), bool
        Which of them were in DRAM.
    first_slot, last_slot : ndarray of shape (n_reads,), int32
        Of each read, both included.
    """

    layout: str
    n_slots: int
    slots: Int32Array
    is_hit: BoolArray
    first_slot: Int32Array
    last_slot: Int32Array


def busiest_block(result: LayoutResult) -> str:
    """Return the block with most reads; ties go to the first in model order."""
    return max(result.blocks, key=lambda name: result.blocks[name].totals.n_reads)


def median_row(
    name: str, trace: ActivationTrace, layout: Layout, device: DeviceProfile, params: SimulationParams
) -> int:
    """Return the row of block `name` with the median number of reads (the lower one of two, the first of equals)."""
    reader = params.reader_of(name, layout.blocks[name], device)
    chunks = params.replay_blocks(trace, layout, device, [name])
    counts = [np.diff(reader.read(chunk).read_starts) for _, chunk in chunks]
    if not counts:
        return 0
    n_reads = np.concatenate(counts)
    return int(np.flatnonzero(n_reads == np.sort(n_reads)[(n_reads.size - 1) // 2])[0])


def reads_of_row(
    name: str, trace: ActivationTrace, layout: Layout, device: DeviceProfile, params: SimulationParams, row: int
) -> TokenReads:
    """Return the reads of one row of block `name`, its cache as the rows before left it.

    Raises
    ------
    IndexError
        If the block has no such row.
    """
    block = layout.blocks[name]
    reader = params.reader_of(name, block, device)
    for _, chunk in params.replay_blocks(trace, layout, device, [name]):
        reads = reader.read(chunk)
        if row < chunk.first_row + chunk.n_rows:
            slots, is_hit = chunk.row(row)
            start, stop = reads.read_starts[row - chunk.first_row], reads.read_starts[row - chunk.first_row + 1]
            first_slot, last_slot = reads.first_slot[start:stop].copy(), reads.last_slot[start:stop].copy()
            if block.n_copies == 2:
                slots, is_hit = _slots_read(slots, is_hit, first_slot, last_slot, block)
            n_slots = block.n_copies * block.n_neurons
            return TokenReads(layout.name, n_slots, slots, is_hit, first_slot, last_slot)
    raise IndexError(f"{name} has no row {row}")


def _slots_read(
    slots: Int32Array,
    is_hit: BoolArray,
    first_slot: Int32Array,
    last_slot: Int32Array,
    layout: BlockLayout,
) -> tuple[Int32Array, BoolArray]:
    """Return slots, ascending, and hits with the slots of the second copy for what no read of the first has."""
    assert layout.placement.second_slot is not None
    # The read that begins last among those that begin no later than the slot.
    read = np.searchsorted(first_slot, slots, side="right") - 1
    is_first = is_hit | ((read >= 0) & (np.append(last_slot, -1)[read] >= slots))
    there = np.where(is_first, slots, layout.n_neurons + layout.placement.second_slot[slots]).astype(np.int32)
    ascending = np.argsort(there)
    return there[ascending], is_hit[ascending]


def reads_of_median_token(
    block: str, trace: ActivationTrace, layouts: Sequence[Layout], device: DeviceProfile, params: SimulationParams
) -> tuple[int, list[TokenReads]]:
    """Return the token with the median number of reads in the first layout, and its reads in each.

    Parameters
    ----------
    block : str
    trace, layouts, device, params
        As for `ripple_place.flash.simulator.simulate`.
    """
    row, tokens = median_row(block, trace, layouts[0], device, params), trace.blocks[block].token_index
    token = row if tokens is None else int(tokens[row])
    return token, [reads_of_row(block, trace, layout, device, params, row) for layout in layouts]
