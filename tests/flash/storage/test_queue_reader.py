"""The queue of reads: everything once, never more in flight than the depth, batches apart, errors and Ctrl-C."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.storage import queue_reader
from ripple_place.flash.storage.queue_reader import QueueReader, ReadTimes
from tests.reference.storage import most_in_flight

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.flash.storage.direct_file import DirectFile


def spans(times: ReadTimes) -> list[tuple[int, int]]:
    """Return (start, end) of each read."""
    return list(zip(times.start_ns.tolist(), times.end_ns.tolist(), strict=True))


@pytest.mark.parametrize("depth", [1, 3, 8])
def test_all_reads_are_done_within_the_depth(data: DirectFile, depth: int) -> None:
    """Every read has its times, and no more are in flight than the queue has places."""
    rng = np.random.default_rng(1)
    offsets = rng.integers(0, 200, 300) * 4096
    with QueueReader(data, depth, 16384) as reader:
        times = reader.read(offsets, rng.integers(1, 5, 300) * 4096)
    assert times.start_ns.size == 300
    assert times.start_ns.min() == 0
    assert (times.end_ns > times.start_ns).all()
    assert most_in_flight(spans(times)) <= depth
    assert times.elapsed_us == times.end_ns.max() / 1000


def test_batches_do_not_overlap(data: DirectFile) -> None:
    """A batch begins after all of the one before is read."""
    starts = [0, 5, 6, 40, 64]
    with QueueReader(data, 4, 4096) as reader:
        times = reader.read(np.arange(64) * 4096, np.full(64, 4096), np.array(starts))
    for before, start, stop in zip(starts, starts[1:], starts[2:], strict=False):
        assert times.end_ns[before:start].max() <= times.start_ns[start:stop].min()


def test_a_reader_can_be_used_again(data: DirectFile) -> None:
    """Counters and the barrier begin anew with each list."""
    with QueueReader(data, 3, 4096) as reader:
        for _ in range(3):
            assert reader.read(np.arange(10) * 4096, np.full(10, 4096), np.array([0, 4, 10])).end_ns.all()


def test_steady_time_leaves_out_filling_and_draining() -> None:
    """Two places, a read done every 10 us: worked out by hand, and the plain mean where reads are few."""
    end_ns = np.array([30, 10, 20, 40, 50, 60, 70, 80, 200]) * 1000
    assert ReadTimes(np.zeros(9, np.int64), end_ns, 2).steady_us == 10
    assert ReadTimes(np.zeros(3, np.int64), end_ns[:3], 2).steady_us == 10
    assert ReadTimes(np.zeros(9, np.int64), end_ns, 2).latency_us.max() == 200


@pytest.mark.parametrize(
    ("offset", "length", "found"),
    [(100, 4096, "4096 bytes at byte 100"), (0, 100, "100 bytes"), (0, 8192, "8192 bytes"), (1 << 20, 4096, "4096"),
     (-4096, 4096, "-4096"), (0, 0, "0 bytes")],
)  # fmt: skip
def test_reads_that_do_not_fit_are_refused(data: DirectFile, offset: int, length: int, found: str) -> None:
    """Not aligned, too long for the buffers, outside the file, empty."""
    with QueueReader(data, 2, 4096) as reader, pytest.raises(UsageError, match=found):
        reader.read(np.array([0, offset]), np.array([4096, length]))


def test_nothing_to_read_is_refused(data: DirectFile) -> None:
    """A list without reads has no time."""
    with QueueReader(data, 2, 4096) as reader, pytest.raises(UsageError, match="nothing to read"):
        reader.read(np.empty(0), np.empty(0))


def test_depth_of_nothing_is_refused(data: DirectFile) -> None:
    """A queue has at least one place."""
    with pytest.raises(UsageError, match="depth 0"):
        QueueReader(data, 0, 4096)


def test_storage_that_returns_less_is_an_error(data: DirectFile, data_path: Path) -> None:
    """A file that shrank while it was measured does not give times of reads that did not happen."""
    longer = replace(data, size_bytes=2 * data.size_bytes)
    with QueueReader(longer, 2, 4096) as reader, pytest.raises(OSError, match="fell short at byte 1048576") as caught:
        reader.read(np.array([0, 1 << 20, 4096]), np.full(3, 4096), np.array([0, 1, 2, 3]))
    assert caught.value.filename == str(data_path)


def test_storage_that_fails_is_an_error(data: DirectFile) -> None:
    """The system's own error comes through."""
    closed = replace(data, descriptor=10**6)
    with QueueReader(closed, 2, 4096) as reader, pytest.raises(OSError, match="Bad file descriptor"):
        reader.read(np.array([0]), np.array([4096]))


def test_threads_that_cannot_be_started_are_an_error(data: DirectFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers that run do not wait for those that never will."""
    with QueueReader(data, 4, 4096) as reader:
        submit, tasks = reader._pool.submit, []

        def refuse(*arguments: object) -> object:
            tasks.append(arguments)
            if len(tasks) == 3:  # the second worker
                raise RuntimeError("can't start new thread")
            return submit(*arguments)

        monkeypatch.setattr(reader._pool, "submit", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            reader.read(np.array([0]), np.array([4096]))


def test_interruption_lets_the_workers_go(data: DirectFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while waiting: the workers stop, the queue closes, and the interruption goes on."""

    def interrupt(workers: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), QueueReader(data, 2, 4096) as reader:  # noqa: PT012
        monkeypatch.setattr(queue_reader, "wait", interrupt)
        reader.read(np.zeros(10_000), np.full(10_000, 4096), np.arange(10_001))
