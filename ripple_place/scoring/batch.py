"""Batch sizes as they are written: one, or a schedule of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.units import parse_count

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse_batch(text: str) -> tuple[int, ...]:
    """Return the batch sizes of a schedule such as ``4,2,1``.

    Raises
    ------
    UsageError
        If it is none.

    Examples
    --------
    >>> parse_batch("4,2,1")
    (4, 2, 1)
    """
    batch = tuple(parse_count(part) or 0 for part in text.split(","))
    check_batch(batch, text)
    return batch


def check_batch(batch: Sequence[int], text: str | None = None) -> None:
    """Check batch sizes; `text`: as they were written.

    Raises
    ------
    UsageError
        If there is none, or one is below 1.
    """
    if not batch or min(batch) < 1:
        raise UsageError(
            f"--batch {','.join(map(str, batch)) if text is None else text}", found="no batch size",
            expected="a number of sequences of at least 1, or several with commas", remedy="write 4, or 4,2,1",
        )  # fmt: skip
