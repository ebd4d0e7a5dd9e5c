"""Reads of a storage device by one worker of several, without Python between two of them.

A worker that returns from `pread` to the interpreter waits there for the lock that the others want too: on two cores
that halves the reads a second. These loops call the C library directly and hold no lock.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, NamedTuple

import numpy as np
from numba import config, types
from numba.extending import intrinsic, overload

from ripple_place.kernels.compiled import compiled

# Entries of the shared state, int64.
READY, STOP, ABORT, FIRST_COUNTER = range(4)


class Requests(NamedTuple):
    """What is to be read.

    Attributes
    ----------
    offset_bytes, length_bytes : ndarray of shape (n_requests,), int64
    batch_starts : ndarray of shape (n_batches + 1,), int64
        Batch b is the requests ``batch_starts[b]`` to before ``batch_starts[b + 1]``.
    """

    offset_bytes: Any
    length_bytes: Any
    batch_starts: Any


class ServiceLog(NamedTuple):
    """When each request was served; each worker writes the entries of its own requests.

    Attributes
    ----------
    start_ns, end_ns : ndarray of shape (n_requests,), int64
        When it was issued and done.
    n_read : ndarray of shape (n_requests,), int64
        Bytes read, -1 for an error.
    """

    start_ns: Any
    end_ns: Any
    n_read: Any


def external_c_function(name: str, restype: Any, *argtypes: Any) -> Any:
    """Return a function of the C library: by its symbol for compiled code (which can be cached), else by ctypes."""
    if not config.DISABLE_JIT:  # type: ignore[attr-defined]
        numba_types: dict[Any, Any] = {ctypes.c_int: types.intc, ctypes.c_void_p: types.uintp}
        numba_types |= {ctypes.c_size_t: types.uintp, ctypes.c_ssize_t: types.intp, ctypes.c_int64: types.int64}
        return types.ExternalFunction(name, numba_types[restype](*(numba_types[kind] for kind in argtypes)))
    function = getattr(ctypes.CDLL(None), name, None)
    if function is None:  # no barriers on macOS, where nothing of this is called either
        return None
    function.restype, function.argtypes = restype, argtypes
    return lambda *arguments: function(*map(int, arguments))  # It takes no integers of numpy's.


pread = external_c_function(
    "pread", ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
)  # fmt: skip
clock_gettime = external_c_function("clock_gettime", ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
_sched_yield = external_c_function("sched_yield", ctypes.c_int)
_barrier_wait = external_c_function("pthread_barrier_wait", ctypes.c_int, ctypes.c_void_p)

_CLOCK_MONOTONIC = 1  # Linux: include/uapi/linux/time.h
_lock = threading.Lock()


def fetch_add(array: Any, index: int, amount: int) -> int:
    """Add to an int64 of an array that threads share, and return what it was before, as one step."""
    with _lock:
        before = int(array[index])
        array[index] = before + amount
        return before


@intrinsic
def _atomic_add(typing_context: Any, address: Any, amount: Any) -> Any:
    """LLVM's atomic addition to the int64 at an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], context.get_value_type(types.int64).as_pointer())
        return builder.atomic_rmw("add", pointer, args[1], "seq_cst")

    return types.int64(types.uintp, types.int64), codegen


@overload(fetch_add, strict=False)
def _fetch_add(array: Any, index: Any, amount: Any) -> Any:
    def add(array: Any, index: Any, amount: Any) -> Any:
        return _atomic_add(np.uintp(array.ctypes.data + 8 * index), np.int64(amount))  # type: ignore[call-arg]

    return add


@compiled
def serve_requests(
    descriptor: int, buffer_address: int, n_workers: int, barrier_address: int, requests: Requests, state: Any,
    clock: Any, log: ServiceLog,
) -> None:  # fmt: skip
    """Take requests off the list, one after the other, until none is left; in place, caller allocates.

    All workers run this on the same arrays but for `buffer_address` and `clock`. They begin together, and begin each
    batch only after all of the one before is read.

    Parameters
    ----------
    descriptor : int
        Open file.
    buffer_address : int
        Memory of this worker, aligned, as long as the longest request.
    n_workers : int
    barrier_address : int
        An initialised ``pthread_barrier_t`` for `n_workers`; unused with a single batch.
    requests : Requests
    state : ndarray of shape (FIRST_COUNTER + n_batches,), int64
        Shared: ``READY``, ``STOP`` and ``ABORT`` at 0, then each batch's next request, at its start. Who sets ``STOP``
        ends the reading; all workers still come to the barrier. ``ABORT`` is for when some will never begin.
    clock : ndarray of shape (2,), int64
        Scratch of this worker.
    log : ServiceLog
        Written. After either a short read or an error, all workers stop reading.
    """
    offset_bytes, length_bytes, batch_starts = requests
    start_ns, end_ns, n_read = log
    fetch_add(state, READY, 1)
    while fetch_add(state, READY, 0) < n_workers:
        if fetch_add(state, ABORT, 0) != 0:
            return
        _sched_yield()
    for batch in range(batch_starts.size - 1):
        while fetch_add(state, STOP, 0) == 0:
            request = fetch_add(state, FIRST_COUNTER + batch, 1)
            if request >= batch_starts[batch + 1]:
                break
            clock_gettime(_CLOCK_MONOTONIC, clock.ctypes.data)
            start_ns[request] = clock[0] * 1_000_000_000 + clock[1]
            n_read[request] = pread(descriptor, buffer_address, length_bytes[request], offset_bytes[request])
            clock_gettime(_CLOCK_MONOTONIC, clock.ctypes.data)
            end_ns[request] = clock[0] * 1_000_000_000 + clock[1]
            if n_read[request] != length_bytes[request]:
                fetch_add(state, STOP, 1)
        if batch + 2 < batch_starts.size:
            _barrier_wait(barrier_address)
