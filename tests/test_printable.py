"""Foreign text: nothing in it reaches a terminal as anything but text."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripple_place.printable import one_line, printable

ESCAPE = "\x1b[31m"


@given(st.text(st.characters(categories=None)))
def test_all_of_it_is_printable_and_encodes(text: str) -> None:
    """Any code points, lone surrogates among them; what is printable stays as it is."""
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    "character",
    ["\x1b", "\x07", "\r", "\n", "\x7f", "\x9b", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\ufffe"],
)
def test_what_is_escaped(character: str) -> None:
    """Terminal sequences, controls (C1 too), turns of direction, characters without a width, line ends."""
    shown = printable(f"a{character}b")
    assert (shown[:2], shown[-1]) == ("a\\", "b")
    assert unicodedata.category(character) in ("Cc", "Cf", "Zl", "Cn")


@pytest.mark.parametrize(
    ("name", "shown"), [(b"caf\xc3\xa9", "caf\u00e9"), (b"\xff\xc3\xa9", "\\xff\u00e9"), (b"plain", "plain")]
)
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_of_files_in_any_locale(name: bytes, shown: str, encoding: str) -> None:
    """What Python could not decode is UTF-8 where it can be, and bytes where it cannot."""
    assert printable(name.decode(encoding, "surrogateescape")) == shown


def test_what_is_kept() -> None:
    """The line ends of a whole page; the rest of it is escaped."""
    assert printable("a\n\tb\n", keep="\n") == "a\n\\tb\n"


def test_one_line() -> None:
    """Of a name without end, the ends; of anything that is no text, its text."""
    assert one_line("a" * 300 + "\n", at_most=100) == "a" * 50 + " ... " + "a" * 24 + "\\n"
    assert one_line(os.fsencode("x")) == "b'x'"
