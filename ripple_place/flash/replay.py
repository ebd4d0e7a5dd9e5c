"""Replay one block's trace through its layout and its DRAM cache, a chunk of tokens at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.kernels.reads import slots_in_order

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ripple_place.flash.caches.registry import Cache
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
    """

    first_row: int
    slots: npt.NDArray[np.int32]
    is_hit: npt.NDArray[np.uint8]
    row_starts: npt.NDArray[np.int64]

    def row(self, row: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Return a copy of one row's active slots, and which of them were in DRAM."""
        start, stop = self.row_starts[row - self.first_row], self.row_starts[row - self.first_row + 1]
        return self.slots[start:stop].copy(), self.is_hit[start:stop].astype(bool)

    @property
    def n_rows(self) -> int:
        """Rows in the chunk."""
        return self.row_starts.size - 1


def replay_block(trace: BlockTrace, placement: NeuronPlacement, cache: Cache) -> Iterator[Chunk]:
    """Yield what each row of the block's trace accesses, in slot order, and what of it was in DRAM.

    Parameters
    ----------
    trace : BlockTrace
    placement : NeuronPlacement
        Of as many neurons as the trace.
    cache : Cache
        Asked for one neuron after the other, by neuron; its state advances.

    Notes
    -----
    Memory is that of one chunk, whatever the length of the trace.
    """
    n_neurons, n_rows = trace.n_neurons, trace.n_rows
    row_bytes = trace.active.shape[1]
    n_words = -(-n_neurons // 64)
    chunk_rows = max(1, min(n_rows, CHUNK_BITS // n_neurons))
    padded = np.zeros((chunk_rows, 8 * n_words), np.uint8)  # rows made whole words; the bits added stay 0
    words: npt.NDArray[Any] = padded.view("<u8")
    slot_words = np.zeros(n_words, np.uint64)
    slots = np.empty(chunk_rows * n_neurons, np.int32)
    neurons = np.empty(chunk_rows * n_neurons, np.int32)
    is_hit = np.empty(chunk_rows * n_neurons, np.uint8)
    row_starts = np.empty(chunk_rows + 1, np.int64)
    for first_row in range(0, n_rows, chunk_rows):
        rows = trace.active[first_row : first_row + chunk_rows]
        padded[: len(rows), :row_bytes] = rows
        slots_in_order(words[: len(rows)], placement.slot_of, slot_words, slots, row_starts[: len(rows) + 1])
        n_accesses = row_starts[len(rows)]
        np.take(placement.order, slots[:n_accesses], out=neurons[:n_accesses], mode="clip")
        cache.replay(neurons[:n_accesses], is_hit[:n_accesses])
        yield Chunk(first_row, slots[:n_accesses], is_hit[:n_accesses], row_starts[: len(rows) + 1])
