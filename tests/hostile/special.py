"""What is no regular file: under a file's name, whoever reads it must refuse it at once."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SPECIAL = {
    "pipe": "a pipe", "link to a pipe": "a pipe", "endless": "a device", "empty": "a device",
    "socket": "a socket or a device", "directory": "a directory",
}  # fmt: skip
"""What `ripple_place.inputfile` calls each."""


def make_special(path: Path, kind: str) -> Path:
    """Put something of a kind of `SPECIAL` under a name, where there is nothing."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(path.with_name(path.name + ".pipe"))
        path.symlink_to(path.with_name(path.name + ".pipe"))
    elif kind in ("endless", "empty"):
        path.symlink_to("/dev/zero" if kind == "endless" else "/dev/null")
    elif kind == "directory":
        path.mkdir()
    else:
        here = os.getcwd()
        os.chdir(path.parent)  # Names of sockets are short.
        try:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path.name)
        finally:
            os.chdir(here)
    return path


def remove_special(path: Path) -> None:
    """Remove what `make_special` has put there."""
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()
    path.with_name(path.name + ".pipe").unlink(missing_ok=True)
