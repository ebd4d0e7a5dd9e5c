"""What ``run`` shows while it runs: the text as it comes, and a line that says how fast it comes."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

from ripple_place.cli.rendering import echo, echo_above_bars, number, percent
from ripple_place.printable import printable

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from ripple_place.generation.step import Step
    from ripple_place.workflows.run import Heard

REPORT_EVERY_S = 10.0
"""Between two lines where there is no terminal to draw one line again and again."""


class RunScreen:
    """Listens to a run; a context manager that leaves the terminal as it should be.

    Text goes to stdout, figures to stderr. Where both are one terminal, whole lines of text scroll above the figures,
    and the line that is being written stands between them.

    Parameters
    ----------
    quiet : bool
        No figures.
    shows_text : bool
    """

    def __init__(self, *, quiet: bool, shows_text: bool) -> None:
        self._quiet, self._shows_text = quiet, shows_text
        self._is_live = sys.stderr.isatty() and not quiet
        self._is_one_terminal = self._is_live and sys.stdout.isatty()
        self._line, self._text_bar, self._bar = "", None, None  # type: tuple[str, Any, Any]
        self._steps: list[Step] = []
        self._began_s = self._said_s = time.monotonic()

    def __enter__(self) -> RunScreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bar in (self._bar, self._text_bar):
            if bar is not None:
                bar.close()
        if self._line or (self._shows_text and self._steps):
            echo(self._line if self._is_one_terminal else "")

    def hear(self, heard: Heard) -> None:
        """Show a step of the first output; others run in its shadow."""
        if heard.place != 0:
            return
        self._steps.append(heard.step)
        if self._shows_text and heard.piece:
            self._show_text(heard.piece)
        if not self._quiet:
            self._show_figures(heard)

    def _show_text(self, piece: str) -> None:
        if not self._is_one_terminal:
            echo(piece, end="")
            return
        width = shutil.get_terminal_size().columns - 1
        self._line += printable(piece, keep="\n")
        while "\n" in self._line or len(self._line) > width:
            self._line = self._write_line(width)
        if self._text_bar is None:
            self._text_bar = self._new_bar(position=0)
        self._text_bar.set_description_str(self._line)

    def _write_line(self, width: int) -> str:
        """Let the first line of what was not written yet scroll, broken at a space; return the rest."""
        line, newline, rest = self._line.partition("\n")
        if len(line) > width:
            at = line.rfind(" ", 1, width + 1)
            at = width if at < 0 else at
            line, rest = line[:at], line[at:].lstrip(" ") + newline + rest
        echo_above_bars(line)
        return rest

    def _show_figures(self, heard: Heard) -> None:
        if self._is_live:
            if self._bar is None:
                self._bar = self._new_bar(position=int(self._is_one_terminal and self._shows_text))
            self._bar.set_description_str(self._figures(heard))
        elif time.monotonic() - self._said_s >= REPORT_EVERY_S:
            self._said_s = time.monotonic()
            echo(self._figures(heard), err=True)

    def _figures(self, heard: Heard) -> str:
        """Return what the last tokens took."""
        last = [step for step in self._steps[-32:] if not step.is_prefill] or self._steps[-1:]
        elapsed_us = sum(step.elapsed_us for step in last)
        asked = sum(step.n_asked for step in last)
        hits = sum(step.n_hits for step in last) / asked if asked else None
        rate = 1e6 * sum(step.n_rows for step in last) / elapsed_us if elapsed_us else None
        io_ms = sum(step.read_us for step in last) / 1e3 / len(last)
        return (
            f"{heard.n_done}/{heard.n_wanted} tokens, {number(rate, 1)} tokens/s, {number(io_ms)} ms I/O a token, "
            f"{percent(hits)} hits"
        )

    def _new_bar(self, position: int) -> Any:
        from tqdm import tqdm

        return tqdm(bar_format="{desc}", position=position, leave=False, file=sys.stderr, dynamic_ncols=True)
