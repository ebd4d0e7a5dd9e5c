"""Tables of numbers in text, read as they stream: what the readers of routes in CSV share."""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.inputfile import open_stream
from ripple_place.trace.routes.routings import routes_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

    from ripple_place.arrays import Float64Array, Int64Array

_MAX_WHOLE = 2**53
"""Whole numbers below it are exact in float64."""


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file in UTF-8, with or without a mark at its beginning.

    Raises
    ------
    UsageError
        If it is no regular file.
    TraceFormatError
        Within the context, where the text is not UTF-8.
    OSError
        If it cannot be read.
    """
    with io.TextIOWrapper(open_stream(path), encoding="utf-8-sig") as text:
        try:
            yield text
        except UnicodeDecodeError as cause:
            raise routes_error(path, found=f"bytes that are not UTF-8 ({cause.reason})", expected="text") from cause


def read_table(where: object, text: TextIO, columns: tuple[str, ...], first: str = "") -> Float64Array:
    """Return the numbers of a CSV text from where it stands, one row a line; lines that begin with # are skipped.

    Parameters
    ----------
    where : object
        The source, for messages.
    text : text file
    columns : tuple of str
        What each line must have.
    first : str
        A line that was read before, with which the table begins; empty if there is none.

    Returns
    -------
    ndarray of shape (n_rows, n_columns), float64

    Raises
    ------
    TraceFormatError
        If a line has another number of fields, or a field is no number.

    Notes
    -----
    Numpy's reader: some ten million fields a second; 8 bytes a field.
    """

    def lines() -> Iterator[str]:
        if first:
            yield first
        yield from text

    expected = f"rows of {len(columns)} numbers: {', '.join(columns)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # An empty table is refused below.
            table: Float64Array = np.loadtxt(lines(), np.float64, delimiter=",", ndmin=2)
    except UnicodeDecodeError:
        raise
    except ValueError as cause:
        raise routes_error(where, found=str(cause), expected=expected) from cause
    if table.size == 0 or table.shape[1] != len(columns):
        found = "no row" if table.size == 0 else f"{table.shape[1]} columns"
        raise routes_error(where, found=found, expected=expected)
    return table


def whole_numbers(where: object, name: str, values: Float64Array) -> Int64Array:
    """Return a column as whole numbers.

    Raises
    ------
    TraceFormatError
        At the first that is negative, too large, or not whole.
    """
    bad = ~((values >= 0) & (values < _MAX_WHOLE) & (values == np.floor(values)))
    if bad.any():
        at = int(bad.argmax())
        raise routes_error(
            f"{where}: row {at + 1}", found=f"{name} {values[at]:g}", expected="a whole number from 0 on"
        )
    return values.astype(np.int64)
