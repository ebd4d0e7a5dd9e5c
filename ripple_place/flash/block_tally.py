"""Adds up what one block costs, a chunk of its rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.block_rows import BlockRows, RowCounter, by_token
from ripple_place.flash.hit_counts import HitCounter
from ripple_place.flash.results import BlockResult, FlashTotals, percentiles_us
from ripple_place.kernels.reads import CEILING, LINE, NEURONS_READ, PAGES, READS, REQUESTS

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray, Float64Array, Int32Array
    from ripple_place.flash.block_reader import BlockReader
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.gate_reader import GateReader
    from ripple_place.flash.layout import BlockLayout
    from ripple_place.flash.replay import Chunk


@dataclass(frozen=True, eq=False)
class RowTokens:
    """Which tokens of a trace reach a block.

    Parameters
    ----------
    n_rows : int
    token_index : ndarray of shape (n_rows,), int32, or None
        Token of each row, ascending; None where every token reaches the block.
    n_tokens : int
        Of the trace.
    """

    n_rows: int
    token_index: Int32Array | None
    n_tokens: int

    @property
    def tokens(self) -> Int32Array:
        """Token of each row, shape (n_rows,), int32."""
        return np.arange(self.n_rows, dtype=np.int32) if self.token_index is None else self.token_index


class BlockTally:
    """What one block costs.

    Parameters
    ----------
    layout : BlockLayout
    device : DeviceProfile
    reader : BlockReader or GateReader
        Plans the reads of each chunk.
    rows : RowTokens
    capacity : int or None
        Neurons that DRAM holds; None in a pool of all blocks.
    has_bound : bool
        Whether chunks come with the hits of the best replacement.
    n_unpredicted : int
        Neurons that fire, over all rows, and that nothing asks for.

    Attributes
    ----------
    row_gate_us : ndarray of shape (n_rows,), float64, or None
        Flash time of each row's gates, part of its time; None unless gates are read first.
    """

    def __init__(
        self, layout: BlockLayout, device: DeviceProfile, reader: BlockReader | GateReader, rows: RowTokens,
        capacity: int | None, has_bound: bool = False, n_unpredicted: int = 0,
    ) -> None:  # fmt: skip
        self._bundle_bytes, self._page_bytes = layout.extent.bundle_bytes, device.page_bytes
        self._reader, self._rows, self._capacity, self._n_unpredicted = reader, rows, capacity, n_unpredicted
        self._counter = HitCounter(rows.tokens, rows.n_tokens, has_bound=has_bound)
        self._row_us, self._row_counter = np.zeros(rows.n_rows), RowCounter(rows.n_rows)
        self.row_gate_us: Float64Array | None = None
        self._n_active = self._n_hits = 0
        self._extra_us, self._extra_requests, self._extra_bytes, self._ahead_us = 0.0, 0, 0, 0.0

    def add(self, chunk: Chunk) -> None:
        """Charge the reads of consecutive rows."""
        reads, rows = self._reader.read(chunk), slice(chunk.first_row, chunk.first_row + chunk.n_rows)
        self._row_us[rows] = reads.row_us
        if reads.gate_us is not None:
            if self.row_gate_us is None:
                self.row_gate_us = np.zeros(self._rows.n_rows)
            self.row_gate_us[rows] = reads.gate_us
        self._n_active += chunk.slots.size
        self._n_hits += int(np.count_nonzero(chunk.is_hit))
        self._counter.count(chunk)
        self._row_counter.count(chunk)

    def charge(self, row_us: float, n_requests: int, bytes_read: int, *, is_ahead: bool = False) -> None:
        """Charge every row what it reads whatever it needs.

        Parameters
        ----------
        row_us : float
            Flash time of a row.
        n_requests, bytes_read : int
            Of a row.
        is_ahead : bool
            Whether that is read before it is known what the row asks for.
        """
        self._extra_us, self._extra_requests, self._extra_bytes = row_us, n_requests, bytes_read
        self._ahead_us = row_us if is_ahead else 0.0

    def result(self) -> tuple[BlockResult, BlockRows]:
        """Return what the block costs, and what it served each token."""
        totals, other_us, n_rows = self._reader.totals, self._reader.other_us, self._rows.n_rows
        row_us = self._row_us + self._extra_us

        def of_tokens(values: AnyArray) -> AnyArray:
            return by_token(values, self._rows.token_index, self._rows.n_tokens)

        token_rows = BlockRows(
            of_tokens(row_us), of_tokens(self._row_counter.n_hits), of_tokens(self._row_counter.n_misses),
            None if self.row_gate_us is None else of_tokens(self.row_gate_us), self._ahead_us,
        )  # fmt: skip
        bytes_requested, bytes_active = self._reader.wanted_bytes(self._n_active, self._n_hits)
        block_totals = FlashTotals(
            n_active=self._n_active,
            n_hits=self._n_hits,
            n_reads=int(totals[READS]),
            n_neurons_read=int(totals[NEURONS_READ]),
            n_requests=int(totals[REQUESTS]) + self._extra_requests * n_rows,
            bytes_read=int(totals[PAGES]) * self._page_bytes + self._extra_bytes * n_rows,
            bytes_requested=bytes_requested,
            bytes_active=bytes_active,
            read_length_counts=self._reader.length_counts,
            flash_time_us=float(row_us.sum()),
            flash_time_linear_us=float(other_us[LINE]) + self._extra_us * n_rows,
            flash_time_ceiling_us=float(other_us[CEILING]) + self._extra_us * n_rows,
            hits=self._counter.counts(),
        )
        block = BlockResult(
            n_rows, self._bundle_bytes, self._reader.gap, self._capacity, block_totals,
            percentiles_us(token_rows.flash_us), self._reader.gate_totals(self._n_unpredicted),
        )  # fmt: skip
        return block, token_rows
