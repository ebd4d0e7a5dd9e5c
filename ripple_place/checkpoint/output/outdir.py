"""The output directory: written beside its place as ``OUT.partial``, and made OUT by one rename once it is whole.

Three names beside OUT are ours: ``OUT.partial``, ``.OUT.lock`` (held while one process writes, and gone afterwards) and
``.OUT.replaced`` (an old OUT, between the moment in which it makes way and its removal). What stands there already is
looked at first (`ripple_place.checkpoint.output.ours`): what is not ours is neither written to nor removed.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.checkpoint.fileio import sync_directory
from ripple_place.checkpoint.names import OWN_DIRECTORY
from ripple_place.checkpoint.output.ours import (
    PARTIAL_MARK,
    check_aside,
    check_partial,
    check_replaced,
    is_being_removed,
    is_whole,
    keep_modes,
    mark,
    remove_replaced,
    unmark,
)
from ripple_place.errors import UsageError
from ripple_place.locks import one_writer
from ripple_place.outputs import check_place
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

SUFFIX_BYTES = len("..replaced")
"""What the longest name beside OUT adds to its name."""
BYTES_PER_FILE = 8192
"""Free space that a file takes beside its bytes: of its last page, and of what file system and manifest keep of it."""


def check_output(source: Path, out: Path, *, force: bool | None) -> None:
    """Raise unless `out` can and may be written: it is apart from the source, and new or ours to replace.

    Parameters
    ----------
    source, out : Path
    force : bool or None
        Whether to replace what is ours; None where that cannot be asked for.

    Raises
    ------
    UsageError
        If OUT is the source, lies inside it or around it, is a mount point, or exists without `force`; if it is
        anything but an earlier output (or an empty directory) with `force`; or if what stands at the names beside it
        is not ours.
    OSError
        If the directory that it shall lie in cannot be written to, or its name is too long.
    """
    source, out = real_path(source), real_path(out)
    if source == out or source in out.parents or out in source.parents:
        raise UsageError(
            out, found=f"the source {source} in the same place, inside it, or around it",
            expected="an output apart from the source", remedy="name a directory elsewhere",
        )  # fmt: skip
    check_place(out, suffix_bytes=SUFFIX_BYTES)
    if out.is_symlink():
        raise UsageError(
            out, found="a link that leads nowhere", expected="a new directory", remedy="remove it, or name another"
        )
    if out.exists():
        if force is not None:
            check_replaced(out)  # First: --force does not help with what is not ours.
        if not force:
            raise UsageError(
                out, found="it there already", expected="a new directory",
                remedy="name another, or " + ("remove it" if force is None else "overwrite with --force"),
            )  # fmt: skip
    check_partial(partial_of(out))
    check_aside(_aside_of(out))


def real_path(path: Path) -> Path:
    """Return a path without links, as far as there are none that lead in circles."""
    return Path(os.path.realpath(path))


def free_bytes_at(out: Path) -> int:
    """Return the bytes that an output there may take: what is free, and what ``OUT.partial`` holds already."""
    directory = next(parent for parent in real_path(out).parents if parent.is_dir())
    partial = partial_of(out)
    held = sum(file.lstat().st_blocks * 512 for file in partial.rglob("*") if file.is_file()) if partial.is_dir() else 0
    return shutil.disk_usage(directory).free + held


def check_free_space(out: Path, n_bytes: int, *, has_both_formats: bool = False) -> None:
    """Raise OSError (ENOSPC) if the file system under `out` cannot hold an output of `n_bytes`."""
    free_bytes = free_bytes_at(out)
    if free_bytes < n_bytes:
        raise OSError(
            errno.ENOSPC,
            f"the output needs {format_bytes(n_bytes)}, {format_bytes(free_bytes)} are free there, "
            f"{format_bytes(n_bytes - free_bytes)} too few: make room, or write elsewhere"
            + (", or one format instead of both (--format)" if has_both_formats else ""),
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
        If ``OUT.partial`` or ``.OUT.replaced`` is not ours, or another process is writing it.
    """
    out = real_path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(out)
    with one_writer(out):
        check_partial(partial)
        _settle(_aside_of(out), out)
        yield partial


@contextmanager
def installing(partial: Path, out: Path, *, keeps_finished: bool = False) -> Iterator[None]:
    """Rename `partial` to `out` when the body is done; remove `partial` when it fails.

    After an error `out` is as it was; after Ctrl-C or a kill ``OUT.partial`` stays too, for the next run to continue
    or to replace. An `out` that exists is set aside until the new one stands.

    Parameters
    ----------
    partial, out : Path
    keeps_finished : bool
        Keep `partial` also when storage fails: it holds what an earlier run has finished, which cost time.
    """
    out = real_path(out)
    try:
        _begin(partial, is_private=out.exists())
        yield
        for directory, _, _ in os.walk(partial):
            sync_directory(Path(directory))
        _install(partial, out)
    except Exception as error:
        if not (keeps_finished and isinstance(error, OSError)):
            shutil.rmtree(partial, ignore_errors=True)
        raise


def empty_directory(directory: Path, *, but: Collection[Path] = ()) -> None:
    """Remove what is under a directory, except for some files; make it, and our subdirectory, if need be."""
    kept = {directory / PARTIAL_MARK, *but}
    for root, subdirectories, names in os.walk(directory, topdown=False):
        for name in names:
            if Path(root) / name not in kept:
                (Path(root) / name).unlink()
        for name in subdirectories:
            if (Path(root) / name).is_symlink():
                (Path(root) / name).unlink()
            else:
                with suppress(OSError):  # Not empty.
                    (Path(root) / name).rmdir()
    (directory / OWN_DIRECTORY).mkdir(parents=True, exist_ok=True)


def _aside_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.replaced")


def _begin(partial: Path, *, is_private: bool) -> None:
    """Make `partial`, if it is not there, and mark it before anything else is written into it.

    Only its owner may enter it until it is marked. From then on, the umask decides; one that `is_private` stays so, and
    gets the permissions of the output that it replaces in the end.
    """
    try:
        partial.mkdir(0o700)
    except FileExistsError:
        with suppress(PermissionError):  # A file system without permissions; here, and below.
            partial.chmod(0o700)
    mark(partial)
    (partial / OWN_DIRECTORY).mkdir(exist_ok=True)
    if not is_private:
        with suppress(PermissionError):
            partial.chmod(stat.S_IMODE((partial / OWN_DIRECTORY).stat().st_mode))


def _settle(aside: Path, out: Path) -> None:
    """Put right what a run left that was killed while it replaced `out`: put the old output back, or remove it.

    Raises
    ------
    UsageError
        If ``.OUT.replaced`` is not ours, or not whole and yet all that there is.
    """
    check_aside(aside)
    if not aside.exists():
        return
    if out.exists() or is_being_removed(aside):
        remove_replaced(aside)
    elif is_whole(aside):
        aside.rename(out)
    else:
        raise UsageError(
            aside, found="an output of ours that is not whole", expected=f"a whole one, to be put back as {out}",
            remedy="move what you need elsewhere and remove it",
        )  # fmt: skip


def _install(partial: Path, out: Path) -> None:
    """Rename `partial` to `out`, setting an old `out` aside meanwhile; it has the old one's permissions then."""
    aside = _aside_of(out)
    replaces = out.exists()
    try:
        unmark(partial)
        if replaces:
            keep_modes(out, partial)
            out.rename(aside)
        partial.rename(out)
        sync_directory(out.parent)
    except BaseException as error:
        if isinstance(error, OSError):
            if not partial.exists():
                out.rename(partial)
            if replaces and not out.exists():
                aside.rename(out)
        if partial.exists():
            with suppress(OSError):
                mark(partial)
        raise
    if replaces:
        with suppress(OSError):  # The new output stands; a remnant of the old one does not make it wrong.
            remove_replaced(aside)
