"""The output directory: written beside its place as ``OUT.partial``, and made OUT by one rename once it is whole.

Three names beside OUT are ours: ``OUT.partial``, ``.OUT.lock`` (held while one process writes, and gone afterwards) and
``.OUT.replaced`` (an old OUT, between the moment in which it makes way and its removal).
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.checkpoint.fileio import sync_directory
from ripple_place.checkpoint.names import OWN_DIRECTORY
from ripple_place.errors import UsageError
from ripple_place.locks import one_writer
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

BYTES_PER_FILE = 8192
"""Free space that a file takes beside its bytes: of its last page, and of what file system and manifest keep of it."""


def check_output(source: Path, out: Path, *, force: bool) -> None:
    """Raise unless `out` may be written: it is apart from the source, and new or ours to replace.

    Raises
    ------
    UsageError
        If OUT is the source, lies inside it or around it, or exists without `force`. Even with `force`, nothing but
        an earlier output (or an empty directory) is replaced.
    """
    source, out = real_path(source), real_path(out)
    if source == out or source in out.parents or out in source.parents:
        raise UsageError(
            out, found=f"the source {source} in the same place, inside it, or around it",
            expected="an output apart from the source", remedy="name a directory elsewhere",
        )  # fmt: skip
    if not out.exists():
        if out.is_symlink():
            raise UsageError(
                out, found="a link that leads nowhere", expected="a new directory", remedy="remove it, or name another"
            )
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


def real_path(path: Path) -> Path:
    """Return a path without links, as far as there are none that lead in circles."""
    return Path(os.path.realpath(path))


def free_bytes_at(out: Path) -> int:
    """Return the bytes that an output there may take: what is free, and what ``OUT.partial`` holds already."""
    directory = next(parent for parent in real_path(out).parents if parent.is_dir())
    partial = partial_of(out)
    held = sum(file.lstat().st_blocks * 512 for file in partial.rglob("*") if file.is_file()) if partial.is_dir() else 0
    return shutil.disk_usage(directory).free + held


def check_free_space(out: Path, n_bytes: int) -> None:
    """Raise OSError (ENOSPC) if the file system under `out` cannot hold an output of `n_bytes`."""
    free_bytes = free_bytes_at(out)
    if free_bytes < n_bytes:
        raise OSError(
            errno.ENOSPC,
            f"the output needs {format_bytes(n_bytes)}, {format_bytes(free_bytes)} are free there, "
            f"{format_bytes(n_bytes - free_bytes)} too few: make room, write elsewhere, or write one format instead of "
            "both",
            str(out),
        )


def partial_of(out: Path) -> Path:
    """Return the directory in which an output is written."""
    out = real_path(out)
    return out.with_name(f"{out.name}.partial")


@contextmanager
def replacing_directory(out: Path) -> Iterator[Path]:
    """Give an empty directory beside `out` to write to, and rename it to `out` once it is complete.

    See `locked_directory` and `installing`, which this joins, and their errors.
    """
    with locked_directory(out) as partial, installing(partial, out):
        empty_directory(partial)
        yield partial


@contextmanager
def locked_directory(out: Path) -> Iterator[Path]:
    """Give the path of ``OUT.partial``, whether or not it is there, for this process alone.

    What a run left that was killed while it replaced `out` is put right first. The lock is one of the system's on
    ``.OUT.lock``: it ends with the process that holds it, however that ends.

    Raises
    ------
    UsageError
        If ``OUT.partial`` is not ours, or another process is writing it.
    """
    out = real_path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(out)
    with one_writer(out):
        if partial.is_symlink() or (partial.exists() and not _is_ours(partial)):
            raise UsageError(
                partial, found="something that is not ours", expected="nothing there", remedy="remove or rename it"
            )
        aside = _aside_of(out)
        if aside.exists() and not out.exists():
            aside.rename(out)
        elif aside.exists():
            shutil.rmtree(aside)
        yield partial


@contextmanager
def installing(partial: Path, out: Path) -> Iterator[None]:
    """Rename `partial` to `out` when the body is done; remove `partial` when it fails.

    After an error `out` is as it was; after Ctrl-C or a kill ``OUT.partial`` stays too, for the next run to continue
    or to replace. An `out` that exists is set aside until the new one stands.
    """
    out = real_path(out)
    try:
        yield
        for directory, _, _ in os.walk(partial):
            sync_directory(Path(directory))
        _install(partial, out)
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def empty_directory(directory: Path, *, but: Collection[Path] = ()) -> None:
    """Remove what is under a directory, except for some files; make it, and our subdirectory, if need be."""
    for root, subdirectories, names in os.walk(directory, topdown=False):
        for name in names:
            if Path(root) / name not in but:
                (Path(root) / name).unlink()
        for name in subdirectories:
            if (Path(root) / name).is_symlink():
                (Path(root) / name).unlink()
            else:
                with suppress(OSError):  # Not empty.
                    (Path(root) / name).rmdir()
    (directory / OWN_DIRECTORY).mkdir(parents=True, exist_ok=True)


def _is_ours(directory: Path) -> bool:
    """Tell whether a directory is empty, or has our subdirectory."""
    return directory.is_dir() and ((directory / OWN_DIRECTORY).is_dir() or not any(directory.iterdir()))


def _aside_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.replaced")


def _install(partial: Path, out: Path) -> None:
    """Rename `partial` to `out`, setting an old `out` aside meanwhile."""
    aside = _aside_of(out)
    replaces = out.exists()
    if replaces:
        out.rename(aside)
    try:
        partial.rename(out)
        sync_directory(out.parent)
    except OSError:
        if out.exists():
            out.rename(partial)
        if replaces:
            aside.rename(out)
        raise
    if replaces:
        with suppress(OSError):  # The new output stands; a remnant of the old one does not make it wrong.
            shutil.rmtree(aside)
