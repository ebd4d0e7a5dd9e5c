"""A bounded queue of reads into memory: so many in flight, by threads that sleep between batches."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.storage.direct_file import aligned_buffer, read_into
from ripple_place.kernels.read_queue import (
    FAILED,
    N_CONTROL,
    N_REQUESTS,
    STOP,
    Batch,
    take_requests,
    wait_for,
    wake,
    work,
)
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from types import TracebackType

    from ripple_place.arrays import UInt8Array
    from ripple_place.runtime.bundled_file import BundledFile

MAX_DEPTH = 1024
FIRST_REQUESTS = 4096
"""Room for so many at first; a batch with more gets more."""
_SEMAPHORE_BYTES = 64
"""Room for a sem_t: 32 bytes in glibc and musl on 64-bit machines."""


@dataclass
class BatchTimes:
    """What the last batch took.

    Attributes
    ----------
    elapsed_us : float
        From the first read's start to the last one's end.
    waited_us : float
        Of that, while `ReadQueue.finish` waited: the rest was hidden behind something else.
    """

    elapsed_us: float = 0.0
    waited_us: float = 0.0


class ReadQueue:
    """Threads that read one file into memory of this object; a context manager that ends them.

    One batch at a time: `begin` it, `finish` it. Callers on several threads take turns (`lock`).

    Parameters
    ----------
    file : BundledFile
    depth : int
        Reads in flight.

    Attributes
    ----------
    lock : threading.Lock
        To be held from before `begin` until what was read has been copied.
    memory : ndarray of uint8
        What is read goes here.
    batch : Batch
        Filled by whoever begins a batch.

    Raises
    ------
    UsageError
        If the depth is out of range.
    """

    def __init__(self, file: BundledFile, depth: int) -> None:
        if not 1 <= depth <= MAX_DEPTH:
            raise UsageError(
                "--queue-depth", found=f"{depth} reads in flight", expected=f"1 to {MAX_DEPTH}",
                remedy="write a number in that range",
            )  # fmt: skip
        self.depth, self.lock, self.times = depth, threading.Lock(), BatchTimes()
        self._file = file
        self.memory: UInt8Array = aligned_buffer(1 << 20)
        self.batch = _room(FIRST_REQUESTS)
        self._workers: _Workers | None = None
        self._finalizer: weakref.finalize[..., ReadQueue] | None = None
        self._begun_ns = 0

    def __enter__(self) -> ReadQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; a batch that was begun is finished first."""
        if self._finalizer is not None:
            self._finalizer()
        self._workers = self._finalizer = None

    def start(self) -> None:
        """Start the threads by a read of the file's first page, for which the first batch would have to wait.

        Raises
        ------
        OSError
            As `finish`.
        """
        page_bytes = self._file.alignment_bytes
        for array, value in zip(self.batch, (0, page_bytes, 0, min(page_bytes, self._file.size_bytes), 0), strict=True):
            array[0] = value
        self.begin(1)
        self.finish()

    def need(self, n_requests: int, memory_bytes: int) -> None:
        """Make room for a batch; what was there is lost."""
        if n_requests > self.batch.offset_bytes.size:
            self.close()  # Threads know the arrays that there were.
            self.batch = _room(2 * n_requests)
        if memory_bytes > self.memory.size:
            self.memory = aligned_buffer(memory_bytes + memory_bytes // 4)

    def begin(self, n_requests: int) -> None:
        """Start reading the first `n_requests` of `batch`."""
        self._begun_ns = time.perf_counter_ns()
        if n_requests == 0:
            return
        if self._workers is None:
            self._workers = _Workers(self._file.descriptor, self.depth, self.batch)
            # A queue that is forgotten, not closed, must not leave threads that write to its memory.
            self._finalizer = weakref.finalize(self, self._workers.end)
        self._workers.start(n_requests, self.memory.ctypes.data)

    def finish(self) -> None:
        """Wait for the batch, and note what it took in `times`.

        Raises
        ------
        OSError
            If storage refused a read, or returned less than the file had.
        """
        waiting_ns = time.perf_counter_ns()
        if self._workers is None or not self._workers.n_woken:
            self.times = BatchTimes()
            return
        end_ns, n_failed = self._workers.wait()
        now_ns = time.perf_counter_ns()
        self.times = BatchTimes((end_ns - self._begun_ns) / 1e3, (now_ns - waiting_ns) / 1e3)
        if n_failed:
            self._explain(self._workers.n_requests)

    def _explain(self, n_requests: int) -> None:
        """Raise what is wrong with the first read that failed: repeated where an error has a number."""
        offsets, lengths, _, least, n_read = (array[:n_requests] for array in self.batch)
        first = int(np.argmax(n_read < least))
        offset_bytes, length_bytes = int(offsets[first]), int(lengths[first])
        n_now = read_into(self._file.descriptor, aligned_buffer(length_bytes), offset_bytes)
        size_bytes = os.fstat(self._file.descriptor).st_size
        found = (
            "was cut short" if size_bytes < offset_bytes + least[first] else "failed, though not when it was repeated"
        )
        raise OSError(
            errno.EIO,
            f"a read of {format_bytes(length_bytes)} at byte {offset_bytes} {found} ({n_now} bytes now); no token was "
            "made of it. Leave the file alone while it is used, or check the storage",
            str(self._file.path),
        )  # fmt: skip


class _Workers:
    """The threads of a queue, and what they share."""

    def __init__(self, descriptor: int, depth: int, batch: Batch) -> None:
        self.n_woken = 0
        library = ctypes.CDLL(None)
        self._semaphores = [ctypes.create_string_buffer(_SEMAPHORE_BYTES) for _ in range(2)]
        for semaphore in self._semaphores:
            library.sem_init(semaphore, 0, ctypes.c_uint(0))
        self._wake, self._done = map(ctypes.addressof, self._semaphores)
        self._control, self._address = np.zeros(N_CONTROL, np.int64), np.zeros(1, np.int64)
        self._clocks, self._end_ns = np.zeros((depth, 2), np.int64), np.zeros(depth, np.int64)
        # Compiled before there are threads, which would all do it.
        take_requests(descriptor, 0, batch, self._control)
        wake(self._wake, 0)
        wait_for(self._done, 0)
        self._threads = [
            threading.Thread(
                target=work, daemon=True, name=f"ripple-place read {worker}",
                args=(descriptor, self._address, self._wake, self._done, batch, self._control, self._clocks[worker],
                      self._end_ns, worker),
            )
            for worker in range(depth)
        ]  # fmt: skip
        for thread in self._threads:
            thread.start()

    @property
    def n_requests(self) -> int:
        """Of the batch under way."""
        return int(self._control[N_REQUESTS])

    def start(self, n_requests: int, memory_address: int) -> None:
        """Let as many workers as there are requests read a batch."""
        self.n_woken = min(n_requests, len(self._threads))
        self._control[:] = 0
        self._control[N_REQUESTS] = n_requests
        self._address[0] = memory_address
        self._end_ns[:] = 0
        wake(self._wake, self.n_woken)

    def wait(self) -> tuple[int, int]:
        """Wait until workers are done; return when the last one was, and how many reads failed."""
        wait_for(self._done, self.n_woken)
        self.n_woken = 0
        return int(self._end_ns.max()), int(self._control[FAILED])

    def end(self) -> None:
        """Wait until workers are done, and end all threads."""
        self.wait()
        self._control[STOP] = 1
        wake(self._wake, len(self._threads))
        for thread in self._threads:
            thread.join()


def _room(n_requests: int) -> Batch:
    return Batch(*(np.zeros(n_requests, np.int64) for _ in range(5)))
