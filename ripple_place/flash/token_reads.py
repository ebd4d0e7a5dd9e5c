"""The reads of one token, for pictures: which token to show, and where its reads fall in a layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.caches.registry import find_policy
from ripple_place.flash.planner import plan_token
from ripple_place.flash.replay import replay_block

if TYPE_CHECKING:
    import numpy.typing as npt

    from ripple_place.flash.device import DeviceProfile
    from ripple_place.flash.layout import BlockLayout
    from ripple_place.flash.replay import Chunk
    from ripple_place.flash.results import LayoutResult
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.trace.activation_trace import BlockTrace


@dataclass(frozen=True, eq=False)
class TokenReads:
    """The reads of one token in one block of one layout.

    Attributes
    ----------
    layout : str
        Its name.
    n_slots : int
    slots : ndarray of shape (n_active,), int32
        Slots of the active neurons, ascending.
    is_hit : ndarray of shape (n_active,), bool
        Which of them were in DRAM.
    first_slot, last_slot : ndarray of shape (n_reads,), int32
        Of each read, both included.
    """

    layout: str
    n_slots: int
    slots: npt.NDArray[np.int32]
    is_hit: npt.NDArray[np.bool_]
    first_slot: npt.NDArray[np.int32]
    last_slot: npt.NDArray[np.int32]


def busiest_block(result: LayoutResult) -> str:
    """Return the block with most reads; ties go to the first in model order."""
    return max(result.blocks, key=lambda name: result.blocks[name].totals.n_reads)


def reads_per_row(chunk: Chunk, gap: int) -> npt.NDArray[np.int64]:
    """Return the number of reads of each row of a chunk."""
    rows = np.repeat(np.arange(chunk.n_rows), np.diff(chunk.row_starts))
    missed = chunk.is_hit == 0
    rows, slots = rows[missed], chunk.slots[missed]
    starts_read = np.ones(rows.size, bool)
    starts_read[1:] = (np.diff(rows) != 0) | (np.diff(slots) - 1 > gap)
    return np.bincount(rows[starts_read], minlength=chunk.n_rows)


def median_row(
    name: str, trace: BlockTrace, layout: BlockLayout, device: DeviceProfile, params: SimulationParams
) -> int:
    """Return the row of block `name` with the median number of reads (the lower one of two, the first of equals)."""
    cache = find_policy(params.cache)(params.capacity_neurons.get(name, 0), layout.placement)
    gap = params.gap_of(name, layout, device)
    counts = [reads_per_row(chunk, gap) for chunk in replay_block(trace, layout.placement, cache)]
    if not counts:
        return 0
    n_reads = np.concatenate(counts)
    return int(np.flatnonzero(n_reads == np.sort(n_reads)[(n_reads.size - 1) // 2])[0])


def reads_of_row(
    layout_name: str,
    name: str,
    trace: BlockTrace,
    layout: BlockLayout,
    device: DeviceProfile,
    params: SimulationParams,
    row: int,
) -> TokenReads:
    """Return the reads of one row of block `name`, its cache as the rows before left it.

    Raises
    ------
    IndexError
        If the block has no such row.
    """
    cache = find_policy(params.cache)(params.capacity_neurons.get(name, 0), layout.placement)
    for chunk in replay_block(trace, layout.placement, cache):
        if row < chunk.first_row + chunk.n_rows:
            slots, is_hit = chunk.row(row)
            plan = plan_token(slots[~is_hit], params.gap_of(name, layout, device), layout.extent, device)
            return TokenReads(layout_name, layout.n_neurons, slots, is_hit, plan.first_slot, plan.last_slot)
    raise IndexError(f"{name} has no row {row}")
