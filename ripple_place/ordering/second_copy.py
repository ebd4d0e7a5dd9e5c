"""A second order of the same neurons: for those that the first leaves to reads of few neurons.

A reader that finds all neurons on flash twice reads each from whichever copy makes its token's reads cheaper
(`ripple_place.kernels.two_copies`). So the second copy need not be good for whole tokens, only for what the first
leaves over: it is ordered as if nothing else were ever read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.kernels import two_copies as kernels
from ripple_place.kernels.read_state import RowReads, SlotAccesses
from ripple_place.kernels.reads import slots_in_order
from ripple_place.ordering.flash_time import flash_time_order
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.placement import slots_of
from ripple_place.trace.activation_trace import BlockTrace
from ripple_place.trace.split_block import SplitBlock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.arrays import Int32Array, Int64Array, UInt8Array
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.ordering.flash_time import FlashTimeParams


SHORT_READ = 3
"""Wanted neurons of a read at most that leaves them to the second copy. On opt-relu's training text, its last eighth
judging, two copies cost .935, .922, .927, .928, .934 of one at lambda 5 for 1 to 5 (block 1; .934, .925, .924, .927,
.930 block 2), and .939, .926, .922, .918, .920 at lambda 20 (.934, .919, .918, .914, .919)."""
_CHUNK_BITS = 1 << 24


@dataclass(frozen=True, eq=False)
class Division:
    """What each copy is read for.

    Attributes
    ----------
    cost : float
        lambda x reads + neurons read per token, both copies; NaN without tokens.
    reads : float
        Reads per token.
    from_second : BlockTrace
        The activations that are read from the second copy.
    """

    cost: float
    reads: float
    from_second: BlockTrace


def divide(block: BlockTrace, order: Int32Array, order_2: Int32Array, cost: ReadCost) -> Division:
    """Plan each token's reads from two copies.

    Parameters
    ----------
    block : BlockTrace
    order, order_2 : ndarray of shape (n_neurons,), int32
    cost : ReadCost
        Its lambda and its gap apply.

    Notes
    -----
    Never costlier than the first copy alone; equal to what the simulator charges on a device that is its line and whose
    page is the bundle. About a microsecond an activation.
    """
    n_neurons, gap, break_even_gap = block.n_neurons, cost.gap, cost.break_even_gap
    second_slot = slots_of(order_2)[order]
    copies = kernels.TwoCopies.allocate(n_neurons)
    packed = np.zeros(block.active.shape, np.uint8)
    n_reads = n_neurons_read = 0
    for rows, slots, row_starts in _rows_in_order(block, order):
        accesses = SlotAccesses(slots, row_starts, np.zeros(slots.size, np.uint8))
        first_slot, last_slot = np.empty((2, slots.size), np.int32)
        reads = RowReads(first_slot, last_slot, np.empty(row_starts.size, np.int64))
        from_second = np.empty(slots.size, np.uint8)
        kernels.plan_rows_of_two(
            accesses, second_slot, gap, break_even_gap, kernels.MAX_PASSES, copies, reads, from_second
        )
        n = int(reads.read_starts[-1])
        n_reads += n
        n_neurons_read += int((last_slot[:n] - first_slot[:n] + 1).sum(dtype=np.int64))
        packed[rows] = _pack(slots, row_starts, from_second, order)
    n_rows = block.n_rows or math.nan
    per_token = (break_even_gap * n_reads + n_neurons_read) / n_rows
    return Division(per_token, n_reads / n_rows, BlockTrace(n_neurons, packed))


def short_reads(block: BlockTrace, order: Int32Array, gap: int) -> BlockTrace:
    """Return the activations that one copy leaves to reads of at most `SHORT_READ` wanted neurons."""
    packed = np.zeros(block.active.shape, np.uint8)
    for rows, slots, row_starts in _rows_in_order(block, order):
        is_short = np.empty(slots.size, np.uint8)
        kernels.mark_short_reads(slots, row_starts, gap, SHORT_READ, is_short)
        packed[rows] = _pack(slots, row_starts, is_short, order)
    return BlockTrace(block.n_neurons, packed)


def second_order(
    searched: BlockTrace, order: Int32Array, params: FlashTimeParams, rng: np.random.Generator
) -> Int32Array:
    """Return an order of a second copy.

    Parameters
    ----------
    searched : BlockTrace
        What is read from flash.
    order : ndarray of shape (n_neurons,), int32
        Of the first copy.
    params : FlashTimeParams
        Of both searches.
    rng : numpy.random.Generator

    Notes
    -----
    ``flash-time`` on the activations that the first copy leaves to short reads, from their greedy path on: from the
    first copy's order, of which it is to differ, it would find its way back there. Then once more on what a reader of
    both copies takes from the second; the better of the two on `searched` is returned. To search for the first order
    once more on what is left of it gains another 0.1 % on opt-relu, not worth an order that is worse on its own.
    Deterministic under `rng`. As costly as two searches of so many activations, 15 to 41 % of all on opt-relu block 1,
    and two plans of all tokens.
    """
    best, least = order, math.inf
    cost = params.cost.as_line()
    by_line = replace(params, cost=cost)
    rest = short_reads(searched, order, cost.gap)
    starts = {"greedy": greedy_path(NeuronBits.of_block(rest))}
    for _ in range(2):
        found = flash_time_order(SplitBlock.unsplit(rest), starts, by_line, rng).order
        division = divide(searched, order, found, cost)
        if division.cost < least:
            best, least = found, division.cost
        rest, starts = division.from_second, {"present": found}
    return best


def _rows_in_order(block: BlockTrace, order: Int32Array) -> Iterator[tuple[slice, Int32Array, Int64Array]]:
    """Yield some rows at a time: which, their active slots, ascending, and where those of each row start."""
    n_words, slot_of = -(-block.n_neurons // 64), slots_of(order)
    chunk_rows = max(1, _CHUNK_BITS // block.n_neurons)
    for first in range(0, block.n_rows, chunk_rows):
        rows = slice(first, min(first + chunk_rows, block.n_rows))
        active = np.asarray(block.active[rows])
        padded = np.zeros((len(active), 8 * n_words), np.uint8)
        padded[:, : active.shape[1]] = active
        slots = np.empty(int(np.bitwise_count(active).sum(dtype=np.int64)), np.int32)
        row_starts = np.empty(len(active) + 1, np.int64)
        slots_in_order(padded.view("<u8"), slot_of, np.zeros(n_words, np.uint64), slots, row_starts)
        yield rows, slots, row_starts


def _pack(slots: Int32Array, row_starts: Int64Array, is_kept: UInt8Array, order: Int32Array) -> UInt8Array:
    """Return the accesses that are kept as packed bits, by neuron."""
    is_active = np.zeros((row_starts.size - 1, order.size), bool)
    row = np.repeat(np.arange(row_starts.size - 1), np.diff(row_starts))
    keep = is_kept.astype(bool)
    is_active[row[keep], order[slots[keep]]] = True
    return np.packbits(is_active, axis=1, bitorder="little")
