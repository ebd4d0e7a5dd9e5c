"""Which directories at and beside OUT are ours: only they are replaced, continued or removed.

An output carries our manifest, which names its files. ``OUT.partial`` carries a mark, which is the first thing that is
written into it, or a journal. An old output that has made way is removed file by file as its manifest names them. The
manifest is renamed before that begins and goes last, so that what a kill leaves of it can be told from a whole output.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.checkpoint.fileio import sync_directory
from ripple_place.checkpoint.names import JOURNAL_FILE, JOURNAL_FORMAT, MANIFEST_FILE, MANIFEST_FORMAT, OWN_DIRECTORY
from ripple_place.errors import UsageError
from ripple_place.inputfile import open_stream, read_input
from ripple_place.jsontext import parse_json
from ripple_place.outputs import is_mount_point, not_ours

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PARTIAL_MARK = ".ripple-place.partial"
"""Empty file in ``OUT.partial`` that says whose it is."""
REMOVED_MANIFEST_FILE = f"{OWN_DIRECTORY}/manifest.removed.json"
"""Name of the manifest of an old output from the moment on in which its removal begins."""
_FORMAT_NAME = MANIFEST_FORMAT.partition("/")[0] + "/"
_JOURNAL_START = f'{{"format":"{JOURNAL_FORMAT.partition("/")[0]}/'.encode()
_REMEDY = "move what you need elsewhere and remove it, or write elsewhere"


def check_replaced(out: Path) -> None:
    """Raise unless what is at `out` may be replaced: an empty directory, or an output and nothing else.

    Raises
    ------
    UsageError
        If it has no readable manifest of ours, or files that the manifest does not name.
    OSError
        If it cannot be read.
    """
    if _is_directory(out) and not any(out.iterdir()):
        return
    named = _named_files(out, MANIFEST_FILE)
    if named is None:
        raise UsageError(
            out, found=f"something that is no output of ours (no readable {MANIFEST_FILE})",
            expected="an output to replace", remedy=_REMEDY,
        )  # fmt: skip
    if other := [name for name in _entries(out) if name not in named]:
        raise UsageError(
            out, found=f"{len(other)} files that its manifest does not name, such as {min(other)}",
            expected="an output and nothing else, to replace it", remedy=_REMEDY,
        )  # fmt: skip


def check_partial(partial: Path) -> None:
    """Raise unless ``OUT.partial`` is not there, or may be continued and emptied.

    That takes our mark or journal, or a whole output that was about to be renamed. A directory without anything in it,
    which is what a kill leaves before the mark is written, is taken if nobody else may write to it.

    Raises
    ------
    UsageError
        If it is somebody else's.
    OSError
        If it cannot be read.
    """
    if not os.path.lexists(partial):
        return
    _check_owner(partial)
    if any(partial.iterdir()):
        if not any((_is_marked(partial), _has_journal(partial), _named_files(partial, MANIFEST_FILE) is not None)):
            raise not_ours(partial, expected="nothing there, or an interrupted run")
    elif hasattr(os, "geteuid") and partial.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(
            partial, found="an empty directory that others may write to, and so not ours", expected="nothing there",
            remedy="remove it",
        )  # fmt: skip


def check_aside(aside: Path) -> None:
    """Raise unless ``.OUT.replaced`` is not there, or an output of ours that makes way, or what is left of one.

    Raises
    ------
    UsageError
        If it is somebody else's.
    OSError
        If it cannot be read.
    """
    if not os.path.lexists(aside):
        return
    _check_owner(aside)
    if any(aside.iterdir()) and not (is_being_removed(aside) or _named_files(aside, MANIFEST_FILE) is not None):
        raise not_ours(aside)


def mark(partial: Path) -> None:
    """Mark a directory as an unfinished output of ours; nothing changes if it is marked."""
    if not _is_marked(partial):
        (partial / PARTIAL_MARK).open("x").close()


def unmark(partial: Path) -> None:
    """Take the mark off a directory that is about to become an output."""
    (partial / PARTIAL_MARK).unlink(missing_ok=True)


def is_whole(out: Path) -> bool:
    """Tell whether a directory has every file that its manifest names, in the size that it says."""
    named = _named_files(out, MANIFEST_FILE)
    return named is not None and all(
        (file := out / name).is_file() and size_bytes in (None, file.stat().st_size)
        for name, size_bytes in named.items()
    )


def is_being_removed(aside: Path) -> bool:
    """Tell whether the removal of a replaced output has begun: it must not become an output again."""
    return _named_files(aside, REMOVED_MANIFEST_FILE) is not None or not any(_entries(aside))


def remove_replaced(aside: Path) -> None:
    """Remove a replaced output: the files that its manifest names, the manifest last. Anything else stays.

    Raises
    ------
    OSError
        If storage refuses; the next call goes on from there.
    """
    manifest, removed = aside / MANIFEST_FILE, aside / REMOVED_MANIFEST_FILE
    for directory, _, _ in os.walk(aside):
        with suppress(OSError):
            os.chmod(directory, stat.S_IMODE(os.stat(directory).st_mode) | stat.S_IRWXU)
    named = {**(_named_files(aside, MANIFEST_FILE) or {}), **(_named_files(aside, REMOVED_MANIFEST_FILE) or {})}
    if manifest.exists():
        manifest.replace(removed)
        sync_directory(removed.parent)
    for name in list(_entries(aside)):
        if name in named and name not in (MANIFEST_FILE, REMOVED_MANIFEST_FILE):
            (aside / name).unlink()
    removed.unlink(missing_ok=True)
    for directory, _, _ in os.walk(aside, topdown=False):
        with suppress(OSError):  # Not empty: something of somebody else's.
            os.rmdir(directory)


def keep_modes(old: Path, new: Path) -> None:
    """Give a directory and everything in it the permissions that the same names have in the one it replaces."""
    for directory, _, names in os.walk(new, topdown=False):
        for path in (*(Path(directory) / name for name in names), Path(directory)):
            before = old / path.relative_to(new)
            with suppress(OSError):  # New, or on a file system without permissions.
                status, now = before.lstat(), path.lstat()
                if stat.S_IFMT(status.st_mode) == stat.S_IFMT(now.st_mode) and not stat.S_ISLNK(now.st_mode):
                    path.chmod(stat.S_IMODE(status.st_mode))


def _check_owner(directory: Path) -> None:
    """Raise unless something is a directory, no link, and belongs to the user who runs this."""
    if not _is_directory(directory):
        raise not_ours(directory)
    if hasattr(os, "geteuid") and directory.lstat().st_uid != os.geteuid():
        raise UsageError(
            directory, found="a directory of another user, and so not ours", expected="nothing there",
            remedy="have it removed, or write elsewhere",
        )  # fmt: skip
    if is_mount_point(directory):
        raise UsageError(
            directory, found="a mount point, which cannot be renamed", expected="nothing there",
            remedy="unmount it, or write elsewhere",
        )  # fmt: skip


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and not path.parent.is_symlink()


def _is_marked(partial: Path) -> bool:
    return _is_file(partial / PARTIAL_MARK)


def _has_journal(partial: Path) -> bool:
    journal = partial / JOURNAL_FILE
    if not _is_file(journal):
        return False
    with open_stream(journal) as file:
        return file.read(len(_JOURNAL_START)) == _JOURNAL_START


def _named_files(directory: Path, manifest: str) -> Mapping[str, int | None] | None:
    """Return the files that a manifest of ours names, itself included, with their sizes; None if it is none.

    Its hash is not asked for: this tells whose a directory is, not whether it is sound.
    """
    if not _is_file(directory / manifest):
        return None
    text = read_input(directory / manifest)
    try:
        document = parse_json(text)
    except ValueError:
        return None
    if not isinstance(document, dict) or not isinstance(files := document.get("files"), dict):
        return None
    if not str(document.get("format")).startswith(_FORMAT_NAME):
        return None
    sizes = {name: entry.get("size_bytes") if isinstance(entry, dict) else None for name, entry in files.items()}
    return {**sizes, manifest: None}


def _entries(directory: Path) -> Iterator[str]:
    """Yield the names of all that is under a directory but directories, with ``/``; links are not followed."""
    for root, subdirectories, names in os.walk(directory):
        for name in (*names, *(name for name in subdirectories if (Path(root) / name).is_symlink())):
            yield (Path(root) / name).relative_to(directory).as_posix()
