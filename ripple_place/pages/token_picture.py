"""The picture of one token: where its active neurons lie in each layout, and the reads that fetch them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ripple_place.pages.svg import WIDE, Picture, boxes, colour_of, label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.arrays import Int32Array
    from ripple_place.flash.token_reads import TokenReads

_MAX_ROWS = 8
_TICK_HEIGHT, _READ_HEIGHT, _ROW_HEIGHT = 9, 5, 20
_SLOT_LABEL_WIDTH = 36


def token_picture(layouts: Sequence[TokenReads], width: float = WIDE) -> Picture:
    """Draw one token's active neurons and reads in each layout.

    Parameters
    ----------
    layouts : sequence of TokenReads
        Of the same token and block.
    width : float
        In pixels at which a text of 12 is easily read.

    Returns
    -------
    Picture
        Per layout, the block's slots from left to right in a few rows; a tick for each active neuron (faint if it was
        in DRAM), and beneath it a bar for each read.
    """
    elements, y = _legend(any(reads.is_hit.any() for reads in layouts), width)
    for position, reads in enumerate(layouts):
        colour = colour_of(position)
        elements += [
            label(0, y + 20, reads.layout, size=14, font_weight=600, fill=colour),
            label(0, y + 37, _counts(reads)),
        ]
        y += 45
        # A power of two, so that rows begin with slots that are easy to place.
        row_slots = 1 << max(6, math.ceil(math.log2(reads.n_slots / _MAX_ROWS)))
        slot_width = (width - _SLOT_LABEL_WIDTH) / row_slots
        for start in range(0, reads.n_slots, row_slots):
            elements += _row(reads, start, min(start + row_slots, reads.n_slots), slot_width, y, colour)
            y += _ROW_HEIGHT
        y += 4
    title = "; ".join(f"{reads.layout}: {_plural(reads.first_slot.size, 'read')}" for reads in layouts)
    return Picture(width, y, f"Reads of one token. {title}", tuple(filter(None, elements)))


def _counts(reads: TokenReads) -> str:
    """Return a layout's counts in words."""
    n_read = int((reads.last_slot - reads.first_slot + 1).sum())
    n_hits = int(reads.is_hit.sum())
    counts = f"{_plural(reads.first_slot.size, 'read')} of {_plural(n_read, 'neuron')}; {reads.slots.size} active"
    return counts + (f", {n_hits} in DRAM" if n_hits else "")


def _row(reads: TokenReads, start: int, stop: int, slot_width: float, y: float, colour: str) -> list[str]:
    """Return the row of slots `start` to `stop`: its number, its track, ticks of neurons, and bars of reads."""
    is_here = (reads.slots >= start) & (reads.slots < stop)
    resident = _spans(reads.slots[is_here & reads.is_hit], start, slot_width)
    missed = _spans(reads.slots[is_here & ~reads.is_hit], start, slot_width)
    bars = [
        _span(max(first, start), min(last, stop - 1), start, slot_width)
        for first, last in zip(reads.first_slot.tolist(), reads.last_slot.tolist(), strict=True)
        if first < stop and last >= start
    ]
    track = [(float(_SLOT_LABEL_WIDTH), (stop - start) * slot_width)]
    return [
        label(_SLOT_LABEL_WIDTH - 6, y + 9, str(start), size=10, fill="var(--muted)", text_anchor="end"),
        boxes(track, y, _TICK_HEIGHT, fill="var(--track)"),
        boxes(resident, y, _TICK_HEIGHT, fill="var(--muted)", fill_opacity=0.45),
        boxes(missed, y, _TICK_HEIGHT, fill="var(--ink)"),
        boxes(bars, y + _TICK_HEIGHT + 1, _READ_HEIGHT, fill=colour),
    ]


def _legend(has_resident: bool, width: float) -> tuple[list[str], float]:
    """Return what the marks mean, and where the picture goes on."""
    marks = [("active, read", "var(--ink)", 1.0), ("a read", colour_of(0), 1.0)]
    if has_resident:
        marks.insert(1, ("active, in DRAM", "var(--muted)", 0.45))
    elements, x = [], 0.0
    for text, colour, opacity in marks:
        is_read = text == "a read"
        mark = boxes(
            [(x, 16.0 if is_read else 2.0)],
            6 if is_read else 2,
            _READ_HEIGHT if is_read else _TICK_HEIGHT,
            fill=colour,
            fill_opacity=opacity,
        )
        x += 21 if is_read else 7
        elements += [mark, label(x, 11, text, size=11, fill="var(--muted)")]
        x += 6.2 * len(text) + 14
    if width > 500:
        elements.append(
            label(width, 11, "slots from left to right, rows below each other", size=11, fill="var(--muted)",
                  text_anchor="end")
        )  # fmt: skip
    return elements, 14.0


def _span(first: int, last: int, start: int, slot_width: float) -> tuple[float, float]:
    """Return x and width of slots `first` to `last` in the row that begins with slot `start`; never invisible."""
    return _SLOT_LABEL_WIDTH + (first - start) * slot_width, max(0.7, (last - first + 1) * slot_width)


def _spans(slots: Int32Array, start: int, slot_width: float) -> list[tuple[float, float]]:
    """Return a span for each run of consecutive slots."""
    runs: list[list[int]] = []
    for slot in slots.tolist():
        if runs and runs[-1][1] == slot - 1:
            runs[-1][1] = slot
        else:
            runs.append([slot, slot])
    return [_span(first, last, start, slot_width) for first, last in runs]


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
