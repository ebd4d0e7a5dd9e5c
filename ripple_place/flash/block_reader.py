"""The reader of one block: plans the reads of each chunk of tokens and adds up what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.planners.registry import find_planner
from ripple_place.flash.planners.two_copies import TwoCopyPlanner
from ripple_place.kernels.faults import charge_faults
from ripple_place.kernels.read_state import ReadCharges, RequestTimes, RowReads
from ripple_place.kernels.reads import N_FORMS, N_TOTALS, charge_reads

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array, Int32Array, Int64Array
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.gate_totals import GateTotals
    from ripple_place.flash.layout import BlockLayout
    from ripple_place.flash.planners.planner import Planner
    from ripple_place.flash.replay import Chunk


@dataclass(frozen=True, eq=False)
class ChunkReads:
    """The reads of a chunk's rows; arrays are reused by the next chunk.

    Attributes
    ----------
    first_slot, last_slot : ndarray of shape (n_reads,), int32
        Of each read, both included; those of a second copy count on from those of the first.
    read_starts : ndarray of shape (n_rows + 1,), int64
        Row i has the reads from ``read_starts[i]`` to before ``read_starts[i + 1]``.
    row_us : ndarray of shape (n_rows,), float64
        Flash time of each row.
    gate_us : ndarray of shape (n_rows,), float64, or None
        The part of it in which gates were read, where they are read first.
    """

    first_slot: Int32Array
    last_slot: Int32Array
    read_starts: Int64Array
    row_us: Float64Array
    gate_us: Float64Array | None = None


class BlockReader:
    """Reads what the rows of one block miss, and keeps count.

    Parameters
    ----------
    layout : BlockLayout
    device : DeviceProfile
        If it is mapped, the kernel decides what is read: page faults and read-ahead instead of a plan.
    planner : str
        See `ripple_place.flash.planners.registry`. Where the layout has two copies of its neurons, only ``fixed``,
        which then reads from either.
    gap : int
        Of the fixed planner; where the adaptive one starts.

    Raises
    ------
    UsageError
        If the planner cannot serve the layout, or the device.

    Attributes
    ----------
    gap : int or None
        Of the fixed planner, None where there is not one gap.
    totals : ndarray of shape (ripple_place.kernels.reads.N_TOTALS,), int64
    length_counts : ndarray of shape (n_neurons + 1,), int64
    other_us : ndarray of shape (ripple_place.kernels.reads.N_FORMS,), float64
        Flash time so far on the device's line and under its ceiling.
    """

    def __init__(self, layout: BlockLayout, device: DeviceProfile, planner: str, gap: int) -> None:
        self._planner: Planner | None
        if layout.n_copies == 2:
            self._planner = TwoCopyPlanner(layout, device, gap, planner)
        else:
            self._planner = None if device.is_mapped else find_planner(planner)(layout, device, gap)
        self.gap = self._planner.gap if self._planner is not None else None
        self._bundle_bytes = layout.extent.bundle_bytes
        self._window_pages = (device.read_ahead_bytes or device.page_bytes) // device.page_bytes
        self._extent = layout.paged_extent(device.page_bytes)
        self._times = RequestTimes(
            device.request_table_us(),
            device.request_table_us(device.line(layout.extent.bundle_bytes)),
            device.charged_ceiling(),
        )
        self._slots, self._row_us = np.empty((2, 0), np.int32), np.empty(0)
        self._read_starts = np.empty(1, np.int64)
        self.totals, self.other_us = np.zeros(N_TOTALS, np.int64), np.zeros(N_FORMS)
        self.length_counts = np.zeros(layout.n_neurons + 1, np.int64)

    def read(self, chunk: Chunk) -> ChunkReads:
        """Return the reads of the chunk's rows, after adding them to the totals."""
        self._fit(chunk)
        first_slot, last_slot = self._slots
        reads = RowReads(first_slot, last_slot, self._read_starts[: chunk.n_rows + 1])
        row_us = self._row_us[: chunk.n_rows]
        charges = ReadCharges(self.totals, self.length_counts, row_us, self.other_us)
        if self._planner is None:
            charge_faults(chunk.accesses, self._window_pages, self._extent, self._times, reads, charges)
        else:
            self._planner.plan(chunk, reads)
            self._charge(reads, charges)
        n_reads = reads.read_starts[-1]
        return ChunkReads(first_slot[:n_reads], last_slot[:n_reads], reads.read_starts, row_us)

    def gate_totals(self, n_unpredicted: int) -> GateTotals | None:
        """Return what reading gates first cost: here nothing is."""
        return None

    def wanted_bytes(self, n_active: int, n_hits: int) -> tuple[int, int]:
        """Return the bytes of what was asked for, and of what of that was not in DRAM."""
        return n_active * self._bundle_bytes, (n_active - n_hits) * self._bundle_bytes

    def _charge(self, reads: RowReads, charges: ReadCharges) -> None:
        """Charge the reads of some rows."""
        charge_reads(reads, self._extent, self._times, charges)

    def _fit(self, chunk: Chunk) -> None:
        """Make room for a chunk that is larger than those before."""
        if self._slots.shape[1] < chunk.slots.size:
            self._slots = np.empty((2, chunk.slots.size + chunk.slots.size // 4), np.int32)
        if self._row_us.size < chunk.n_rows:
            self._row_us, self._read_starts = np.empty(chunk.n_rows), np.empty(chunk.n_rows + 1, np.int64)
