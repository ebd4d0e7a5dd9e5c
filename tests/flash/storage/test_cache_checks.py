"""Caches between the reader and the device are noticed."""

from __future__ import annotations

import errno
import mmap
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.flash.storage import cache_checks
from ripple_place.flash.storage.cache_checks import cache_warnings, page_cache_fill, resident_pages
from ripple_place.flash.storage.queue_reader import QueueReader, ReadTimes

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.flash.storage.direct_file import DirectFile


def test_pages_that_were_just_read_are_resident(data_path: Path) -> None:
    """An ordinary read leaves what it read in the page cache: mincore must say so."""
    data_path.read_bytes()
    descriptor = os.open(data_path, os.O_RDONLY)
    assert resident_pages(descriptor, 1 << 20).tolist() == [True] * ((1 << 20) // mmap.PAGESIZE)
    os.close(descriptor)


def test_reads_through_the_page_cache_are_noticed(data_path: Path, data: DirectFile) -> None:
    """The same file opened without O_DIRECT, but passed off as direct: what is read turns up in the page cache.

    On a file system that is memory itself everything is there before as well, and the share is 0.
    """
    descriptor = os.open(data_path, os.O_RDWR)
    os.fsync(descriptor)  # dirty pages would stay
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    was_resident = resident_pages(descriptor, 1 << 20).any()
    share = page_cache_fill(replace(data, descriptor=descriptor))
    os.close(descriptor)
    assert share == (0 if was_resident else 1)


def test_direct_reads_leave_no_trace_in_the_page_cache(data: DirectFile) -> None:
    """Where the file system honours O_DIRECT; where it knows none, it is not asked."""
    if data.is_direct:
        os.fsync(data.descriptor)
        assert page_cache_fill(data) == 0


def test_files_that_cannot_be_mapped_are_not_judged(data: DirectFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some FUSE file systems know no mappings; any other error is one."""

    def refuse(code: int) -> None:
        def mapping(*arguments: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(cache_checks.mmap, "mmap", mapping)

    refuse(errno.ENODEV)
    monkeypatch.setattr(cache_checks, "aligned_buffer", lambda n_bytes: np.empty(n_bytes, np.uint8))
    assert page_cache_fill(data) == 0
    refuse(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        page_cache_fill(data)


class _Timed:
    """A reader whose reads take what it is told, one list after the other."""

    def __init__(self, *median_us: float) -> None:
        self._median_us = list(median_us)

    def read(self, offset_bytes: np.ndarray, length_bytes: np.ndarray) -> ReadTimes:
        assert len(set(offset_bytes.tolist())) == offset_bytes.size
        end_ns = np.full(offset_bytes.size, int(1000 * self._median_us.pop(0)), np.int64)
        return ReadTimes(np.zeros_like(end_ns), end_ns, 1)


@pytest.mark.parametrize(
    ("median_us", "says"),
    [((80.0, 80.0), None), ((80.0, 60.0), None), ((80.0, 40.0), "1/2.0 of the time"), ((2.0, 1.5), "takes 1.5 us")],
)
def test_rereads_and_speed_tell(
    data: DirectFile, monkeypatch: pytest.MonkeyPatch, median_us: tuple[float, float], says: str | None
) -> None:
    """Reads that are much faster the second time, or faster than flash can be, come from a cache."""
    monkeypatch.setattr(cache_checks, "page_cache_fill", lambda file: 0.0)
    warnings = cache_warnings(replace(data, is_direct=True), _Timed(*median_us), np.random.default_rng(0))
    assert [says in warning for warning in warnings] == ([] if says is None else [True])


def test_reads_that_are_not_direct_are_warned_of(data: DirectFile) -> None:
    """The first thing to be said of a file system without O_DIRECT."""
    with QueueReader(data, 1, 4096) as reader:
        warnings = cache_warnings(replace(data, is_direct=False), reader, np.random.default_rng(0))
    assert "no O_DIRECT" in warnings[0]


def test_o_direct_that_is_not_honoured_is_warned_of(data: DirectFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read is in the page cache afterwards."""
    monkeypatch.setattr(cache_checks, "page_cache_fill", lambda file: 0.9)
    warnings = cache_warnings(replace(data, is_direct=True), _Timed(80, 80), np.random.default_rng(0))
    assert ["not honoured: 90 %" in warning for warning in warnings] == [True]
