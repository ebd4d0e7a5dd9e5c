"""What a block misses behind its DRAM cache, as a trace, and what that costs: lambda x reads + neurons read.

The direct way to the number that the simulator gives on a device that is its line and whose page is the bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.caches.registry import find_policy
from ripple_place.flash.replay import replay_block
from ripple_place.kernels.misses import add_read_shares, charge_misses
from ripple_place.trace.activation_trace import BlockTrace

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array, Int64Array, UInt8Array
    from ripple_place.flash.admission import Admission
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.flash.replay import Chunk
    from ripple_place.placement import NeuronPlacement


@dataclass(frozen=True, eq=False)
class Misses:
    """What the rows of a block read from flash.

    Attributes
    ----------
    row_cost : ndarray of shape (n_rows,), float64
        lambda x reads + neurons read, gaps included.
    row_reads : ndarray of shape (n_rows,), int64
    trace : BlockTrace or None
        The accesses that missed, if they were asked for.
    read_shares : ndarray of shape (n_neurons,), float64, or None
        What each neuron adds to the cost of the first rows, if that was asked for
        (`ripple_place.kernels.misses.add_read_shares`).
    """

    row_cost: Float64Array
    row_reads: Int64Array
    trace: BlockTrace | None = None
    read_shares: Float64Array | None = None


def replay_misses(
    trace: BlockTrace,
    placement: NeuronPlacement,
    cache: str,
    capacity: int,
    cost: ReadCost,
    *,
    name: str = "",
    admission: Admission | None = None,
    with_trace: bool = False,
    share_rows: int | None = None,
) -> Misses:
    """Replay a block through a cache and charge what misses.

    Parameters
    ----------
    trace : BlockTrace
    placement : NeuronPlacement
    cache : str
        Policy.
    capacity : int
        Neurons that it holds.
    cost : ReadCost
        Its lambda and its gap apply; misses are charged in neurons.
    name : str
        Of the block; what admission draws depends on it.
    admission : Admission, optional
        Which misses may enter; None admits all.
    with_trace : bool
        Whether to return the misses.
    share_rows : int, optional
        Over how many of the first rows to add up what each neuron adds to the cost.

    Raises
    ------
    UsageError
        If the policy is unknown, or cannot serve the placement.
    """
    gap, run_cost = cost.gap, cost.as_line().run_cost(trace.n_neurons)
    row_cost, row_reads = np.empty(trace.n_rows), np.empty(trace.n_rows, np.int64)
    missed = np.empty(trace.active.shape, np.uint8) if with_trace else None
    shares = None if share_rows is None else np.zeros(trace.n_neurons)
    is_pinned = np.zeros(trace.n_neurons, np.uint8)
    if placement.pinned is not None:
        is_pinned[placement.pinned] = 1
    served = find_policy(cache)(capacity, placement, cost)
    for chunk in replay_block(trace, placement, served, name=name, admission=admission):
        rows = slice(chunk.first_row, chunk.first_row + chunk.n_rows)
        charge_misses(chunk.accesses, gap, run_cost, row_cost[rows], row_reads[rows])
        if shares is not None and share_rows is not None:
            starts = chunk.row_starts[: max(0, share_rows - chunk.first_row) + 1]
            first_rows = chunk.accesses._replace(row_starts=starts)
            add_read_shares(first_rows, placement.order, is_pinned, cost.break_even_gap, shares)
        if missed is not None:
            missed[rows] = _pack_misses(chunk, placement)
    left = None if missed is None else BlockTrace(trace.n_neurons, missed, trace.token_index)
    return Misses(row_cost, row_reads, left, shares)


def _pack_misses(chunk: Chunk, placement: NeuronPlacement) -> UInt8Array:
    """Return the misses of a chunk as packed bits, by neuron."""
    is_active = np.zeros((chunk.n_rows, placement.n_neurons), bool)
    is_miss = chunk.is_hit == 0
    row = np.repeat(np.arange(chunk.n_rows), np.diff(chunk.row_starts))
    is_active[row[is_miss], placement.order[chunk.slots[is_miss]]] = True
    return np.packbits(is_active, axis=1, bitorder="little")
