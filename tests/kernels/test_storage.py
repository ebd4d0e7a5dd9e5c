"""The reading kernel against plain reads: every request once, in order of batches, with the right bytes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.kernels.storage import ABORT, FIRST_COUNTER, STOP, Requests, ServiceLog, fetch_add, serve_requests
from tests.reference import storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel calls Linux's C library")


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """Return an open file of 10,000 random bytes."""
    (tmp_path / "file").write_bytes(np.random.default_rng(0).bytes(10_000))
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def serve(
    descriptor: int, requests: list[tuple[int, int]], batch_starts: list[int], *, stop: int = 0
) -> tuple[np.ndarray, ...]:
    """Run one worker; return its buffer, start and end times, and bytes read."""
    offsets, lengths = (np.array(column, np.int64) for column in zip(*requests, strict=True))
    starts = np.array(batch_starts, np.int64)
    state = np.zeros(FIRST_COUNTER + starts.size - 1, np.int64)
    state[FIRST_COUNTER:] = starts[:-1]
    state[STOP] = stop
    buffer = np.zeros(4096, np.uint8)
    log = ServiceLog(*(np.zeros(offsets.size, np.int64) for _ in range(3)))
    serve_requests(
        descriptor, buffer.ctypes.data, 1, 0, Requests(offsets, lengths, starts), state, np.zeros(2, np.int64), log
    )
    return buffer, *log


def test_requests_are_read_in_order(descriptor: int) -> None:
    """Each request reads what a plain read does; the last one's bytes are left in the buffer."""
    requests = [(0, 100), (4096, 4096), (9_000, 500)]
    buffer, start_ns, end_ns, n_read = serve(descriptor, requests, [0, 3])
    plain = storage.serve(descriptor, requests)
    assert n_read.tolist() == [len(read) for read in plain]
    assert buffer[:500].tobytes() == plain[-1]
    assert (start_ns > 0).all()
    assert (start_ns <= end_ns).all()
    assert (end_ns[:-1] <= start_ns[1:]).all()


def test_a_short_read_stops_the_list(descriptor: int) -> None:
    """A read past the end returns what is there; the requests after it are left alone."""
    requests = [(0, 512), (9_900, 512), (0, 512)]
    *_, start_ns, _, n_read = serve(descriptor, requests, [0, 3])
    assert n_read.tolist() == [512, len(storage.serve(descriptor, requests)[1]), 0]
    assert start_ns[2] == 0


def test_an_error_stops_the_list() -> None:
    """A read that the system refuses counts -1."""
    *_, n_read = serve(-1, [(0, 512), (0, 512)], [0, 2])
    assert n_read.tolist() == [-1, 0]


def test_stop_flag_is_obeyed(descriptor: int) -> None:
    """What Ctrl-C sets keeps every request from being issued."""
    *_, n_read = serve(descriptor, [(0, 512)], [0, 1], stop=1)
    assert n_read.tolist() == [0]


def test_an_aborted_start_reads_nothing(descriptor: int) -> None:
    """A worker that waits for others gives up when it is told that they will not come."""
    state = np.array([0, 0, 1, 0], np.int64)
    assert ABORT == 2
    one = np.full(1, 512, np.int64)
    n_read = np.zeros(1, np.int64)
    requests, log = Requests(one, one, np.array([0, 1])), ServiceLog(one, one, n_read)
    serve_requests(descriptor, 0, 2, 0, requests, state, np.zeros(2, np.int64), log)
    assert (n_read.tolist(), state.tolist()) == ([0], [1, 0, 1, 0])


def test_fetch_add_returns_what_was_there() -> None:
    """Also as plain Python, which the kernel is without compilation."""
    counters = np.array([5, 7], np.int64)
    assert [fetch_add(counters, 1, 2), fetch_add(counters, 1, 0)] == [7, 9]
    assert counters.tolist() == [5, 9]
