"""Checks on where inputs lie and where results go, made before the work starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable


def check_output_file(path: Path, *, force: bool, apart_from: Iterable[Path] = ()) -> None:
    """Refuse an output file that exists (unless `force`), is a directory, or has no directory to lie in.

    Inputs, and outputs beside it, are what it must be `apart_from`, `force` or not.

    Raises
    ------
    UsageError
        In these cases.
    """
    if path.is_dir():
        raise UsageError(path, found="a directory", expected="a file to write", remedy="name a file in it")
    if path.resolve() in [other.resolve() for other in apart_from]:
        raise UsageError(
            path, found="another file of this command", expected="a file of its own", remedy="choose another name"
        )
    if path.exists() and not force:
        raise UsageError(
            path, found="a file", expected="a new name", remedy="choose another name, or overwrite it with --force"
        )
    if not path.absolute().parent.is_dir():
        raise UsageError(
            path, found="no directory to write it in", expected=f"{path.absolute().parent} to exist",
            remedy="make the directory first",
        )  # fmt: skip


def check_input(path: str | os.PathLike[str], what: str, remedy: str) -> None:
    """Refuse an input that is not there.

    Raises
    ------
    UsageError
        In that case.
    """
    if not Path(path).exists():
        raise UsageError(Path(path), found="nothing there", expected=what, remedy=remedy)
