"""Workers that read a file into memory: they sleep until there is a batch, and hold no lock of the interpreter."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from ripple_place.kernels.compiled import compiled
from ripple_place.kernels.storage import clock_gettime, external_c_function, fetch_add, pread

# Entries of the control words, int64.
N_REQUESTS, NEXT, FAILED, STOP = range(4)
N_CONTROL = 4
_CLOCK_MONOTONIC = 1  # Linux: include/uapi/linux/time.h

_sem_wait = external_c_function("sem_wait", ctypes.c_int, ctypes.c_void_p)
_sem_post = external_c_function("sem_post", ctypes.c_int, ctypes.c_void_p)


_ATTEMPTS = 3
"""File systems in user space let signals interrupt a read."""


class Batch(NamedTuple):
    """The reads of a batch, in arrays that stay where they are.

    Attributes
    ----------
    offset_bytes, length_bytes, target_bytes : ndarray of shape (max_requests,), int64
        Where in the file, how long, and where in memory, from its start.
    least_bytes : ndarray of shape (max_requests,), int64
        What a read must return at least: less than its length at the end of the file.
    n_read : ndarray of shape (max_requests,), int64
        Written: what it returned, -1 for an error.
    """

    offset_bytes: Any
    length_bytes: Any
    target_bytes: Any
    least_bytes: Any
    n_read: Any


@compiled
def take_requests(descriptor: int, memory_address: int, batch: Batch, control: Any) -> None:
    """Take requests off the batch, one after the other, until none is left or one has failed.

    Parameters
    ----------
    descriptor : int
        Open file.
    memory_address : int
        Where targets count from.
    batch : Batch
    control : ndarray of shape (N_CONTROL,), int64
        Shared: ``N_REQUESTS`` of the batch, the ``NEXT`` one, and how many have ``FAILED``.
    """
    offset_bytes, length_bytes, target_bytes, least_bytes, n_read = batch
    while fetch_add(control, FAILED, 0) == 0:
        request = fetch_add(control, NEXT, 1)
        if request >= control[N_REQUESTS]:
            return
        for _ in range(_ATTEMPTS):
            n_read[request] = pread(
                descriptor, memory_address + target_bytes[request], length_bytes[request], offset_bytes[request]
            )  # fmt: skip
            if n_read[request] >= 0:
                break
        if n_read[request] < least_bytes[request]:
            fetch_add(control, FAILED, 1)


@compiled
def work(
    descriptor: int, memory_address: Any, wake_address: int, done_address: int, batch: Batch, control: Any,
    clock: Any, end_ns: Any, worker: int,
) -> None:  # fmt: skip
    """Serve batches until ``STOP`` is set.

    Parameters
    ----------
    descriptor : int
    memory_address : ndarray of shape (1,), int64
        Where targets count from; it may be another one for each batch.
    wake_address, done_address : int
        Initialised ``sem_t``: one waits for a batch, and says that nothing is left of it.
    batch : Batch
    control : ndarray of shape (N_CONTROL,), int64
    clock : ndarray of shape (2,), int64
        Scratch of this worker.
    end_ns : ndarray of shape (n_workers,), int64
        Written: when this worker found nothing left.
    worker : int
    """
    while True:
        while _sem_wait(wake_address) != 0:
            pass  # A signal came first.
        if fetch_add(control, STOP, 0) != 0:
            return
        take_requests(descriptor, memory_address[0], batch, control)
        clock_gettime(_CLOCK_MONOTONIC, clock.ctypes.data)
        end_ns[worker] = clock[0] * 1_000_000_000 + clock[1]
        _sem_post(done_address)


@compiled
def wake(wake_address: int, n_workers: int) -> None:
    """Let so many workers look at the batch."""
    for _ in range(n_workers):
        _sem_post(wake_address)


@compiled
def wait_for(done_address: int, n_workers: int) -> None:
    """Wait until so many workers have found nothing left."""
    for _ in range(n_workers):
        while _sem_wait(done_address) != 0:
            pass  # A signal came first.
