"""The picture of one token: its counts as text, and every read drawn inside the frame."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ripple_place.pages.svg import NARROW, standalone
from ripple_place.pages.token_picture import token_picture
from tests.pages.parsing import texts

if TYPE_CHECKING:
    from ripple_place.pages.report import Report


def test_token_picture_tells_the_counts(report: Report) -> None:
    """Names and counts are text in the picture, for those who search, copy or listen."""
    shown = texts(standalone(token_picture(report.token_reads)))
    assert "<b>&mixed" in shown
    for reads in report.token_reads:
        n_read = int((reads.last_slot - reads.first_slot + 1).sum())
        counts = f"{reads.first_slot.size} reads of {n_read} neurons; {reads.slots.size} active"
        assert any(text.startswith(counts) for text in shown)


def test_token_picture_draws_every_read(report: Report) -> None:
    """One bar a read, two where it runs on into the next row; ticks and bars stay inside the picture."""
    for width in (720.0, float(NARROW)):
        drawing = standalone(token_picture(report.token_reads[:1], width))
        bars = re.findall(r"M([\d.]+) [\d.]+h([\d.]+)v5h", drawing)
        n_reads = report.token_reads[0].first_slot.size
        assert n_reads <= len(bars) <= n_reads + 8
        assert all(float(x) + float(length) <= width + 0.8 for x, length in bars)
