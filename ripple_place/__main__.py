"""Run the command line: as ``python -m ripple_place``, and as the script ``ripple-place``."""

from __future__ import annotations

import os
import sys

_INTERRUPTED = 130


def main() -> None:
    """Import the command line, which takes a moment, and run it."""
    try:
        _ensure_utf8()
        from ripple_place.cli.main import main as run

        run()
    except KeyboardInterrupt:  # Before the command began; `run` has its own end for what comes later.
        print("Interrupted.", file=sys.stderr)
        sys.exit(_INTERRUPTED)


def _ensure_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale would have file names in another encoding.

    Manifests and indexes name files in UTF-8. In the C locale Python switches to UTF-8 by
    itself, unless PYTHONUTF8=0 forbids it.
    """
    is_told = "utf8" in sys._xoptions  # noqa: SLF001 -- documented, and of no other name
    if sys.getfilesystemencoding() == "utf-8" or is_told or not sys.executable:
        return
    if sys.stdout is not None:  # What is printed stays in the encoding of the terminal.
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


if __name__ == "__main__":
    main()
