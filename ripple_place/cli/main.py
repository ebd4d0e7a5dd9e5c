"""Entry point: the command group, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

import click

from ripple_place.cli.calibrate import calibrate
from ripple_place.cli.ending import EndedBySignal, orderly_end
from ripple_place.cli.profile import profile
from ripple_place.cli.rendering import echo
from ripple_place.cli.reorder import reorder
from ripple_place.cli.run import run
from ripple_place.cli.simulate import simulate
from ripple_place.cli.streams import prepare_streams
from ripple_place.cli.verify import verify
from ripple_place.errors import RipplePlaceError, UnsupportedError, UsageError, VerificationError
from ripple_place.printable import one_line
from ripple_place.version import __version__

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (UsageError, 2),
    (UnsupportedError, 3),
    (VerificationError, 4),
    (RipplePlaceError, 1),
    (OSError, 5),
)
"""First match counts. A bug is none of these and keeps its traceback."""

_NAME = "ripple-place"
_COMPLETION = "_RIPPLE_PLACE_COMPLETE"
"""Environment variable by which a shell asks how to complete a word."""
_EXAMPLE = """\b
Example:
  ripple-place profile model.trace.safetensors --out model.profile
  ripple-place reorder ./model --profile model.profile --out ./model-flash
  ripple-place simulate held-out.trace.safetensors --layout original --layout ./model-flash
"""


@click.group(epilog=_EXAMPLE, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name=_NAME)
def cli() -> None:
    """Make a language model read faster from flash.

    Profile which FFN neurons fire together, reorder the checkpoint so that they lie side by side (the model stays the
    same, and verify proves it), and simulate what that saves on a given flash device.
    """


for _command in (profile, reorder, simulate, run, verify, calibrate):
    cli.add_command(_command)


_REMEDIES = {
    errno.ENOSPC: "Make room, or write elsewhere",
    errno.EDQUOT: "Make room within the quota, or write elsewhere",
    errno.EFBIG: "Raise the limit on file sizes, or write elsewhere",
    errno.EACCES: "Check the permissions",
    errno.EPERM: "Check the permissions",
    errno.EROFS: "Write elsewhere; this file system is read-only",
    errno.EMFILE: "Close files, or raise the limit on open files (ulimit -n)",
    errno.EIO: "Check the storage; the system log says more",
}


def _os_error_text(error: OSError) -> str:
    """Say which file the system refused, why, and what to do."""
    if error.errno is None or error.strerror is None:
        return one_line(error)
    text = one_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    if error.strerror != os.strerror(error.errno):
        return f"{text}."  # Our own, which says what to do.
    return f"{text}. {_REMEDIES.get(error.errno, 'Check the path and the storage')}."


def main() -> None:
    """Run the command line and exit with the code that the outcome calls for."""
    prepare_streams()
    try:
        with orderly_end():
            code = _run()
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        _end(shown.getvalue().rstrip("\n"), error.exit_code)
    except KeyboardInterrupt as interrupt:
        number = interrupt.number if isinstance(interrupt, EndedBySignal) else signal.SIGINT
        end = "\nInterrupted." if number == signal.SIGINT else f"Ended by {number.name}."
        _end(" ".join([end, *map(one_line, getattr(interrupt, "__notes__", []))]), 128 + number)
    except BrokenPipeError:
        sys.exit(128 + signal.SIGPIPE)  # Nobody reads on.
    except tuple(kind for kind, _ in EXIT_CODES) as error:
        text = _os_error_text(error) if isinstance(error, OSError) else error
        _end(f"Error: {text}", next(code for kind, code in EXIT_CODES if isinstance(error, kind)))
    sys.exit(code)


def _run() -> int:
    """Run the command that was given; return its exit code.

    Not by click's own `main`, except where a shell asks how to complete a word: it ends in its own ways where nobody
    reads on, and writes to a terminal that may have gone.
    """
    if _COMPLETION in os.environ:
        return int(cli.main(prog_name=_NAME, complete_var=_COMPLETION, standalone_mode=False) or 0)
    try:
        with cli.make_context(_NAME, sys.argv[1:]) as context:
            cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    return 0


def _end(text: str, code: int) -> NoReturn:
    """Say why the command ends, if anybody can be told, and exit."""
    with suppress(OSError):
        echo(text, err=True)
    sys.exit(code)
