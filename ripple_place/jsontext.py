"""JSON that comes from elsewhere."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any

from ripple_place.errors import UsageError
from ripple_place.foreign import file_error
from ripple_place.inputfile import read_input

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.errors import TensorFileError


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises
    ------
    ValueError
        If it is none, holds a number of thousands of digits, or nests deeper than the interpreter's stack.
    """
    try:
        return json.loads(text)
    except RecursionError as cause:
        raise ValueError(f"brackets nested too deep ({cause})") from cause


def read_json_object(path: Path, error: type[TensorFileError], *, remedy: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    Parameters
    ----------
    path : Path
    error : subclass of TensorFileError
        What to raise, so that a bad config is a `CheckpointError`.
    remedy : str
        What to do about a file that is no JSON object, unless it is recognised as something else.

    Raises
    ------
    TensorFileError
        If there is no such file, or it holds anything else.
    UsageError
        If it is no regular file, or far too long.
    OSError
        If it cannot be read.
    """
    try:
        value = parse_json(_read(path))
        if not isinstance(value, dict):
            raise ValueError(f"a JSON {type(value).__name__}")
    except UsageError:  # No regular file, which is a ValueError, too.
        raise
    except ValueError as cause:
        raise file_error(error, path, found=str(cause), expected="a JSON object", remedy=remedy) from cause
    return value


def _read(path: Path) -> bytes:
    """Return the bytes of a file; raise ValueError if there is none."""
    try:
        return read_input(path)
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except OSError as cause:
        if cause.errno not in (errno.ELOOP, errno.EISDIR):
            raise
        raise ValueError(f"no file ({cause.strerror})") from cause
