"""A new file, written from front to end: hashed and sent to storage by two threads while the next bytes are made.

Full blocks go to storage directly (O_DIRECT) where it takes that. The page cache would cost a copy, and fresh memory
for every byte of a model; and it would fill with what nobody reads soon, at the expense of the source, which is.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ripple_place.checkpoint.fileio import CHUNK_BYTES, ignore_progress, read_into
from ripple_place.tensorfile import as_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType

    from ripple_place.arrays import UInt8Array
    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.tensorfile import Piece

MARK_BLOCKS = 8
"""Blocks after which the beginning of a file is marked: 64 MiB are written again at most, and marks cost nothing."""

_O_DIRECT: int = getattr(os, "O_DIRECT", 0)


class Begun(NamedTuple):
    """The beginning of a file that an earlier run has written.

    Attributes
    ----------
    size_bytes : int
    digest : hashlib object
        SHA-256 of those bytes; it is copied, not changed.
    """

    size_bytes: int
    digest: hashlib._Hash


class OutputFile:
    """A file at a path where nothing may be, flushed to storage when the ``with`` block ends without an error.

    Parameters
    ----------
    path : Path
        Its directory is made if need be.
    is_hashed : bool
        Whether `sha256` will be asked for.
    begun : Begun, optional
        What is there already: the file is cut behind it, and as many bytes are dropped of what is appended, which must
        be the same. Ranges of other files are not even read.
    mark : callable, optional
        Called now and then with a number of bytes that have been written, and their SHA-256.

    Raises
    ------
    OSError
        If it is there, or storage refuses; an error of an earlier `append` may come with a later one, or at the end.
    """

    def __init__(
        self, path: Path, *, is_hashed: bool = True, begun: Begun | None = None,
        mark: Callable[[int, str], object] | None = None,
    ) -> None:  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        there = os.O_CREAT | os.O_EXCL if begun is None else getattr(os, "O_NOFOLLOW", 0)
        flags = os.O_WRONLY | there | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(path, flags, 0o666)
        self._digest = hashlib.sha256() if is_hashed else None
        self._mark = mark
        self._n_written = self._n_dropped = 0
        if begun is not None:
            os.ftruncate(self._descriptor, begun.size_bytes)
            os.lseek(self._descriptor, begun.size_bytes, os.SEEK_SET)
            self._digest = begun.digest.copy()
            self._n_written = self._n_dropped = begun.size_bytes
        self._block = _new_block()
        self._n_filled = 0
        self._threads: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = None
        self._in_flight: tuple[UInt8Array, Future[None], Future[tuple[int, str] | None]] | None = None
        self._is_direct = False

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        except OSError as refused:
            refused.filename = str(self._path)
            raise
        finally:
            for thread in self._threads or ():
                thread.shutdown(cancel_futures=True)
            os.close(self._descriptor)

    def append(self, piece: Piece) -> None:
        """Write the bytes of a C-contiguous buffer, which may change as soon as this returns."""
        data = np.frombuffer(as_bytes(piece), np.uint8)
        data = data[self._drop(data.size) :]
        while data.size:
            room = self._room(data.size)
            room[:] = data[: room.size]
            data = data[room.size :]
            self._fill(room.size)

    def append_range(
        self, descriptor: int, offset_bytes: int, length_bytes: int, progress: Progress = ignore_progress
    ) -> None:
        """Write a range of another file, and report bytes done.

        Raises
        ------
        CheckpointError
            If that file ends before.
        """
        dropped = self._drop(length_bytes)
        offset_bytes, length_bytes = offset_bytes + dropped, length_bytes - dropped
        progress(dropped)
        while length_bytes:
            room = self._room(length_bytes)
            read_into(descriptor, room, offset_bytes)
            offset_bytes, length_bytes = offset_bytes + room.size, length_bytes - room.size
            self._fill(room.size)
            progress(room.size)

    @property
    def sha256(self) -> str:
        """SHA-256 of all that was appended, as hexadecimal digits: complete after the ``with`` block."""
        assert self._digest is not None
        return self._digest.hexdigest()

    def _drop(self, n_bytes: int) -> int:
        """Return how many of the next bytes are there already, and count them."""
        n_dropped = min(n_bytes, self._n_dropped)
        self._n_dropped -= n_dropped
        return n_dropped

    def _room(self, n_bytes: int) -> UInt8Array:
        return self._block[self._n_filled : self._n_filled + n_bytes]

    def _fill(self, n_bytes: int) -> None:
        """Count bytes put into the block; send it off when it is full, and take the one before, once that is done."""
        self._n_filled += n_bytes
        if self._n_filled < self._block.size:
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=1), ThreadPoolExecutor(max_workers=1)
            self._set_direct(True)
        writing, hashing = self._threads
        before, block = self._in_flight, self._block
        self._n_written += block.size
        is_marked = self._mark is not None and self._n_written % (MARK_BLOCKS * block.size) == 0
        marked_bytes = self._n_written if is_marked else 0
        self._in_flight = block, writing.submit(self._write, block), hashing.submit(self._hash, block, marked_bytes)
        self._block = _new_block() if before is None else self._done_block(before)
        self._n_filled = 0

    def _done_block(self, in_flight: tuple[UInt8Array, Future[None], Future[tuple[int, str] | None]]) -> UInt8Array:
        """Wait for a block that is on its way, and return it."""
        block, written, hashed = in_flight
        try:
            written.result()
        except OSError as error:
            error.filename = str(self._path)
            raise
        marked = hashed.result()
        if marked is not None and self._mark is not None:
            self._mark(*marked)
        return block

    def _finish(self) -> None:
        if self._in_flight is not None:
            self._done_block(self._in_flight)
        self._set_direct(False)
        rest = self._block[: self._n_filled]
        self._write(rest)
        self._hash(rest)
        os.fsync(self._descriptor)

    def _hash(self, block: UInt8Array, marked_bytes: int = 0) -> tuple[int, str] | None:
        """Hash a block; return `marked_bytes` and the hash of all up to its end, if it is a place to mark."""
        if self._digest is None:
            return None
        self._digest.update(as_bytes(block))
        return (marked_bytes, self._digest.copy().hexdigest()) if marked_bytes else None

    def _write(self, block: UInt8Array) -> None:
        view = as_bytes(block)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except OSError as error:
                if error.errno != errno.EINVAL or not self._is_direct:
                    raise
                # The storage wants another alignment, or a short write has lost it.
                self._set_direct(False)

    def _set_direct(self, is_direct: bool) -> None:
        """Switch writing past the page cache on or off; storage that knows no such thing is written through it."""
        if not _O_DIRECT or is_direct == self._is_direct:
            return
        import fcntl

        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | _O_DIRECT if is_direct else flags & ~_O_DIRECT)
        except OSError:
            return
        self._is_direct = is_direct


def _new_block() -> UInt8Array:
    """Return memory that begins on a page, as direct writes want it."""
    return np.frombuffer(mmap.mmap(-1, CHUNK_BYTES), np.uint8)
