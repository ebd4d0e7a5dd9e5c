"""Pictures of a simulation: where one token's reads fall in each layout, and how long reads are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.pages.svg import SERIES, Picture, boxes, element, label, round_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from ripple_place.flash.results import LayoutResult
    from ripple_place.flash.token_reads import TokenReads

WIDE, NARROW = 720, 340
"""Widths that pictures are drawn for: a page, and a phone of 360 pixels."""

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
        colour = f"var(--{SERIES[position % len(SERIES)]})"
        n_read = int((reads.last_slot - reads.first_slot + 1).sum())
        n_hits = int(reads.is_hit.sum())
        counts = f"{_plural(reads.first_slot.size, 'read')} of {_plural(n_read, 'neuron')}; {reads.slots.size} active"
        y += 20
        elements.append(label(0, y, reads.layout, size=14, font_weight=600, fill=colour))
        y += 17
        elements.append(label(0, y, counts + (f", {n_hits} in DRAM" if n_hits else "")))
        y += 8
        # A power of two, so that rows begin with slots that are easy to place.
        row_slots = 1 << max(6, math.ceil(math.log2(reads.n_slots / _MAX_ROWS)))
        slot_width = (width - _SLOT_LABEL_WIDTH) / row_slots
        for row in range(math.ceil(reads.n_slots / row_slots)):
            start, stop = row * row_slots, min((row + 1) * row_slots, reads.n_slots)
            is_here = (reads.slots >= start) & (reads.slots < stop)
            track = [(float(_SLOT_LABEL_WIDTH), (stop - start) * slot_width)]
            missed = _spans(reads.slots[is_here & ~reads.is_hit], start, slot_width)
            resident = _spans(reads.slots[is_here & reads.is_hit], start, slot_width)
            bars = [
                _span(max(first, start), min(last, stop - 1), start, slot_width)
                for first, last in zip(reads.first_slot.tolist(), reads.last_slot.tolist(), strict=True)
                if first < stop and last >= start
            ]
            elements += [
                label(_SLOT_LABEL_WIDTH - 6, y + 9, str(start), size=10, fill="var(--muted)", text_anchor="end"),
                boxes(track, y, _TICK_HEIGHT, fill="var(--track)"),
                boxes(resident, y, _TICK_HEIGHT, fill="var(--muted)", fill_opacity=0.45),
                boxes(missed, y, _TICK_HEIGHT, fill="var(--ink)"),
                boxes(bars, y + _TICK_HEIGHT + 1, _READ_HEIGHT, fill=colour),
            ]
            y += _ROW_HEIGHT
        y += 4
    title = "; ".join(f"{reads.layout}: {_plural(reads.first_slot.size, 'read')}" for reads in layouts)
    return Picture(width, y, f"Reads of one token. {title}", tuple(filter(None, elements)))


@dataclass(frozen=True, eq=False)
class ReadLengths:
    """The reads of one layout.

    Attributes
    ----------
    name : str
    counts : ndarray of shape (n_neurons + 1,), int64
        How many reads have each length, in neurons.
    n_tokens : int
    """

    name: str
    counts: npt.NDArray[np.int64]
    n_tokens: int

    @property
    def longest(self) -> int:
        """Length of the longest read; 0 without reads."""
        return max((length for length, count in enumerate(self.counts.tolist()) if count), default=0)

    @property
    def mean(self) -> float:
        """Mean length of a read; 0 without reads."""
        return self.neurons(0, self.counts.size) / max(1, int(self.counts.sum()))

    def neurons(self, first: int, last: int) -> float:
        """Return the neurons in reads of `first` to `last` neurons."""
        counts = self.counts[first : last + 1]
        return float(sum(length * count for length, count in enumerate(counts.tolist(), first)))


def read_length_picture(results: Sequence[LayoutResult], width: float = WIDE) -> Picture:
    """Draw how many neurons a token gets in reads of each length, per layout, in bins that double.

    Parameters
    ----------
    results : sequence of LayoutResult
    width : float
        As for `token_picture`.
    """
    layouts = [ReadLengths(result.name, result.totals.read_length_counts, result.n_tokens) for result in results]
    return length_picture(layouts, width)


def length_picture(layouts: Sequence[ReadLengths], width: float = WIDE) -> Picture:
    """Draw the same from the counts."""
    longest = max((reads.longest for reads in layouts), default=0)
    bins = length_bins(max(1, longest))
    heights = [[reads.neurons(*span) / reads.n_tokens for span in bins] for reads in layouts]
    top = round_up(max((max(row) for row in heights), default=0.0))
    elements: list[str] = []
    y = 4.0
    for position, reads in enumerate(layouts):
        y += 18
        colour = f"var(--{SERIES[position % len(SERIES)]})"
        elements += [
            boxes([(0.0, 11.0)], y - 10, 11, fill=colour),
            label(17, y, f"{reads.name}: mean {reads.mean:.2f}, longest {reads.longest}"),
        ]
    left, plot_height = 44.0, 190.0
    y += 26
    elements.append(label(0, y, "neurons read per token", fill="var(--muted)"))
    y += 10
    bottom = y + plot_height
    for step in range(5):
        line_y = bottom - plot_height * step / 4
        elements += [
            element("path", d=f"M{left:.0f} {line_y:.1f}H{width:.0f}", stroke="var(--grid)", stroke_width=1),
            label(left - 6, line_y + 4, f"{top * step / 4:g}", size=11, fill="var(--muted)", text_anchor="end"),
        ]
    bin_width = (width - left) / len(bins)
    bar_width = bin_width * 0.8 / max(1, len(layouts))
    every = math.ceil(len(bins) * 46 / (width - left))  # a label needs about 46 pixels
    for position, row in enumerate(heights):
        bars = [
            (left + bin_width * (index + 0.1) + bar_width * position, max(1.0, plot_height * value / top))
            for index, value in enumerate(row)
            if value > 0
        ]
        colour = f"var(--{SERIES[position % len(SERIES)]})"
        elements += [boxes([(x, bar_width)], bottom - height, height, fill=colour) for x, height in bars]
    for index, (first, last) in enumerate(bins):
        if index % every == 0:
            middle = left + bin_width * (index + 0.5)
            text = _thousands(first) if first == last else f"{_thousands(first)}-{_thousands(last)}"
            elements.append(label(middle, bottom + 16, text, size=11, fill="var(--muted)", text_anchor="middle"))
    elements.append(
        label(
            (left + width) / 2,
            bottom + 35,
            "length of the read they come in, in neurons",
            fill="var(--muted)",
            text_anchor="middle",
        )
    )
    return Picture(width, bottom + 42, "Neurons read per token by the length of the read", tuple(elements))


def length_bins(longest: int) -> list[tuple[int, int]]:
    """Return the bins 1, 2, 3-4, 5-8, ... that hold lengths up to `longest`.

    >>> length_bins(6)
    [(1, 1), (2, 2), (3, 4), (5, 8)]
    """
    bins = [(1, 1)]
    while bins[-1][1] < longest:
        bins.append((bins[-1][1] + 1, 2 * bins[-1][1]))
    return bins


def _thousands(length: int) -> str:
    """Return a bin's border, short enough for a label: 1025 to 2048 reads as 1k-2k."""
    return str(length) if length < 1024 else f"{length // 1024}k"


def _legend(has_resident: bool, width: float) -> tuple[list[str], float]:
    """Return what the marks mean, and where the picture goes on."""
    marks = [("active, read", "var(--ink)", 1.0), ("a read", f"var(--{SERIES[0]})", 1.0)]
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


def _spans(slots: npt.NDArray[np.int32], start: int, slot_width: float) -> list[tuple[float, float]]:
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
