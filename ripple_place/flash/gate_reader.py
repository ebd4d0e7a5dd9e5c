"""The reader that looks at gates first: the gates of candidates, then the rest of those that fire."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.block_reader import BlockReader, ChunkReads
from ripple_place.flash.bundle_form import GATES_APART, WHOLE
from ripple_place.flash.gate_first import FULL_GATE, RESIDENT
from ripple_place.flash.gate_totals import GateTotals
from ripple_place.flash.layout import BlockExtent, BlockLayout
from ripple_place.kernels.gates import charge_new_pages
from ripple_place.kernels.read_state import ReadCharges, RowReads
from ripple_place.kernels.reads import N_TOTALS, PAGES, READS, REQUESTS
from ripple_place.units import whole_gap

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array, Int64Array
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.gate_first import GateFirst
    from ripple_place.flash.replay import Chunk
    from ripple_place.kernels.read_state import PagedExtent


class GateReader:
    """Reads one block in two phases, and keeps count of both; used as `BlockReader` is.

    Parameters
    ----------
    layout : BlockLayout
        With a form.
    device : DeviceProfile
    planner : str
        Of both phases; see `ripple_place.flash.planners.registry`.
    gap : int
        Unwanted neurons that reads go through.
    gate_first : GateFirst or None
        None: what is asked for is known to fire, and both phases read it.
    is_given : bool
        Whether `gap` was asked for. If it was not, each phase has the break-even gap of what it reads.

    Raises
    ------
    UsageError
        If the planner cannot serve the layout, bundles lie in two copies, a mapped file would be read, or all gates are
        to be read that do not lie together.

    Attributes
    ----------
    gap : int or None
        Of all that is read; None where there is not one gap.

    Notes
    -----
    Pages that a token fetched with gates are kept until it has read the rest, and not read again. Everything else is
    as in `BlockReader`.
    """

    def __init__(
        self, layout: BlockLayout, device: DeviceProfile, planner: str, gap: int, gate_first: GateFirst | None,
        *, is_given: bool,
    ) -> None:  # fmt: skip
        form = layout.form
        assert form is not None
        self._mode = None if gate_first is None else gate_first.mode
        check_reader(layout, device, self._mode)
        self._form, self._page_bytes = form, device.page_bytes
        base, page_bytes = layout.extent.base_offset_bytes, device.page_bytes
        whole = replace(layout, form=None)
        gates = replace(whole, extent=BlockExtent(form.gate_bytes, form.gate_stride_bytes, base))
        rest_extent = BlockExtent(form.rest_bytes, form.rest_stride_bytes, base + form.rest_offset_bytes)
        rest = replace(whole, extent=rest_extent)
        gate_gap, rest_gap = (gap if is_given else gap_of_part(part.extent, device) for part in (gates, rest))
        if planner != "fixed":  # Their gaps are of at least 0: where they start.
            gate_gap, rest_gap = max(0, gate_gap), max(0, rest_gap)
        self._gates: BlockReader | None = None
        self._rest: BlockReader | None = None
        # What the phases want of a neuron, in bytes.
        self._gate_bytes, self._rest_bytes = form.gate_bytes, form.rest_bytes
        if form.name == WHOLE:
            reader = BlockReader(whole, device, planner, gap)
            if self._mode == RESIDENT:
                self._rest, self._gate_bytes = reader, 0
            else:
                self._gates, self._gate_bytes, self._rest_bytes = reader, form.bundle_bytes, 0
        elif self._mode == RESIDENT:
            self._rest, self._gate_bytes = BlockReader(rest, device, planner, rest_gap), 0
        elif self._mode == FULL_GATE:
            self._gates = _AllGatesReader(gates, device, planner, gate_gap)
            self._rest = BlockReader(rest, device, planner, rest_gap)
        else:
            self._gates = BlockReader(gates, device, planner, gate_gap)
            self._rest = (
                BlockReader(rest, device, planner, rest_gap) if form.is_apart
                else _NewPagesReader(rest, device, planner, rest_gap, gates.paged_extent(page_bytes))
            )  # fmt: skip
        self._phases = [phase for phase in (self._gates, self._rest) if phase is not None]
        gaps = {phase.gap for phase in self._phases}
        gap_of_all = gaps.pop() if len(gaps) == 1 else None
        self.gap = gap_of_all if gap_of_all is not None and gap_of_all >= 0 else None
        self._n_neurons, self._n_rows = layout.n_neurons, 0
        self._n_fired = self._n_rest = self._n_candidates = self._n_looked_at = 0
        self._gate_us = 0.0

    def read(self, chunk: Chunk) -> ChunkReads:
        """Return the reads of the chunk's rows, those of the last phase alone, and the time of both."""
        is_missed = chunk.is_hit == 0
        is_rest = is_missed if chunk.fires is None else is_missed & (chunk.fires != 0)
        self._n_rows += chunk.n_rows
        self._n_candidates += chunk.slots.size
        self._n_fired += chunk.slots.size if chunk.fires is None else int(np.count_nonzero(chunk.fires))
        self._n_looked_at += int(np.count_nonzero(is_missed))
        self._n_rest += int(np.count_nonzero(is_rest))
        gates = rest = None
        if self._gates is not None:
            gates = self._gates.read(chunk)
        if self._rest is not None:
            if isinstance(self._rest, _NewPagesReader) and gates is not None:
                self._rest.fetched = RowReads(gates.first_slot, gates.last_slot, gates.read_starts)
            rest = self._rest.read(replace(chunk, is_hit=(~is_rest).astype(np.uint8)))
        gate_us: Float64Array = np.zeros(chunk.n_rows) if gates is None else gates.row_us
        self._gate_us += float(gate_us.sum())
        last = rest or gates
        assert last is not None
        row_us = gate_us if rest is None else gate_us + rest.row_us
        first_us = None if self._mode is None else gate_us
        return ChunkReads(last.first_slot, last.last_slot, last.read_starts, row_us, first_us)

    @property
    def totals(self) -> Int64Array:
        """As `BlockReader.totals`, of both phases."""
        totals: Int64Array = np.sum([phase.totals for phase in self._phases], axis=0)
        return totals

    @property
    def length_counts(self) -> Int64Array:
        """As `BlockReader.length_counts`, of both phases."""
        counts: Int64Array = np.sum([phase.length_counts for phase in self._phases], axis=0)
        return counts

    @property
    def other_us(self) -> Float64Array:
        """As `BlockReader.other_us`, of both phases."""
        other_us: Float64Array = np.sum([phase.other_us for phase in self._phases], axis=0)
        return other_us

    def wanted_bytes(self, n_active: int, n_hits: int) -> tuple[int, int]:
        """Return the bytes of what was asked for, and of what of that was not in DRAM."""
        of_rest, of_rest_missed = self._n_fired * self._rest_bytes, self._n_rest * self._rest_bytes
        if self._mode == FULL_GATE:
            all_gates = self._n_rows * self._n_neurons * self._gate_bytes
            return all_gates + of_rest, all_gates + of_rest_missed
        return n_active * self._gate_bytes + of_rest, (n_active - n_hits) * self._gate_bytes + of_rest_missed

    def gate_totals(self, n_unpredicted: int) -> GateTotals | None:
        """Return what the first phase cost; None where nobody looks at gates first."""
        if self._mode is None:
            return None
        totals = np.zeros(N_TOTALS, np.int64) if self._gates is None else self._gates.totals
        return GateTotals(
            self._mode,
            self._form.name,
            n_reads=int(totals[READS]),
            n_requests=int(totals[REQUESTS]),
            bytes_read=int(totals[PAGES]) * self._page_bytes,
            flash_time_us=self._gate_us,
            n_candidates=self._n_candidates,
            n_fired=self._n_fired,
            n_unpredicted=n_unpredicted,
            n_looked_at=self._n_looked_at,
            n_rest=self._n_rest,
        )


class _NewPagesReader(BlockReader):
    """Reads only pages that the reads before, `fetched`, have not fetched for the same row."""

    fetched: RowReads

    def __init__(
        self, layout: BlockLayout, device: DeviceProfile, planner: str, gap: int, fetched_extent: PagedExtent
    ) -> None:
        super().__init__(layout, device, planner, gap)
        self._fetched_extent = fetched_extent

    def _charge(self, reads: RowReads, charges: ReadCharges) -> None:
        charge_new_pages(reads, self._extent, self.fetched, self._fetched_extent, self._times, charges)


class _AllGatesReader(BlockReader):
    """Reads all slots for every row, in one read, whatever it asks for."""

    def read(self, chunk: Chunk) -> ChunkReads:
        """Return a read of all slots for each of the chunk's rows, after adding it to the totals."""
        n_rows, last_slot = chunk.n_rows, self.length_counts.size - 2
        reads = RowReads(
            np.zeros(n_rows, np.int32), np.full(n_rows, last_slot, np.int32), np.arange(n_rows + 1, dtype=np.int64)
        )
        row_us = np.empty(n_rows)
        self._charge(reads, ReadCharges(self.totals, self.length_counts, row_us, self.other_us))
        return ChunkReads(reads.first_slot, reads.last_slot, reads.read_starts, row_us)


def gap_of_part(extent: BlockExtent, device: DeviceProfile) -> int:
    """Return the largest gap, in slots, worth reading through for one part of bundles; -1: not even neighbours merge.

    Between the parts of two slots, g others apart, lie ``(g + 1) * stride - part`` bytes that nobody wants.
    """
    part_bytes, stride_bytes = extent.bundle_bytes, extent.stride_bytes
    worth = device.break_even_gap(part_bytes) * part_bytes - (stride_bytes - part_bytes)
    return -1 if worth < 0 else whole_gap(worth / stride_bytes)


def check_reader(layout: BlockLayout, device: DeviceProfile, mode: str | None) -> None:
    """Refuse what cannot be read in two phases.

    Raises
    ------
    UsageError
        If bundles lie in two copies, the file is mapped, or all gates are to be read that do not lie together.
    """
    form = layout.form
    assert form is not None
    if layout.n_copies == 2:
        raise UsageError(
            "gates", found="a layout with two copies of its neurons", expected="one copy",
            remedy="leave --gate-first and --bundle-form out, or reorder without --copies 2",
        )  # fmt: skip
    if device.is_mapped:
        raise UsageError(
            "--access mmap", found="gates that are read first, or lie apart", expected="bundles that are read whole",
            remedy="leave --access mmap out, or --gate-first and --bundle-form",
        )  # fmt: skip
    if mode == FULL_GATE and not form.is_apart:
        raise UsageError(
            f"--gate-first {FULL_GATE}", found=f"bundles of form {form.name}, whose gates do not lie together",
            expected=f"form {GATES_APART}", remedy=f"add --bundle-form {GATES_APART}",
        )  # fmt: skip
