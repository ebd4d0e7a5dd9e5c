"""One writer at a time: a lock beside an output, held while it is written, and gone afterwards.

The lock is the system's, on a file ``.NAME.lock``: it ends with the process that holds it, however that ends. A file
that a killed process left binds nobody; what the process noted in it, the next one can read. By hand rather than by the
filelock package, which leaves its file behind: nothing of ours shall stay beside an output.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.outputs import not_ours

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOTE_START = "ripple-place: "
_MAX_NOTE_BYTES = 1 << 20


class WriterLock:
    """A lock that is held.

    Attributes
    ----------
    left_note : str
        What a killed holder had noted; empty if there was none.
    was_left : bool
        A holder that was killed had left the file.
    stays : bool
        An error or Ctrl-C leaves the note there is, with the file: until this holder notes work of its own, a killed
        one's; then its own, once `keep_note` was called.
    """

    def __init__(self, descriptor: int | None = None, left_note: str = "", *, was_left: bool = False) -> None:
        self.left_note, self.was_left = left_note, was_left
        self.stays = bool(left_note)
        self._descriptor = descriptor

    def note(self, work: str) -> None:
        """Write down what is about to be put in place; the next holder can read it if this process is killed."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{_NOTE_START}{work}".encode(), 0)
            self.stays = False

    def keep_note(self) -> None:
        """Leave the note from now on also where an error or Ctrl-C ends the work; its end still removes it."""
        self.stays = self._descriptor is not None


@contextmanager
def one_writer(path: Path) -> Iterator[WriterLock]:
    """Keep other processes from writing the same output.

    Where the file system or the system has no locks, all are let through.

    Parameters
    ----------
    path : Path
        The output, a file or a directory; the directory that it lies in must be there.

    Raises
    ------
    UsageError
        If another process is writing it, or the name of the lock is taken by something that is not ours.
    OSError
        If the lock's file cannot be made.
    """
    name = Path(os.path.realpath(path.absolute().parent)) / f".{path.name}.lock"
    try:
        import fcntl  # noqa: F401
    except ImportError:
        yield WriterLock()
        return
    while True:
        was_there = os.path.lexists(name)
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            if lock_now(descriptor) is False:
                raise UsageError(
                    path, found="another process writing it", expected="one writer", remedy="wait for it, or stop it"
                )
            if not is_same_file(name, descriptor):
                continue  # Its last holder removed it between our opening and locking it.
            lock = WriterLock(descriptor, _left_note(name, descriptor), was_left=was_there)
            try:
                yield lock
            except BaseException:
                if not lock.stays:
                    name.unlink(missing_ok=True)
                raise
            name.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


def lock_now(descriptor: int) -> bool | None:
    """Lock an open file for this process without waiting.

    Returns
    -------
    bool or None
        True if the lock is held now; False if another process holds it; None if there are no locks here.
    """
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def is_same_file(path: Path, descriptor: int) -> bool:
    """Tell whether a name still stands for an open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _left_note(name: Path, descriptor: int) -> str:
    """Return what a killed holder noted; raise if the file can be nobody's of ours."""
    text = ""
    if is_file := stat.S_ISREG(os.fstat(descriptor).st_mode):
        text = os.pread(descriptor, _MAX_NOTE_BYTES, 0).decode(errors="replace")
    if not is_file or not text.startswith(_NOTE_START[: len(text)]):
        raise not_ours(name)
    return text[len(_NOTE_START) :]
