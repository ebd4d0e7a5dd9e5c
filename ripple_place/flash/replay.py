"""Replay one block's trace through its layout, admission and its DRAM cache, a chunk of tokens at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.admission import Admission
from ripple_place.flash.caches.cache import Accesses
from ripple_place.kernels.future import next_rows, note_rows
from ripple_place.kernels.gates import note_firing
from ripple_place.kernels.read_state import SlotAccesses
from ripple_place.kernels.reads import slots_in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ripple_place.arrays import AnyArray, BoolArray, Int32Array, Int64Array, UInt8Array
    from ripple_place.flash.caches.cache import Cache
    from ripple_place.placement import NeuronPlacement
    from ripple_place.trace.activation_trace import BlockTrace

CHUNK_BITS = 1 << 19
"""Bits of the trace in one chunk: enough to make calls per chunk negligible, few enough for the processor's cache."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """The accesses of consecutive rows of a trace; arrays are reused by the next chunk.

    Attributes
    ----------
    first_row : int
    slots : ndarray of shape (n_accesses,), int32
        Active slots, row by row, ascending in each.
    is_hit : ndarray of shape (n_accesses,), uint8
        1 where the neuron in the slot was in DRAM.
    row_starts : ndarray of shape (n_rows + 1,), int64
        Row ``first_row + i`` has the accesses from ``row_starts[i]`` to before ``row_starts[i + 1]``.
    n_bound_hits : int
        Hits of the cache that serves as bound, 0 if there is none.
    fires : ndarray of shape (n_accesses,), uint8, or None
        1 where the neuron fires; None where all do.
    """

    first_row: int
    slots: Int32Array
    is_hit: UInt8Array
    row_starts: Int64Array
    n_bound_hits: int = 0
    fires: UInt8Array | None = None

    @property
    def accesses(self) -> SlotAccesses:
        """What kernels take: the slots, row by row, and which of them were in DRAM."""
        return SlotAccesses(self.slots, self.row_starts, self.is_hit)

    def row(self, row: int) -> tuple[Int32Array, BoolArray]:
        """Return a copy of one row's active slots, and which of them were in DRAM."""
        start, stop = self.row_starts[row - self.first_row], self.row_starts[row - self.first_row + 1]
        return self.slots[start:stop].copy(), self.is_hit[start:stop].astype(bool)

    @property
    def n_rows(self) -> int:
        """Rows in the chunk."""
        return self.row_starts.size - 1


def replay_block(
    trace: BlockTrace,
    placement: NeuronPlacement,
    cache: Cache,
    *,
    name: str = "",
    admission: Admission | None = None,
    reset_rows: Sequence[int] = (),
    bound: Cache | None = None,
    fired: BlockTrace | None = None,
) -> Iterator[Chunk]:
    """Yield what each row of the block's trace accesses, in slot order, and what of it was in DRAM.

    Parameters
    ----------
    trace : BlockTrace
    placement : NeuronPlacement
        Of as many neurons as the trace.
    cache : Cache
        Asked for one neuron after the other, by neuron; its state advances.
    name : str
        Of the block; what admission draws depends on it.
    admission : Admission, optional
        Which misses may enter `cache`; None admits all.
    reset_rows : sequence of int
        Ascending rows before which caches are emptied.
    bound : Cache, optional
        Asked for the same neurons, all of them admitted; its hits are counted beside.
    fired : BlockTrace, optional
        What fires, of the same rows; then `trace` says what is asked for, and only what fires may enter `cache`. None:
        what is asked for fires.

    Notes
    -----
    Memory is that of one chunk, whatever the length of the trace. Caches that know the future need the trace read
    twice, and four bytes for each neuron and chunk: as much as the packed trace itself in blocks of 16,384 neurons,
    proportionally less in smaller ones.
    """
    n_neurons, n_rows = trace.n_neurons, trace.n_rows
    chunk_rows = max(1, min(n_rows, CHUNK_BITS // n_neurons))
    n_words = -(-n_neurons // 64)
    padded = np.zeros((chunk_rows, 8 * n_words), np.uint8)  # rows made whole words; the bits added stay 0
    words: AnyArray = padded.view("<u8")
    slot_words = np.zeros(n_words, np.uint64)
    slots, neurons, next_row = (np.empty(chunk_rows * n_neurons, np.int32) for _ in range(3))
    is_hit, is_bound_hit, admitted, all_admitted = (np.ones(chunk_rows * n_neurons, np.uint8) for _ in range(4))
    fires = None if fired is None else np.empty(chunk_rows * n_neurons, np.uint8)
    row_starts = np.empty(chunk_rows + 1, np.int64)
    chunks, resets = _chunks(n_rows, chunk_rows, reset_rows), frozenset(map(int, reset_rows))
    caches = [cache] if bound is None else [cache, bound]
    needs_future = any(cache.needs_future for cache in caches)
    futures = _futures(trace, chunks, padded) if needs_future else None
    admission = admission or Admission()
    for index, (first_row, stop_row) in enumerate(chunks):
        n_chunk_rows = stop_row - first_row
        _load(trace, first_row, stop_row, padded)
        starts = row_starts[: n_chunk_rows + 1]
        slots_in_order(words[:n_chunk_rows], placement.slot_of, slot_words, slots, starts)
        n = int(starts[-1])
        np.take(placement.order, slots[:n], out=neurons[:n], mode="clip")
        if futures is not None:
            next_rows(neurons[:n], starts, first_row, futures[index], next_row)
        if first_row in resets:
            for each in caches:
                each.reset()
        future = next_row[:n] if futures is not None else None
        if bound is not None:
            bound.replay(Accesses(neurons[:n], starts, all_admitted[:n], future), is_bound_hit[:n])
        if admission.cutoff is not None:
            admission.admit(name, slots[:n], neurons[:n], starts, first_row, admitted[:n])
        if fires is not None and fired is not None:
            note_firing(np.asarray(fired.active[first_row:stop_row]), neurons[:n], starts, fires[:n])
            if admission.cutoff is None:
                admitted[:n] = fires[:n]
            else:
                admitted[:n] &= fires[:n]
        cache.replay(Accesses(neurons[:n], starts, admitted[:n], future), is_hit[:n])
        n_bound_hits = 0 if bound is None else int(np.count_nonzero(is_bound_hit[:n]))
        yield Chunk(first_row, slots[:n], is_hit[:n], starts, n_bound_hits, None if fires is None else fires[:n])


def _chunks(n_rows: int, chunk_rows: int, reset_rows: Sequence[int]) -> list[tuple[int, int]]:
    """Return first row and end of each chunk; none crosses a reset."""
    bounds = [0, *(row for row in reset_rows if 0 < row < n_rows), n_rows]
    return [
        (first, min(first + chunk_rows, stop)) for start, stop in pairwise(bounds)
        for first in range(start, stop, chunk_rows)
    ]  # fmt: skip


def _load(trace: BlockTrace, first_row: int, stop_row: int, padded: UInt8Array) -> None:
    """Copy rows of the trace to the top of `padded`."""
    padded[: stop_row - first_row, : trace.active.shape[1]] = np.asarray(trace.active[first_row:stop_row])


def _futures(trace: BlockTrace, chunks: list[tuple[int, int]], padded: UInt8Array) -> Int32Array:
    """Return for each chunk the first row after it in which each neuron fires, the number of rows if none does."""
    futures = np.empty((len(chunks), trace.n_neurons), np.int32)
    next_row = np.full(trace.n_neurons, trace.n_rows, np.int32)
    for index in range(len(chunks) - 1, -1, -1):
        futures[index] = next_row
        first_row, stop_row = chunks[index]
        _load(trace, first_row, stop_row, padded)
        note_rows(padded[: stop_row - first_row].view("<u8"), first_row, next_row)
    return futures
