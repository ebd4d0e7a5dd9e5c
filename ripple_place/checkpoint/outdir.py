"""The output directory: written beside its place as ``OUT.partial``, and made OUT by one rename once it is whole."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.checkpoint.fileio import opened, sync_directory
from ripple_place.errors import UsageError
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN_DIRECTORY = "ripple_place"
"""Subdirectory of OUT for everything that the source did not have."""


def check_output(source: Path, out: Path, *, force: bool) -> None:
    """Raise unless `out` may be written: it is apart from the source, and new or ours to replace.

    Raises
    ------
    UsageError
        If OUT is the source, lies inside it or around it, or exists without `force`. Even with `force`, nothing but
        an earlier output (or an empty directory) is replaced.
    """
    source, out = source.resolve(), out.resolve()
    if source == out or source in out.parents or out in source.parents:
        raise UsageError(
            out, found=f"the source {source} in the same place, inside it, or around it",
            expected="an output apart from the source", remedy="name a directory elsewhere",
        )  # fmt: skip
    if not out.exists():
        return
    if not force:
        raise UsageError(
            out, found="it there already", expected="a new directory", remedy="name another, or overwrite with --force"
        )
    if not _is_ours(out):
        raise UsageError(
            out, found=f"something that is no output of ours (no {OWN_DIRECTORY}/)", expected="an output to replace",
            remedy="remove it yourself, or name another directory",
        )  # fmt: skip


def check_free_space(out: Path, n_bytes: int) -> None:
    """Raise OSError (ENOSPC) if the file system under `out` cannot hold `n_bytes` more."""
    directory = next(parent for parent in out.resolve().parents if parent.is_dir())
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < n_bytes:
        raise OSError(
            errno.ENOSPC,
            f"the output needs {format_bytes(n_bytes)}, {format_bytes(free_bytes)} are free there: make room, write "
            "elsewhere, or write one format instead of both",
            str(out),
        )


@contextmanager
def replacing_directory(out: Path) -> Iterator[Path]:
    """Give a directory beside `out` to write to, and rename it to `out` once it is complete.

    After an error it is removed and `out` is as it was; after Ctrl-C or a kill ``OUT.partial`` stays, to be replaced
    by the next run. An `out` that exists is set aside until the new one stands.

    Raises
    ------
    UsageError
        If ``OUT.partial`` is not ours, or another process is writing it.
    """
    out = out.resolve()
    partial = out.with_name(f"{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    if partial.exists() and not _is_ours(partial):
        raise UsageError(
            partial, found="something that is not ours", expected="nothing there", remedy="remove or rename it"
        )
    partial.mkdir(exist_ok=True)
    with opened(partial) as descriptor:
        _lock(partial, descriptor)
        _empty(partial)
        (partial / OWN_DIRECTORY).mkdir()
        try:
            yield partial
            for directory, _, _ in os.walk(partial):
                sync_directory(Path(directory))
            _install(partial, out)
        except Exception:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _is_ours(directory: Path) -> bool:
    """Tell whether a directory is empty, or has our subdirectory."""
    return directory.is_dir() and ((directory / OWN_DIRECTORY).is_dir() or not any(directory.iterdir()))


def _lock(partial: Path, descriptor: int) -> None:
    """Keep a second process from writing the same directory; the lock ends with the descriptor."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as cause:
        raise UsageError(
            partial, found="another process writing it", expected="one writer", remedy="wait for it, or stop it"
        ) from cause
    except OSError:
        pass  # A file system without locks.


def _empty(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _install(partial: Path, out: Path) -> None:
    """Rename `partial` to `out`, setting an old `out` aside meanwhile."""
    aside = out.with_name(f".{out.name}.{os.getpid()}.replaced")
    replaces = out.exists()
    if replaces:
        out.rename(aside)
    try:
        partial.rename(out)
    except OSError:
        if replaces:
            aside.rename(out)
        raise
    sync_directory(out.parent)
    if replaces:
        with suppress(OSError):  # The new output stands; a remnant of the old one does not make it wrong.
            shutil.rmtree(aside)
