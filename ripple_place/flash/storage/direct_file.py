"""Files opened for reads that bypass the page cache, and the alignment that such reads need."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UnsupportedError, UsageError
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from ripple_place.arrays import UInt8Array

ALIGNMENTS_BYTES = (512, 1024, 2048, 4096, 8192, 16384, 65536)
"""What O_DIRECT may ask offsets, lengths and buffers to be multiples of: the logical block size of the device, 512 or
4096 on most (open(2), section O_DIRECT), more on some file systems."""


@dataclass(frozen=True)
class DirectFile:
    """An open file, a context manager that closes it.

    Attributes
    ----------
    path : Path
        For messages; the file may have no name any more.
    descriptor : int
    size_bytes : int
        Rounded down to the alignment.
    alignment_bytes : int
        The smallest of `ALIGNMENTS_BYTES` that reads may be multiples of.
    is_direct : bool
        False where the file system knows no O_DIRECT: reads then go through the page cache.
    """

    path: Path
    descriptor: int
    size_bytes: int
    alignment_bytes: int
    is_direct: bool

    @classmethod
    def open(cls, path: Path, *, name: Path | None = None) -> DirectFile:
        """Open a file for reading.

        Parameters
        ----------
        path : Path
        name : Path, optional
            What messages call it.

        Raises
        ------
        UsageError
            If there is no such file, or it is shorter than one aligned read.
        UnsupportedError
            If this is not Linux.
        OSError
            If it cannot be opened or read.
        """
        name = name or path
        if not sys.platform.startswith("linux"):
            raise UnsupportedError(
                f"reading {name} past the page cache", found=sys.platform, expected="Linux",
                remedy="measure on Linux, or on the device itself with fio (docs/measuring.md)",
            )  # fmt: skip
        if not path.is_file():
            raise UsageError(name, found="no file", expected="a file to read", remedy="correct the path")
        is_direct = True
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
        except OSError as cause:
            if cause.errno != errno.EINVAL:
                raise
            is_direct = False
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size_bytes = os.fstat(descriptor).st_size
            alignment_bytes = _accepted_alignment(descriptor, size_bytes)
            if size_bytes < alignment_bytes:
                raise UsageError(
                    name, found=format_bytes(size_bytes), expected=f"at least {format_bytes(alignment_bytes)}",
                    remedy="name a larger file",
                )  # fmt: skip
        except BaseException:
            os.close(descriptor)
            raise
        return cls(name, descriptor, size_bytes // alignment_bytes * alignment_bytes, alignment_bytes, is_direct)

    def __enter__(self) -> DirectFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)


def aligned_buffer(length_bytes: int) -> UInt8Array:
    """Return memory that starts on a page: an anonymous mapping, as O_DIRECT wants it."""
    return np.frombuffer(mmap.mmap(-1, length_bytes), np.uint8)


def read_into(descriptor: int, buffer: UInt8Array, offset_bytes: int) -> int:
    """Read once, into an array; return the bytes read.

    Raises
    ------
    OSError
        If the system refuses.
    """
    return os.preadv(descriptor, [memoryview(buffer)], offset_bytes)  # type: ignore[arg-type]


def _accepted_alignment(descriptor: int, size_bytes: int) -> int:
    """Return the smallest alignment with which a read succeeds: of offset, length and memory, as far as the file goes.

    Raises
    ------
    OSError
        If none does.
    """
    buffer = aligned_buffer(2 * ALIGNMENTS_BYTES[-1])
    for alignment in ALIGNMENTS_BYTES:
        offset = alignment if size_bytes >= 2 * alignment else 0
        try:
            read_into(descriptor, buffer[alignment : 2 * alignment], offset)
        except OSError as cause:
            if cause.errno != errno.EINVAL or alignment == ALIGNMENTS_BYTES[-1]:
                raise
        else:
            return alignment
    raise AssertionError("the loop returns or raises")
