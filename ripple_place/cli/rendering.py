"""Results as text: tables on stdout, JSON documents, warnings and progress bars on stderr.

Whatever a command prints goes through `echo`, which lets no foreign text (names in files, paths) reach the terminal as
anything but text.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from ripple_place.printable import MAX_NAME_CHARACTERS, one_line, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

T = TypeVar("T")


def echo(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Print text to stdout, or to stderr, with everything escaped that is not printable; lines end where they did.

    Raises
    ------
    OSError
        If the stream cannot be written, as on a full disk.
    """
    stream = sys.stderr if err else sys.stdout
    try:
        # Not by click, which writes UTF-8 to a stream that says that it takes ASCII.
        stream.write(printable(text, keep="\n") + end)
        stream.flush()
    except OSError as error:
        error.filename = error.filename or f"standard {'error' if err else 'output'}"
        raise


def echo_above_bars(text: str) -> None:
    """Print a line to stdout, where bars are drawn on the same terminal."""
    from tqdm import tqdm

    tqdm.write(printable(text), file=sys.stdout)


def echo_json(document: dict[str, Any]) -> None:
    """Print one JSON document, in ASCII."""
    echo(json.dumps(document, indent=2, allow_nan=False))


def echo_warnings(warnings: Iterable[str], *, quiet: bool) -> None:
    """Print warnings to stderr."""
    if not quiet:
        for warning in warnings:
            echo(f"Warning: {one_line(warning)}.", err=True)


class _LogLines(logging.Handler):
    """Writes what the library logs to stderr, above a progress bar where one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as a sentence."""
        from tqdm import tqdm

        kind = "Warning: " if record.levelno >= logging.WARNING else ""
        tqdm.write(f"{kind}{one_line(record.getMessage())}.", file=sys.stderr)


_log_lines = _LogLines()


def show_log(*, quiet: bool) -> None:
    """Show what the library logs from now on: that kernels are being compiled, and where they cannot be kept."""
    _log_lines.setLevel(logging.CRITICAL if quiet else logging.INFO)
    logger = logging.getLogger("ripple_place")
    logger.setLevel(logging.INFO)
    logger.addHandler(_log_lines)  # once, however often it is called


def format_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an aligned table: the first column to the left, the others to the right.

    A cell is one line, however foreign its text; of a name without end, the ends are shown.

    >>> print(format_table(["block", "reads"], [["layers.0", "751.45"], ["all", "9"]]))
    block      reads
    layers.0  751.45
    all            9
    """
    lines = [[one_line(cell, at_most=MAX_NAME_CHARACTERS) for cell in row] for row in (headers, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in lines
    )


def number(value: float | None, decimals: int = 2) -> str:
    """Return a number for a table; a dash where there is none.

    >>> number(1234.5), number(None)
    ('1,234.50', '-')
    """
    return "-" if value is None else f"{value:,.{decimals}f}"


def percent(share: float | None, decimals: int = 1) -> str:
    """Return a share as a percentage; a dash where there is none.

    >>> percent(0.0351)
    '3.5%'
    """
    return "-" if share is None else f"{100 * share:.{decimals}f}%"


class ProgressBars:
    """Progress on stderr by tqdm; silent when quiet or when stderr is no terminal. A `ripple_place.tracking.Track`."""

    def __init__(self, *, quiet: bool) -> None:
        self.disabled = quiet or not sys.stderr.isatty()

    def __call__(self, items: Collection[T], what: str) -> Iterable[T]:
        """Yield items under a bar that counts them."""
        from tqdm import tqdm

        # A bar for what takes under a second is noise.
        bar: Iterable[T] = tqdm(
            items, desc=one_line(what), disable=self.disabled, leave=False, delay=1, file=sys.stderr
        )
        return bar

    def bytes(self, total_bytes: int, what: str) -> Callable[[int], object]:
        """Return the update function of a bar that counts bytes."""
        from tqdm import tqdm

        bar = tqdm(
            total=total_bytes, desc=one_line(what), unit="B", unit_scale=True, disable=self.disabled, leave=False,
            delay=1, file=sys.stderr,
        )  # fmt: skip
        update: Callable[[int], object] = bar.update
        return update

    def searches(self, n_searches: int, what: str) -> Callable[[str, float, float], object]:
        """Return the update function of a bar that counts searches, with what they have gained so far."""
        from tqdm import tqdm

        bar = tqdm(
            total=n_searches, desc=one_line(what), disable=self.disabled, leave=False, delay=1, file=sys.stderr,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} blocks [{elapsed}<{remaining}{postfix}]",
        )  # fmt: skip
        done: dict[str, float] = {}
        gains: dict[str, float] = {}

        def update(name: str, done_share: float, gain_share: float) -> None:
            bar.update(max(0.0, done_share - done.get(name, 0.0)))
            done[name] = max(done_share, done.get(name, 0.0))
            gains[name] = max(gain_share, gains.get(name, 0.0))
            bar.set_postfix_str(f"{percent(sum(gains.values()) / len(gains))} below the best start", refresh=False)

        return update
