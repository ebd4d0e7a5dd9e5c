"""A file that is read as data: a regular one, which ends.

A pipe may have no writer, and a device such as ``/dev/zero`` no end: whoever reads them by mistake waits for ever. So
every input is opened here, which refuses anything but a regular file, also behind a link. The check looks at the open
file, so that nothing can take its place in between.

No input is mapped: a file that is cut short while it is mapped ends the process by a signal (SIGBUS), which Python
cannot turn into a sentence. `StoredArray` reads rows as they are asked for.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.outputs import special_kind

if TYPE_CHECKING:
    import io

MAX_DOCUMENT_BYTES = 1 << 28
"""Of a configuration, an index or a manifest, which are read whole: far more than any that describes a model."""


def open_input(path: str | os.PathLike[str]) -> int:
    """Return a descriptor of a file for reading.

    Raises
    ------
    UsageError
        If it is a pipe, socket or device.
    OSError
        If it cannot be opened, or is a directory.
    """
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
    try:
        # To open a pipe without a writer would wait for one.
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    except OSError as cause:
        if cause.errno == errno.ENXIO:
            raise _irregular(path, "a socket or a device") from cause
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise _irregular(path, special_kind(mode) or "a special file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _irregular(path: str | os.PathLike[str], found: str) -> UsageError:
    return UsageError(
        path,
        found=found,
        expected="a regular file",
        remedy="save what comes out of it as a file, and name that" if found == "a pipe" else "name a regular file",
    )


def open_stream(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Return a file as a stream of bytes; errors as of `open_input`."""
    return os.fdopen(open_input(path), "rb")


def read_input(path: str | os.PathLike[str], limit_bytes: int | None = MAX_DOCUMENT_BYTES) -> bytes:
    """Return the bytes of a file; without a limit, of those whose length is part of what they are.

    Raises
    ------
    UsageError
        If it is no regular file, or longer than `limit_bytes`.
    OSError
        If it cannot be read.
    """
    with open_stream(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if limit_bytes is not None and size_bytes > limit_bytes:
            raise UsageError(
                path, found=f"{size_bytes} bytes", expected=f"at most {limit_bytes}, which are read whole",
                remedy="check that this is the file you mean",
            )  # fmt: skip
        return file.read(size_bytes)


def read_at(descriptor: int, view: memoryview, offset_bytes: int) -> int:
    """Fill bytes from a file, and return how many are missing because the file ends before."""
    while view:
        n_bytes = os.preadv(descriptor, [view], offset_bytes)
        if n_bytes == 0:
            break
        view, offset_bytes = view[n_bytes:], offset_bytes + n_bytes
    return len(view)


def refuse_special_files(directory: Path) -> None:
    """Refuse a directory with a pipe, socket or device in it, before others open its files by name and wait for ever.

    Raises
    ------
    UsageError
        At the first, by name.
    OSError
        If the directory cannot be read.
    """
    for path in sorted(directory.iterdir()):
        if path.exists() and (kind := special_kind(path.stat().st_mode)) is not None:
            raise _irregular(path, kind)


class InputFile:
    """A file that stays open for as long as anything refers to it, so that what was checked is what is read.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    UsageError, OSError
        As for `open_input`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.descriptor = open_input(path)
        weakref.finalize(self, os.close, self.descriptor)

    @property
    def size_bytes(self) -> int:
        """Bytes in the file now."""
        return os.fstat(self.descriptor).st_size
