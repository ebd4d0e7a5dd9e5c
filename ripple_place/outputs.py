"""Checks on where inputs lie and where results go, made before the work starts."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE_SUFFIX_BYTES = len("..12345678.partial")
"""What the longest name beside an output file adds to its name, while the file is written."""

_KINDS = (
    (stat.S_ISLNK, "a link"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip
"""What a file cannot take the place of. A directory is not among them: the system itself refuses to replace it."""


def check_output_file(path: Path, *, force: bool, apart_from: Iterable[Path] = (), takes_force: bool = True) -> None:
    """Refuse an output file that cannot be written, or must not be, before the work starts.

    Inputs, and outputs beside it, are what it must be `apart_from`, `force` or not. Where the command at hand cannot be
    told to overwrite (`takes_force`), the error does not advise it.

    Raises
    ------
    UsageError
        If it exists (unless `force`), is no regular file or a mount point, or has no directory to lie in.
    OSError
        If its directory cannot be written to, or its name is too long.
    """
    _check_names(path, FILE_SUFFIX_BYTES)
    if path.is_dir():
        raise UsageError(path, found="a directory", expected="a file to write", remedy="name a file in it")
    if path.resolve() in [other.resolve() for other in apart_from]:
        raise UsageError(
            path, found="another file of this command", expected="a file of its own", remedy="choose another name"
        )
    check_replaceable(path)
    if path.exists() and not force:
        raise UsageError(
            path, found="a file", expected="a new name",
            remedy="choose another name, or " + ("overwrite it with --force" if takes_force else "remove it"),
        )  # fmt: skip
    if not path.absolute().parent.is_dir():
        raise UsageError(
            path, found="no directory to write it in", expected=f"{path.absolute().parent} to exist",
            remedy="make the directory first",
        )  # fmt: skip
    check_place(path, suffix_bytes=FILE_SUFFIX_BYTES)


def check_replaceable(path: Path) -> None:
    """Refuse to put a file in the place of a link, device, pipe or socket.

    Raises
    ------
    UsageError
        In that case.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if (kind := special_kind(mode)) is not None:
        target = Path(os.path.realpath(path))
        leads_to_place = kind == "a link" and (target.is_file() or not os.path.lexists(target))
        raise UsageError(
            path, found=kind, expected="a regular file, or nothing there",
            remedy=f"name {target}, where it leads" if leads_to_place else "name another file",
        )  # fmt: skip


def not_ours(path: Path, *, expected: str = "nothing there") -> UsageError:
    """Return the refusal of something that stands where only we write, and that we did not make."""
    return UsageError(path, found="something that is not ours", expected=expected, remedy="remove or rename it")


def special_kind(mode: int) -> str | None:
    """Return what a file of this mode is, if it is neither a regular file nor a directory.

    >>> special_kind(stat.S_IFIFO), special_kind(stat.S_IFREG)
    ('a pipe', None)
    """
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), None)


def keep_mode(path: Path, descriptor: int) -> None:
    """Give an open file the permissions of the file at `path` that it is to replace, if there is one.

    Without one, it keeps those that it was made with, which the umask decides.

    Raises
    ------
    OSError
        If storage refuses.
    """
    try:
        mode = stat.S_IMODE(path.lstat().st_mode) & 0o777
    except FileNotFoundError:
        return
    if hasattr(os, "fchmod") and mode != stat.S_IMODE(os.fstat(descriptor).st_mode):
        os.fchmod(descriptor, mode)


def check_place(path: Path, *, suffix_bytes: int) -> None:
    """Refuse a place at which nothing can be made, written beside it and renamed; nothing is written to find out.

    Parameters
    ----------
    path : Path
        Of a file or a directory, whether or not it is there. Directories above it may have to be made.
    suffix_bytes : int
        What the longest name beside it adds to its name.

    Raises
    ------
    UsageError
        If it is a mount point, which no rename can replace, or a file stands where a directory above it must be.
    OSError
        If the directory cannot be written to, or a name is too long.
    """
    _check_names(path, suffix_bytes)
    if is_mount_point(path):
        raise UsageError(
            path, found="a mount point, which cannot be replaced", expected="a path that can be renamed",
            remedy=f"name a path inside it, such as {path / 'new'}" if path.is_dir() else "name another file",
        )  # fmt: skip
    directory = _nearest_parent(path)
    if not directory.is_dir():
        raise UsageError(
            directory, found="no directory", expected=f"a directory for {path}", remedy="name a path elsewhere"
        )
    if not _may_write(directory):
        is_read_only = hasattr(os, "statvfs") and os.statvfs(directory).f_flag & os.ST_RDONLY
        code = errno.EROFS if is_read_only else errno.EACCES
        remedy = "write elsewhere" if is_read_only else "write elsewhere, or change the permissions of this directory"
        raise OSError(code, f"{os.strerror(code)}: {path.name} cannot be made in it; {remedy}", str(directory))
    if os.path.lexists(path) and not _may_rename(path, directory):
        raise OSError(
            errno.EPERM,
            f"{os.strerror(errno.EPERM)}: it belongs to another user, and in this directory only its owner may replace "
            "it; choose another name",
            str(path),
        )


def is_mount_point(path: Path) -> bool:
    """Tell whether a file system, or a part of one, is mounted at a path (bind mounts included, on Linux)."""
    path = Path(os.path.realpath(path))
    mount, mount_above = _mount_of(path), _mount_of(path.parent)
    if mount is None or mount_above is None:
        return path.is_dir() and os.path.ismount(path)
    return path == path.parent or mount != mount_above


def check_input(path: str | os.PathLike[str], what: str, remedy: str) -> None:
    """Refuse an input that is not there.

    Raises
    ------
    UsageError
        In that case.
    """
    if not Path(path).exists():
        raise UsageError(Path(path), found="nothing there", expected=what, remedy=remedy)


def _nearest_parent(path: Path) -> Path:
    """Return the directory above a path, or whatever is nearest above it and exists."""
    return next(parent for parent in path.absolute().parents if os.path.lexists(parent))


def _check_names(path: Path, suffix_bytes: int) -> None:
    """Raise if a name that is to be made, or one beside it, is longer than the file system takes."""
    path, existing = path.absolute(), _nearest_parent(path)
    try:
        limit = os.pathconf(existing, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return  # Not known here.
    for name, added in ((path.name, suffix_bytes), *((part, 0) for part in path.parent.relative_to(existing).parts)):
        n_bytes = len(os.fsencode(name))
        if n_bytes + added > limit:
            raise OSError(
                errno.ENAMETOOLONG,
                f"{os.strerror(errno.ENAMETOOLONG)}: {n_bytes} bytes"
                + (f", and {added} more while it is written" if added else "")
                + f"; choose a name of at most {limit - added} bytes",
                str(path),
            )


def _may_write(directory: Path) -> bool:
    return os.access(directory, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _may_rename(path: Path, directory: Path) -> bool:
    """Tell whether an entry of a directory that may be written to may be renamed: in sticky ones, by owners only."""
    status = directory.stat()
    if not hasattr(os, "geteuid") or not status.st_mode & stat.S_ISVTX:
        return True
    return os.geteuid() in (0, status.st_uid, path.lstat().st_uid)


def _mount_of(path: Path) -> str | None:
    """Return the number of the mount that a path lies on; None where the system does not tell."""
    if not hasattr(os, "O_PATH"):
        return None
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("mnt_id:")), None)
