"""A scratch file of random bytes that leaves nothing behind."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.flash.storage.direct_file import DirectFile
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

SPARE_BYTES = 64 << 20
"""Free space that is left alone."""
_CHUNK_BYTES = 8 << 20


@contextmanager
def scratch_file(
    directory: Path, size_bytes: int, rng: np.random.Generator, progress: Callable[[int], object]
) -> Iterator[DirectFile]:
    """Give a new file of random bytes in `directory`, written through to storage.

    The file loses its name right after it is made: whatever ends the process, Ctrl-C or worse, its space is free
    again. No other file is touched. Random bytes, because storage that compresses or finds duplicates would serve
    zeros without reading.

    Parameters
    ----------
    directory : Path
    size_bytes : int
        A multiple of 64 KiB, so that every alignment divides it.
    rng : Generator
    progress : callable
        Called with bytes written since the last call.

    Raises
    ------
    UsageError
        If `directory` is none, or the size no such multiple.
    OSError
        If there is no room (found before anything is written), or storage refuses.
    """
    if not directory.is_dir():
        raise UsageError(
            directory, found="no directory", expected="a directory on the storage to measure", remedy="correct the path"
        )
    if size_bytes <= 0 or size_bytes % 65536:
        raise UsageError(
            "scratch file", found=format_bytes(size_bytes), expected="a multiple of 64 KiB", remedy="correct the size"
        )
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < size_bytes + SPARE_BYTES:
        raise OSError(
            errno.ENOSPC,
            f"the scratch file needs {format_bytes(size_bytes + SPARE_BYTES)}, {format_bytes(free_bytes)} are free "
            "there: make room, or write a smaller one (--size)",
            str(directory),
        )
    name = directory / f".ripple-place-scratch.{secrets.token_hex(8)}"
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        name.unlink()
        for begin in range(0, size_bytes, _CHUNK_BYTES):
            chunk = memoryview(rng.bytes(min(_CHUNK_BYTES, size_bytes - begin)))
            progress(len(chunk))
            while chunk:
                chunk = chunk[os.write(descriptor, chunk) :]
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        with DirectFile.open(Path(f"/proc/self/fd/{descriptor}"), name=directory / "scratch file") as file:
            yield file
    finally:
        os.close(descriptor)
