"""The standard streams as commands need them: open, and able to take every character."""

from __future__ import annotations

import io
import os
import sys


def prepare_streams() -> None:
    """Make sure that printing cannot fail for want of a stream or of a character.

    A stream that the caller has closed discards what it gets; otherwise its number would go to the next file that is
    opened. A character that the encoding of a stream lacks is printed as an escape.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if name == "stdin" else os.O_WRONLY)  # The lowest number that is free.
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
