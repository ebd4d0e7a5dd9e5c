"""Entry point: the command group, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import os
import sys

import click

from ripple_place.cli.calibrate import calibrate
from ripple_place.cli.profile import profile
from ripple_place.cli.reorder import reorder
from ripple_place.cli.simulate import simulate
from ripple_place.cli.verify import verify
from ripple_place.errors import RipplePlaceError, UnsupportedError, UsageError, VerificationError
from ripple_place.version import __version__

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (UsageError, 2),
    (UnsupportedError, 3),
    (VerificationError, 4),
    (RipplePlaceError, 1),
    (OSError, 5),
)
"""First match counts. A bug is none of these and keeps its traceback."""


_EXAMPLE = """\b
Example:
  ripple-place profile model.trace.safetensors --out model.profile
  ripple-place reorder ./model --profile model.profile --out ./model-flash
  ripple-place simulate held-out.trace.safetensors --layout original --layout ./model-flash
"""


@click.group(epilog=_EXAMPLE, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ripple-place")
def cli() -> None:
    """Make a language model read faster from flash.

    Profile which FFN neurons fire together, reorder the checkpoint so that they lie side by side (the model stays the
    same, and verify proves it), and simulate what that saves on a given flash device.
    """


for _command in (profile, reorder, simulate, verify, calibrate):
    cli.add_command(_command)


_REMEDIES = {
    errno.ENOSPC: "Make room, or write elsewhere",
    errno.EDQUOT: "Make room within the quota, or write elsewhere",
    errno.EFBIG: "Raise the limit on file sizes, or write elsewhere",
    errno.EACCES: "Check the permissions",
    errno.EPERM: "Check the permissions",
    errno.EROFS: "Write elsewhere; this file system is read-only",
    errno.EIO: "Check the storage; the system log says more",
}


def _os_error_text(error: OSError) -> str:
    """Say which file the system refused, why, and what to do."""
    if error.errno is None or error.strerror is None:
        return str(error)
    text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if error.strerror != os.strerror(error.errno):
        return f"{text}."  # Our own, which says what to do.
    return f"{text}. {_REMEDIES.get(error.errno, 'Check the path and the storage')}."


def main() -> None:
    """Run the command line and exit with the code that the outcome calls for."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as interrupt:
        # click raises Abort from what the library raised, which may say how to go on.
        notes = getattr(interrupt.__cause__ or interrupt, "__notes__", [])
        click.echo(" ".join(["Interrupted.", *notes]), err=True)
        sys.exit(130)
    except tuple(kind for kind, _ in EXIT_CODES) as error:
        click.echo(f"Error: {_os_error_text(error) if isinstance(error, OSError) else error}", err=True)
        sys.exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind)))
