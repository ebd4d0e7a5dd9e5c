"""Bytes of files: positioned reads into given memory, hashes, flushed directories.

Checkpoint files are read with `pread`, never memory-mapped: mapped pages count as memory of the process, and a file
that is truncated while mapped kills it.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import CheckpointError
from ripple_place.inputfile import open_input, read_at
from ripple_place.tensorfile import as_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from ripple_place.arrays import AnyArray, UInt8Array


CHUNK_BYTES = 8 << 20
"""Bytes moved at a time: enough to make system calls cheap, little enough to stay in the last cache."""

PAGE_BYTES = 4096
"""Page of phone and server storage alike; blocks of a bundled file, and experts, start on a multiple of it."""

Progress = Callable[[int], object]
"""Called with the number of bytes done since the last call, as `tqdm.update` wants it."""


def ignore_progress(n_bytes_done: int) -> None:
    """Do nothing: the progress callback of a caller who wants none."""


class Scratch:
    """Large arrays that are used again: memory fresh from the system costs as much to touch as to fill."""

    def __init__(self) -> None:
        self._memory: dict[str, UInt8Array] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> AnyArray:
        """Return an array, its contents undefined, in the memory of the last one of that name if that is enough."""
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        if name not in self._memory or self._memory[name].nbytes < n_bytes:
            self._memory.pop(name, None)  # Before the larger one is there, not after.
            self._memory[name] = np.empty(n_bytes, np.uint8)
        return self._memory[name][:n_bytes].view(dtype).reshape(shape)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Give a file descriptor for reading `path`; what fails meanwhile without naming a file is put down to it."""
    descriptor = open_input(path)
    try:
        yield descriptor
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        os.close(descriptor)


class OpenFiles:
    """Files open for reading, the last few that were asked for: a checkpoint may have more shards than may be open."""

    LIMIT = 64

    def __init__(self) -> None:
        self._descriptors: dict[Path, int] = {}

    def __enter__(self) -> OpenFiles:
        return self

    def __exit__(self, *_: object) -> None:
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def descriptor(self, path: Path) -> int:
        """Return a descriptor of a file, which stays open while no more than `LIMIT` others are asked for."""
        found = self._descriptors.pop(path, None)
        if found is None:
            if len(self._descriptors) >= self.LIMIT:
                os.close(self._descriptors.pop(next(iter(self._descriptors))))
            found = open_input(path)
        self._descriptors[path] = found
        return found


def read_into(descriptor: int, buffer: AnyArray, offset_bytes: int) -> None:
    """Fill a C-contiguous array with the bytes of a file from `offset_bytes` on.

    Raises
    ------
    CheckpointError
        If the file ends before: it was truncated since its header was checked.
    OSError
        If it cannot be read.
    """
    view = as_bytes(buffer)
    n_missing = read_at(descriptor, view, offset_bytes)
    if n_missing:
        raise CheckpointError(
            "checkpoint", found=f"the file's end at byte {offset_bytes + len(view) - n_missing}",
            expected=f"{n_missing} bytes more", remedy="leave the checkpoint alone while it is read, and start again",
        )  # fmt: skip


def read_through(descriptor: int, offset_bytes: int, length_bytes: int) -> None:
    """Have the system read a range into its own memory before small reads in another order.

    From storage, those would come one by one; and of what it is asked to read ahead (posix_fadvise) it takes a few
    megabytes at most.
    """
    for _ in chunks(descriptor, offset_bytes, length_bytes):
        pass


def chunks(descriptor: int, offset_bytes: int, length_bytes: int) -> Iterator[UInt8Array]:
    """Yield the bytes of a range in pieces of `CHUNK_BYTES`; each is valid until the next is asked for."""
    buffer = np.empty(min(CHUNK_BYTES, length_bytes), np.uint8)
    for begin in range(0, length_bytes, CHUNK_BYTES):
        piece = buffer[: length_bytes - begin]
        read_into(descriptor, piece, offset_bytes + begin)
        yield piece


def _hash_file(path: Path, progress: Progress, stop: threading.Event) -> str:
    """Return the SHA-256 of a file as hexadecimal digits; of a part of it once `stop` is set."""
    digest = hashlib.sha256()
    with opened(path) as descriptor:
        # Not `chunks`: a file without a known length, read to its end.
        buffer = memoryview(bytearray(CHUNK_BYTES // 8))
        position = 0
        while not stop.is_set() and (n_bytes := os.preadv(descriptor, [buffer], position)):
            digest.update(buffer[:n_bytes])
            position += n_bytes
            progress(n_bytes)
    return digest.hexdigest()


def hash_files(paths: Iterable[Path], progress: Progress = ignore_progress) -> dict[Path, str]:
    """Return the SHA-256 of files as hexadecimal digits, computed on two threads or more.

    `progress` is called from one thread at a time.
    """
    stop, lock = threading.Event(), threading.Lock()

    def count(n_bytes: int) -> None:
        with lock:
            progress(n_bytes)

    paths = list(paths)
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        try:
            return dict(zip(paths, pool.map(lambda path: _hash_file(path, count, stop), paths), strict=True))
        except BaseException:
            stop.set()  # Ctrl-C must not wait for gigabytes.
            raise


def sync_directory(path: Path) -> None:
    """Flush the entries of a directory to storage, where directories can be flushed."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(descriptor)
    except OSError as cause:
        if cause.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            cause.filename = str(path)
            raise
    finally:
        os.close(descriptor)
