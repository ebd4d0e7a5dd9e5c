"""Foreign text, such as names out of files and paths, made safe to show on a terminal, in a page or in a message."""

from __future__ import annotations

from contextlib import suppress

MAX_NAME_CHARACTERS = 200
"""What a cell of a table shows of a name."""
_MAX_CHARACTERS = 4000


def printable(text: str, *, keep: str = "") -> str:
    """Return text in which whatever is not printed as it is written stands as an escape.

    Escaped are controls (line ends, terminal sequences, C1), characters without a width or that turn the direction of
    writing, code points that Unicode has not assigned, and lone surrogates. A file name that is not in the encoding of
    the locale reaches Python as text with surrogates: it is read as UTF-8, and the bytes that are not are escaped.

    Parameters
    ----------
    text : str
    keep : str
        Characters that stay as they are.

    Examples
    --------
    >>> print(printable("a" + chr(27) + "[31m" + chr(10) + chr(0x202E) + chr(0xD800)))
    a\\x1b[31m\\n\\u202e\\ud800
    >>> print(printable(b"caf\\xc3\\xa9 \\xff".decode("ascii", "surrogateescape")))
    café \\xff
    """
    if not text.isascii():
        with suppress(UnicodeEncodeError):  # Surrogates that stand for no bytes of a file name.
            text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape", "surrogatepass").decode()
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
