"""A queue of reads kept full: so many threads, each of which issues the next read as soon as its last one is done."""

from __future__ import annotations

import ctypes
import errno
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.storage.direct_file import aligned_buffer, read_into
from ripple_place.kernels.storage import ABORT, FIRST_COUNTER, STOP, Requests, ServiceLog, serve_requests

if TYPE_CHECKING:
    from types import TracebackType

    from ripple_place.arrays import AnyArray, Float64Array, Int64Array, UInt8Array
    from ripple_place.flash.storage.direct_file import DirectFile


_BARRIER_BYTES = 64
"""Room for a pthread_barrier_t: 32 bytes in glibc and musl on 64-bit machines."""


@dataclass(frozen=True, eq=False)
class ReadTimes:
    """When each of a list of reads was issued and done.

    Attributes
    ----------
    start_ns, end_ns : ndarray of shape (n_requests,), int64
        From the first read's start on.
    depth : int
        Reads in flight.
    """

    start_ns: Int64Array
    end_ns: Int64Array
    depth: int

    @property
    def elapsed_us(self) -> float:
        """From the first read's start to the last one's end."""
        return float(self.end_ns.max()) / 1e3

    @property
    def latency_us(self) -> Float64Array:
        """Time of each read, its wait in queues below included."""
        return (self.end_ns - self.start_ns) / 1e3

    @property
    def steady_us(self) -> float:
        """Time per read while the queue was full: what filling and draining it takes does not count.

        From the first ``depth`` reads done to the last ``depth`` still in flight; of fewer than ``4 * depth`` reads,
        the elapsed time over their number.
        """
        n_requests = self.end_ns.size
        if n_requests < 4 * self.depth:
            return self.elapsed_us / n_requests
        done_ns = np.sort(self.end_ns)
        first, last = self.depth - 1, n_requests - self.depth
        return float(done_ns[last] - done_ns[first]) / 1e3 / (last - first)


class QueueReader:
    """Threads and buffers that read one file; a context manager.

    Parameters
    ----------
    file : DirectFile
    depth : int
        Reads in flight, at least 1.
    max_request_bytes : int
        Longest read.
    """

    def __init__(self, file: DirectFile, depth: int, max_request_bytes: int) -> None:
        if depth < 1 or max_request_bytes < 1:
            raise UsageError(
                "queue", found=f"depth {depth}, reads of {max_request_bytes} bytes", expected="at least 1 of each",
                remedy="correct the number",
            )  # fmt: skip
        self.file, self.depth, self.max_request_bytes = file, depth, max_request_bytes
        self._buffers = [aligned_buffer(max_request_bytes) for _ in range(depth)]
        self._barrier = ctypes.create_string_buffer(_BARRIER_BYTES)
        ctypes.CDLL(None).pthread_barrier_init(self._barrier, None, ctypes.c_uint(depth))
        self._pool = ThreadPoolExecutor(depth + 1)

    def __enter__(self) -> QueueReader:
        nothing = np.empty(0, np.int64)
        self._serve(nothing, nothing, np.zeros(1, np.int64))  # compiles
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def read(
        self,
        offset_bytes: AnyArray,
        length_bytes: AnyArray,
        batch_starts: AnyArray | None = None,
    ) -> ReadTimes:
        """Read ranges of the file in the order given, as fast as the depth allows; what is read is thrown away.

        Parameters
        ----------
        offset_bytes, length_bytes : ndarray of shape (n_requests,), integer
            Multiples of the file's alignment, inside the file; at least one.
        batch_starts : ndarray of shape (n_batches + 1,), integer, optional
            From the first request to their number: each batch begins when all of the one before is read. None: one
            batch.

        Raises
        ------
        UsageError
            If a range is not aligned, too long, or outside the file.
        OSError
            If storage refuses a read, or returns less.
        """
        offsets = np.ascontiguousarray(offset_bytes, np.int64)
        lengths = np.ascontiguousarray(length_bytes, np.int64)
        starts = np.array([0, offsets.size] if batch_starts is None else batch_starts, np.int64)
        self._check(offsets, lengths)
        start_ns, end_ns, n_read = self._serve(offsets, lengths, starts)
        if (failed := np.flatnonzero(n_read != lengths)).size:
            # The others gave up when one failed: the failed one is the one that was issued first.
            first = int(failed[np.argmin(np.where(end_ns[failed] > 0, start_ns[failed], np.iinfo(np.int64).max))])
            self._explain(int(offsets[first]), int(lengths[first]))
        begin_ns = start_ns.min()
        return ReadTimes(start_ns - begin_ns, end_ns - begin_ns, self.depth)

    def _check(self, offsets: Int64Array, lengths: Int64Array) -> None:
        """Check ranges against the file."""
        alignment = self.file.alignment_bytes
        wrong = (offsets % alignment != 0) | (lengths % alignment != 0) | (offsets < 0) | (lengths <= 0)
        wrong |= (lengths > self.max_request_bytes) | (offsets + lengths > self.file.size_bytes)
        if offsets.size == 0 or wrong.any():
            at = int(np.argmax(wrong)) if offsets.size else -1
            raise UsageError(
                f"{self.file.path}",
                found=f"a read of {lengths[at]} bytes at byte {offsets[at]}" if offsets.size else "nothing to read",
                expected=f"multiples of {alignment} of at most {self.max_request_bytes}, below {self.file.size_bytes}",
                remedy="align the reads and stay inside the file",
            )

    def _serve(self, offsets: Int64Array, lengths: Int64Array, batch_starts: Int64Array) -> ServiceLog:
        """Run the workers; return start and end of each request, and the bytes it read."""
        requests = Requests(offsets, lengths, batch_starts)
        log = ServiceLog(*(np.zeros(offsets.size, np.int64) for _ in range(3)))
        state = np.zeros(FIRST_COUNTER + max(0, batch_starts.size - 1), np.int64)
        state[FIRST_COUNTER:] = batch_starts[:-1]

        def work(buffer: UInt8Array) -> None:
            serve_requests(
                self.file.descriptor, buffer.ctypes.data, self.depth, ctypes.addressof(self._barrier), requests, state,
                np.zeros(2, np.int64), log,
            )  # fmt: skip

        def work_all() -> None:
            try:
                workers = [self._pool.submit(work, buffer) for buffer in self._buffers]
            except BaseException:  # no more threads: those that run wait for ones that never will
                state[ABORT] = 1
                raise
            for worker in workers:
                worker.result()

        # From a thread of its own, where Ctrl-C does not strike: either all workers are started, or none is.
        conductor = self._pool.submit(work_all)
        try:
            wait([conductor])
        except BaseException:
            state[STOP] = 1
            raise
        conductor.result()
        return log

    def _explain(self, offset_bytes: int, length_bytes: int) -> None:
        """Raise what is wrong with a read that failed: repeated where an error has a number."""
        n_read = read_into(self.file.descriptor, self._buffers[0][:length_bytes], offset_bytes)
        raise OSError(
            errno.EIO,
            f"read failed or fell short at byte {offset_bytes} ({n_read} of {length_bytes} bytes now); leave the file "
            "alone while it is measured, or check the storage if it was",
            str(self.file.path),
        )  # fmt: skip
