"""One block, served for real: cache, plan, read, copy; as the simulator does it, and with the bytes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.caches.cache import Accesses
from ripple_place.flash.replay import Chunk
from ripple_place.kernels.fetched_rows import ReadList, copy_fetched, list_requests
from ripple_place.runtime.block_parts import second_slots
from ripple_place.runtime.counters import BlockCounters

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from ripple_place.arrays import AnyArray, Int32Array, Int64Array, UInt8Array
    from ripple_place.flash.admission import Admission
    from ripple_place.flash.block_reader import ChunkReads
    from ripple_place.flash.caches.cache import Cache
    from ripple_place.flash.layout import BlockLayout
    from ripple_place.runtime.block_parts import BlockPart
    from ripple_place.runtime.bundled_file import BundledFile
    from ripple_place.runtime.kept_rows import KeptRows
    from ripple_place.runtime.read_queue import ReadQueue


@dataclass(frozen=True, eq=False)
class CacheSite:
    """A DRAM cache and the bytes in it: of one block, or of all blocks of a pool.

    Attributes
    ----------
    cache : Cache
    kept : KeptRows
    lock : threading.Lock
        Held while a row is served.
    """

    cache: Cache
    kept: KeptRows
    lock: threading.Lock


@dataclass(frozen=True, eq=False)
class _PartReads:
    """What is under way of one part."""

    part: BlockPart
    reads: ReadList
    read_at_bytes: Int64Array


class PendingRows:
    """Rows that are being read: those of hits are there, the others after `wait`.

    Attributes
    ----------
    rows : ndarray of shape (n, row_bytes), uint8
    is_hit : ndarray of shape (n,), bool
    """

    def __init__(self, server: BlockServer, chunk: Chunk, units: Int32Array, rows: UInt8Array, held: ExitStack) -> None:
        self.rows, self.is_hit = rows, chunk.is_hit.astype(bool)
        self._server, self._chunk, self._units, self._held = server, chunk, units, held

    def wait(self) -> UInt8Array:
        """Return all rows, once they are read; to be called once.

        Raises
        ------
        OSError, CheckpointError
            If storage refuses, or the file was changed.
        """
        with self._held:
            self._server.finish(self._chunk, self._units, self.rows)
        return self.rows


class BlockServer:
    """Serves the rows of one block.

    Parameters
    ----------
    name : str
    layout : BlockLayout
    site : CacheSite
    first_unit : int
        Of the block in its cache.
    parts : sequence of BlockPart
    queue : ReadQueue
    file : BundledFile
    admission : Admission
    max_request_bytes : int
        Where reads are split.
    is_last : bool
        Whether a token ends with this block.
    """

    def __init__(
        self, name: str, layout: BlockLayout, site: CacheSite, first_unit: int, parts: Sequence[BlockPart],
        queue: ReadQueue, file: BundledFile, admission: Admission, max_request_bytes: int, *, is_last: bool,
    ) -> None:  # fmt: skip
        self.name, self.layout, self.site, self.counters = name, layout, site, BlockCounters()
        self._first_unit, self._parts, self._queue, self._file = first_unit, tuple(parts), queue, file
        self._admission, self._max_request_bytes = admission, max_request_bytes
        self._token_ends = np.array([is_last], np.uint8)
        self._second_slot = second_slots(layout)
        self._row_bytes = sum(part.extent.bundle_bytes for part in parts)
        self._under_way: list[_PartReads] = []

    @property
    def row_bytes(self) -> int:
        """Bytes of a row: of the parts that are read."""
        return self._row_bytes

    @property
    def order(self) -> Int32Array:
        """``order[slot]``: the unit of the source model."""
        return self.layout.placement.order

    @property
    def units(self) -> Int32Array:
        """The block's units, as its cache numbers them."""
        return np.arange(self._first_unit, self._first_unit + self.layout.n_neurons, dtype=np.int32)

    def begin(self, slots: AnyArray, is_hit: AnyArray | None = None, rows: UInt8Array | None = None) -> PendingRows:
        """Ask the cache, and start reading what it lacks.

        Parameters
        ----------
        slots : ndarray of shape (n,), int32, or of shape (n_units,), bool
            Ascending, none twice; or which are wanted.
        is_hit : ndarray of shape (n,), uint8, optional
            Which of them are in DRAM, where somebody else has asked this very cache. None: it is asked here.
        rows : ndarray of shape (n, row_bytes), uint8, optional
            Memory to write to, C-contiguous; None takes new memory.

        Raises
        ------
        UsageError
            If slots are not ascending, or out of range, or the memory does not fit.
        """
        slots = self._checked(slots)
        if rows is None:
            rows = np.empty((slots.size, self._row_bytes), np.uint8)
        elif rows.shape != (slots.size, self._row_bytes) or rows.dtype != np.uint8 or not rows.flags.c_contiguous:
            raise UsageError(
                self.name, found=f"memory of {rows.dtype} {list(rows.shape)}",
                expected=f"uint8 [{slots.size}, {self._row_bytes}], contiguous", remedy="give an array of that shape",
            )  # fmt: skip
        held = ExitStack()
        try:
            held.enter_context(self.site.lock)
            units = self.order[slots] + np.int32(self._first_unit)
            hit = self._ask_cache(slots, units) if is_hit is None else np.ascontiguousarray(is_hit, np.uint8)
            chunk = Chunk(0, slots, hit, np.array([0, slots.size], np.int64))
            held.enter_context(self._queue.lock)
            self._start_reads(chunk)
            self.site.kept.copy(units, hit, rows)
        except BaseException:
            held.close()
            raise
        return PendingRows(self, chunk, units, rows, held)

    def finish(self, chunk: Chunk, units: Int32Array, rows: UInt8Array) -> None:
        """Wait for the reads of `begin`, copy what they fetched, and let DRAM keep what the cache says."""
        self._queue.finish()
        self._file.check_unchanged()
        for each in self._under_way:
            extent = each.part.extent
            copy_fetched(
                chunk.slots, chunk.is_hit, self._second_slot, each.reads, each.read_at_bytes, extent.stride_bytes,
                extent.bundle_bytes, self._queue.memory, rows, each.part.row_at_bytes,
            )  # fmt: skip
        self.site.kept.settle(units, chunk.is_hit, rows)
        self.counters.read_us.append(self._queue.times.elapsed_us)
        self.counters.waited_us.append(self._queue.times.waited_us)

    def load(self, units: Int32Array) -> int:
        """Read units of this block that DRAM holds from the start, uncounted; return their bytes."""
        if not units.size:
            return 0
        is_held = np.zeros(self.layout.n_neurons, bool)
        is_held[units - self._first_unit] = True
        slots = np.flatnonzero(is_held[self.order])
        totals, counters = [part.reader.totals.copy() for part in self._parts], self.counters
        self.counters = BlockCounters()
        self.begin(slots, np.zeros(slots.size, np.uint8)).wait()
        self.counters = counters
        for part, before in zip(self._parts, totals, strict=True):
            part.reader.totals[:] = before
        return slots.size * self._row_bytes

    def _checked(self, slots: AnyArray) -> Int32Array:
        n = self.layout.n_neurons
        if slots.dtype == bool and slots.shape == (n,):
            return np.flatnonzero(slots).astype(np.int32)
        slots = np.ascontiguousarray(slots, np.int32)
        if slots.ndim != 1 or (slots.size and (slots[0] < 0 or slots[-1] >= n or not (slots[1:] > slots[:-1]).all())):
            raise UsageError(
                self.name, found="slots that are out of order, or out of range",
                expected=f"0 to {n - 1}, each once",
                remedy="sort them, and leave out what stands twice",
            )  # fmt: skip
        return slots

    def _ask_cache(self, slots: Int32Array, units: Int32Array) -> UInt8Array:
        """Get, then admit, each unit; return which were there."""
        starts = np.array([0, slots.size], np.int64)
        admitted, is_hit = np.ones(slots.size, np.uint8), np.empty(slots.size, np.uint8)
        if self._admission.cutoff is not None:
            neurons = units - np.int32(self._first_unit)
            self._admission.admit(self.name, slots, neurons, starts, self.counters.n_rows, admitted)
        self.site.cache.replay(Accesses(units, starts, admitted, token_ends=self._token_ends), is_hit)
        return is_hit

    def _start_reads(self, chunk: Chunk) -> None:
        """Plan, count and begin the reads of a row."""
        counters, queue = self.counters, self._queue
        planned = [(part, part.reader.read(chunk)) for part in self._parts]
        n_requests, memory_bytes = self._list(planned)
        if n_requests > queue.batch.offset_bytes.size or memory_bytes > queue.memory.size:
            queue.need(n_requests, memory_bytes)
            n_requests, memory_bytes = self._list(planned)
        queue.begin(n_requests)
        counters.n_rows += 1
        counters.n_asked += chunk.slots.size
        counters.n_hits += int(np.count_nonzero(chunk.is_hit))
        counters.n_reads += sum(each.reads.first_slot.size for each in self._under_way)
        counters.n_requests += n_requests
        counters.bytes_read += int(queue.batch.length_bytes[:n_requests].sum())
        counters.predicted_us.append(float(sum(reads.row_us[0] for _, reads in planned)))

    def _list(self, planned: Sequence[tuple[BlockPart, ChunkReads]]) -> tuple[int, int]:
        """Write the requests of planned reads to the queue's batch; return their number and the memory they fill."""
        self._under_way = []
        n_requests = memory_bytes = 0
        for part, chunk_reads in planned:
            reads = ReadList(chunk_reads.first_slot, chunk_reads.last_slot)
            read_at_bytes = np.empty(reads.first_slot.size, np.int64)
            n_requests, memory_bytes = list_requests(
                reads, self.layout.n_neurons, part.extent, self._max_request_bytes, self._file.size_bytes,
                memory_bytes, n_requests, self._queue.batch, read_at_bytes,
            )  # fmt: skip
            self._under_way.append(_PartReads(part, reads, read_at_bytes))
        return n_requests, memory_bytes
