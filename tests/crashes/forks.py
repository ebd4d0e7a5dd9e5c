"""Runs of `ripple-place` in processes forked from this one, to be killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from ripple_place.cli.main import main as command_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def start(arguments: Sequence[str], stderr: Path, prepare: Callable[[], object] = lambda: None) -> int:
    """Fork a run, its stderr in a file; return its process id."""
    process = os.fork()
    if process == 0:
        code = 70
        try:
            prepare()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(os.open(str(stderr), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
            sys.argv = ["ripple-place", *arguments]
            command_line()
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 71
        finally:
            os._exit(code)
    return process


def finish(process: int) -> int:
    """Wait for the end of a run; return its exit code, or the negative number of the signal that killed it."""
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


def kill(process: int, stderr: Path, after_seconds: float) -> bool:
    """Kill a run after some time; tell whether it was still running."""
    time.sleep(after_seconds)
    os.kill(process, signal.SIGKILL)
    code = finish(process)
    assert code in (0, -signal.SIGKILL), (code, stderr.read_text())
    return code != 0
