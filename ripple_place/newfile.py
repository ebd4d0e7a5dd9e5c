"""A file that is written beside its place: no other writer shares it, and a writer that is killed leaves it to nobody.

Where the file system can, the file has no name until it is complete, so that it goes with its writer. Elsewhere, and
for the instant before it is renamed, its name is ``.NAME.XXXXXXXX.partial``, of eight random hexadecimal digits, and it
is locked. Such a file that nobody holds is a stray: the next run that writes NAME removes it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ripple_place.locks import is_same_file, lock_now
from ripple_place.outputs import check_replaceable, keep_mode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class NewFile:
    """An open file of ours, which takes its place once it is complete.

    Attributes
    ----------
    descriptor : int
        Open for reading and writing.
    name : Path or None
        None as long as it has none.
    """

    def __init__(self, descriptor: int, name: Path | None) -> None:
        self.descriptor, self.name = descriptor, name

    def rename_to(self, path: Path) -> None:
        """Flush the file to storage and put it in its place; it takes the permissions of the file that it replaces.

        Raises
        ------
        OSError
            If storage refuses.
        """
        keep_mode(path, self.descriptor)
        os.fsync(self.descriptor)
        if self.name is None:
            self._take_name(path)
        assert self.name is not None
        self.name.replace(path)
        self.name = None

    def discard(self) -> None:
        """Remove the file's name, if it has one still."""
        if self.name is not None:
            self.name.unlink(missing_ok=True)

    def _take_name(self, path: Path) -> None:
        own = f"/proc/self/fd/{self.descriptor}"
        try:
            for name in _names_beside(path):
                with suppress(FileExistsError):
                    # Without a directory's descriptor, Python calls link(), which does not follow (CPython 81793).
                    os.link(own, name, src_dir_fd=self.descriptor, follow_symlinks=True)
                    self.name = name
                    return
        except OSError:
            # A file system or a container that makes files without names and will not name them: copy this one.
            named = _named_file(path)
            self.descriptor, unnamed, self.name = named.descriptor, self.descriptor, named.name
            with os.fdopen(unnamed, "rb") as source, os.fdopen(self.descriptor, "wb", closefd=False) as copy:
                source.seek(0)
                shutil.copyfileobj(source, copy)
                os.fchmod(self.descriptor, stat.S_IMODE(os.fstat(unnamed).st_mode))
            os.fsync(self.descriptor)


@contextmanager
def file_beside(path: Path, *, named: bool = False) -> Iterator[NewFile]:
    """Give a new file to write in the directory of `path`; what does not take its place is gone afterwards.

    Strays of earlier runs that wrote `path` are removed first. Links, devices, pipes and sockets are not replaced.

    Parameters
    ----------
    path : Path
    named : bool
        Give it a name at once, for writers that open it by name.

    Raises
    ------
    UsageError
        If `path` is one of those.
    OSError
        If the file cannot be made.
    """
    check_replaceable(path)
    remove_strays(path)
    new = (None if named else _unnamed_file(path)) or _named_file(path)
    try:
        yield new
    finally:
        try:
            new.discard()
        finally:
            os.close(new.descriptor)


def remove_strays(path: Path) -> None:
    """Remove the files that killed runs left beside `path`: regular ones by our names that no process has locked."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.partial")
    with suppress(OSError):
        for name in os.listdir(path.parent):
            if ours.fullmatch(name):
                with suppress(OSError):  # Somebody else's, or gone meanwhile.
                    _remove_if_stray(path.with_name(name))


def _remove_if_stray(name: Path) -> None:
    if not stat.S_ISREG(name.lstat().st_mode):
        return
    descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # Where there are no locks, nobody can tell a stray from a file that is being written.
        if lock_now(descriptor) and is_same_file(name, descriptor):
            name.unlink()
    finally:
        os.close(descriptor)


def _names_beside(path: Path) -> Iterator[Path]:
    while True:
        yield path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def _unnamed_file(path: Path) -> NewFile | None:
    """Return a file without a name in the directory of `path`; None where there is no such thing."""
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError:
        return None
    if not os.path.exists(f"/proc/self/fd/{descriptor}"):  # It could never be named.
        os.close(descriptor)
        return None
    lock_now(descriptor)
    return NewFile(descriptor, None)


def _named_file(path: Path) -> NewFile:
    """Return a file by a name that no other has, locked."""
    for name in _names_beside(path):
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        except FileExistsError:
            continue
        # Between its making and its locking, another run may have taken it for a stray.
        if lock_now(descriptor) is not False and is_same_file(name, descriptor):
            return NewFile(descriptor, name)
        os.close(descriptor)
    raise AssertionError("names never end")
