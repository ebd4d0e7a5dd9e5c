"""What ``run`` shows while it runs, on terminals and without."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from ripple_place.cli.run_screen import RunScreen
from ripple_place.generation.step import Step
from ripple_place.workflows.run import Heard

if TYPE_CHECKING:
    from collections.abc import Sequence

PIECES = ["The ", "history of ", "the\n", "world ", "\x1b[31mred ", *(f"word{i} " for i in range(30))]


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Return that."""
        return True


def step(*, is_prefill: bool = False) -> Step:
    """Return a step of 20 ms, a tenth of it reads, with a hit for each three misses."""
    return Step(1, 1, is_prefill, 1.0, 20_000.0, 1000.0, 2000.0, 1500.0, 40, 10, 5, 6, 4096)


def show(pieces: Sequence[str], *, quiet: bool = False, shows_text: bool = True) -> None:
    """Let a screen hear of steps."""
    with RunScreen(quiet=quiet, shows_text=shows_text) as screen:
        for n, piece in enumerate(pieces, 1):
            screen.hear(Heard("a", 0, step(), piece, n, len(pieces)))
            screen.hear(Heard("b", 1, step(), "NOT THIS ", n, len(pieces)))


def streams(monkeypatch: pytest.MonkeyPatch, out: io.StringIO, err: io.StringIO) -> None:
    """Take the place of stdout and stderr."""
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)


def test_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """All text, once, what is not printable escaped; figures at most every ten seconds."""
    out, err = io.StringIO(), io.StringIO()
    streams(monkeypatch, out, err)
    show(PIECES)
    assert out.getvalue() == "".join(PIECES).replace("\x1b", "\\x1b") + "\n"
    assert err.getvalue() == ""
    monkeypatch.setattr("ripple_place.cli.run_screen.REPORT_EVERY_S", 0.0)
    show(PIECES[:2])
    assert err.getvalue() == (
        "1/2 tokens, 50.0 tokens/s, 2.00 ms I/O a token, 25.0% hits\n"
        "2/2 tokens, 50.0 tokens/s, 2.00 ms I/O a token, 25.0% hits\n"
    )


def test_text_to_a_file_figures_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text is as without a terminal; one line of figures is drawn again and again, and is gone at the end."""
    out, err = io.StringIO(), Terminal()
    streams(monkeypatch, out, err)
    show(PIECES)
    assert out.getvalue() == "".join(PIECES).replace("\x1b", "\\x1b") + "\n"
    assert "35/35 tokens, 50.0 tokens/s" in err.getvalue()
    assert "\n" not in err.getvalue()


def test_one_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole lines scroll, broken at spaces and no wider than the terminal; the last one stands at the end."""
    out, err = Terminal(), Terminal()
    streams(monkeypatch, out, err)
    monkeypatch.setenv("COLUMNS", "40")
    show(PIECES)
    lines = out.getvalue().splitlines()
    assert lines[0] == "The history of the"
    assert all(len(line) <= 40 for line in lines)
    assert " ".join(" ".join(lines).split()) == " ".join("".join(PIECES).replace("\x1b", "\\x1b").split())


@pytest.mark.parametrize("terminal", [False, True])
def test_silence(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    """Quiet: text alone. As a document, or of a text that is read: figures alone."""
    out, err = (Terminal(), Terminal()) if terminal else (io.StringIO(), io.StringIO())
    streams(monkeypatch, out, err)
    show(PIECES[:3], quiet=True)
    assert (out.getvalue(), err.getvalue()) == ("The history of the\n\n", "")
    show(PIECES[:3], shows_text=False)
    assert out.getvalue() == "The history of the\n\n"


def test_no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error before the first token leaves nothing on stdout."""
    out, err = io.StringIO(), Terminal()
    streams(monkeypatch, out, err)
    with pytest.raises(ValueError, match="no"), RunScreen(quiet=False, shows_text=True):
        raise ValueError("no")
    assert out.getvalue() == ""
