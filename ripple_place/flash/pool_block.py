"""One block of a pool, and the arrays that hold the accesses of a chunk of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.kernels.future import next_rows, note_rows
from ripple_place.kernels.gates import note_firing
from ripple_place.kernels.reads import slots_in_order

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray, Int32Array, Int64Array, UInt8Array
    from ripple_place.flash.admission import Admission
    from ripple_place.placement import NeuronPlacement
    from ripple_place.trace.activation_trace import BlockTrace


@dataclass(frozen=True, eq=False)
class PoolBuffers:
    """The accesses of a chunk, each array as long as accesses can be.

    One block after the other: `slots`, `neurons` (of the block), `next_row`, `admitted`, `fires` and `is_hit`; as the
    cache gets them: `pooled`, `pooled_next`, `pooled_admitted` and `pooled_hit`. Only what is used takes memory.
    """

    slots: Int32Array
    neurons: Int32Array
    next_row: Int64Array
    admitted: UInt8Array
    fires: UInt8Array
    is_hit: UInt8Array
    pooled: Int32Array
    pooled_next: Int64Array
    pooled_admitted: UInt8Array
    pooled_hit: UInt8Array

    @classmethod
    def allocate(cls, n: int) -> PoolBuffers:
        """Return arrays for up to `n` accesses."""
        small, wide, byte = np.int32, np.int64, np.uint8
        kinds = (small, small, wide, byte, byte, byte, small, wide, byte, byte)
        return cls(*(np.empty(n, kind) for kind in kinds))  # type: ignore[arg-type]


class PoolBlock:
    """One block of the pool: its rows of the present chunk, listed in slot order.

    Parameters
    ----------
    name : str
    trace : BlockTrace
    placement : NeuronPlacement
    number, first_neuron : int
        Of the block among the others, and of its first neuron in the pool.
    n_blocks, n_tokens : int
        Of the whole trace.
    bounds : ndarray of shape (n_chunks + 1,), int64
        First token of each chunk, and their end.
    fired : BlockTrace, optional
        What fires of what is asked for; None: all of it.
    """

    def __init__(
        self, name: str, trace: BlockTrace, placement: NeuronPlacement, number: int, first_neuron: int,
        n_blocks: int, n_tokens: int, bounds: Int64Array, fired: BlockTrace | None = None,
    ) -> None:  # fmt: skip
        self._fired = fired
        self.name, self.number, self.first_neuron = name, number, first_neuron
        self._trace, self._placement, self._n_blocks = trace, placement, n_blocks
        index = trace.token_index
        # The token of each row; behind the last row the end of the trace.
        self._tokens = np.append(np.arange(n_tokens) if index is None else index, n_tokens).astype(np.int64)
        self.bounds = np.searchsorted(self._tokens[:-1], bounds)
        n_words = -(-trace.n_neurons // 64)
        self._padded = np.zeros((int(np.diff(self.bounds).max(initial=0)), 8 * n_words), np.uint8)
        self._slot_words = np.zeros(n_words, np.uint64)
        self._futures: Int32Array | None = None
        self.place = 0
        """Where the block's accesses begin in the arrays of a chunk."""

    def look_ahead(self) -> None:
        """Note for each chunk the first row after it in which each neuron fires."""
        n_chunks = self.bounds.size - 1
        self._futures = np.empty((n_chunks, self._trace.n_neurons), np.int32)
        next_row = np.full(self._trace.n_neurons, self._trace.n_rows, np.int32)
        for chunk in range(n_chunks - 1, -1, -1):
            self._futures[chunk] = next_row
            note_rows(self._load(chunk), int(self.bounds[chunk]), next_row)

    def n_bits(self, chunk: int) -> int:
        """Return how many accesses the block can have in a chunk."""
        return int(self.bounds[chunk + 1] - self.bounds[chunk]) * self._trace.n_neurons

    def tokens(self, chunk: int) -> Int64Array:
        """Return the token of each of the chunk's rows."""
        return self._tokens[self.bounds[chunk] : self.bounds[chunk + 1]]

    def list_accesses(self, chunk: int, place: int, buffers: PoolBuffers, admission: Admission) -> Int64Array:
        """Write the block's accesses from `place` on; return where each row begins, counted from there."""
        self.place = place
        words = self._load(chunk)
        starts = np.empty(words.shape[0] + 1, np.int64)
        slots, neurons = buffers.slots[place:], buffers.neurons[place:]
        slots_in_order(words, self._placement.slot_of, self._slot_words, slots, starts)
        n, first_row = int(starts[-1]), int(self.bounds[chunk])
        np.take(self._placement.order, slots[:n], out=neurons[:n], mode="clip")
        if self._futures is not None:
            rows = buffers.next_row[place : place + n]
            next_rows(neurons[:n], starts, first_row, self._futures[chunk], rows)
            # Rows of the pool are numbered as if every token reached every block. What is never asked for again is
            # the same for all blocks: such neurons are equals.
            following = self._tokens[rows] * self._n_blocks + self.number
            following[rows == self._trace.n_rows] = self._tokens[-1] * self._n_blocks
            rows[:] = following
        if admission.cutoff is not None:
            admission.admit(self.name, slots[:n], neurons[:n], starts, first_row, buffers.admitted[place : place + n])
        if self._fired is not None:
            fires = buffers.fires[place : place + n]
            note_firing(
                np.asarray(self._fired.active[first_row : int(self.bounds[chunk + 1])]), neurons[:n], starts, fires
            )
            if admission.cutoff is None:
                buffers.admitted[place : place + n] = fires
            else:
                buffers.admitted[place : place + n] &= fires
        elif admission.cutoff is None:
            buffers.admitted[place : place + n] = 1
        return starts

    def fires(self, buffers: PoolBuffers, n_accesses: int) -> UInt8Array | None:
        """Return which of the chunk's accesses are to neurons that fire; None where all are."""
        return None if self._fired is None else buffers.fires[self.place : self.place + n_accesses]

    def _load(self, chunk: int) -> AnyArray:
        """Return the rows of a chunk as whole words; those of the chunk before are gone."""
        first, stop = int(self.bounds[chunk]), int(self.bounds[chunk + 1])
        active = self._trace.active
        self._padded[: stop - first, : active.shape[1]] = np.asarray(active[first:stop])
        return self._padded[: stop - first].view("<u8")
