"""Foreign text, such as names out of files and paths, made safe to show on a terminal, in a page or in a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_NAME_CHARACTERS = 200
"""What a cell of a table shows of a name."""
_MAX_CHARACTERS = 4000


def without_surrogates(text: str) -> str:
    """Return text that every UTF-8 file can hold.

    A file name that is not in the encoding of the locale reaches Python as text with surrogates: it is read as UTF-8,
    and the bytes that are not are escaped. So are surrogates that stand for no bytes.

    >>> without_surrogates(b"caf\\xc3\\xa9 \\xff".decode("ascii", "surrogateescape")), without_surrogates(chr(0xD800))
    ('café \\\\xff', '\\\\ud800')
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str, *, keep: str = "") -> str:
    """Return text in which whatever is not printed as it is written stands as an escape.

    Escaped are controls (line ends, terminal sequences, C1), characters without a width or that turn the direction of
    writing, code points that Unicode has not assigned, and surrogates (`without_surrogates`).

    Parameters
    ----------
    text : str
    keep : str
        Characters that stay as they are.

    Examples
    --------
    >>> print(printable("a" + chr(27) + "[31m" + chr(10) + chr(0x202E) + chr(0xD800)))
    a\\x1b[31m\\n\\u202e\\ud800
    """
    text = without_surrogates(text)
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else character.encode("unicode_escape").decode()
        for character in text
    )


def one_line(text: object, *, at_most: int = _MAX_CHARACTERS) -> str:
    """Return a value as one printable line; of a longer text, its beginning and its end.

    >>> one_line("x" * 50, at_most=12)
    'xxxxxx ... xxx'
    """
    text = str(text)
    if len(text) > at_most:
        text = f"{text[: at_most // 2]} ... {text[-at_most // 4 :]}"
    return printable(text)


def listed(names: Sequence[object], *, at_most: int = 3) -> str:
    """Return the first few names, and how many more there are.

    >>> listed(["a", "b"]), listed(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    more = len(names) - at_most
    return ", ".join(map(str, names[:at_most])) + (f" and {more} more" if more > 0 else "")
