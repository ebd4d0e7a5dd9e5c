"""The lengths of reads: how many neurons come in reads of each length, as a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.pages.axes import legend, value_grid
from ripple_place.pages.svg import WIDE, Picture, boxes, colour_of, label, round_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.arrays import Int64Array
    from ripple_place.flash.results import LayoutResult

_LEFT, _PLOT_HEIGHT = 44.0, 190.0


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
    counts: Int64Array
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


def read_length_picture(results: Sequence[LayoutResult], names: Sequence[str], width: float = WIDE) -> Picture:
    """Draw how many neurons a token gets in reads of each length, per result, in bins that double.

    Parameters
    ----------
    results : sequence of LayoutResult
    names : sequence of str
        What tells them apart.
    width : float
        As for `token_picture`.
    """
    layouts = [
        ReadLengths(name, result.totals.read_length_counts, result.n_tokens)
        for name, result in zip(names, results, strict=True)
    ]
    return length_picture(layouts, width)


def length_picture(layouts: Sequence[ReadLengths], width: float = WIDE) -> Picture:
    """Draw the same picture from counts of reads."""
    bins = length_bins(max(1, max((reads.longest for reads in layouts), default=0)))
    heights = [[reads.neurons(*span) / reads.n_tokens for span in bins] for reads in layouts]
    top = round_up(max((max(row) for row in heights), default=0.0))
    names = [f"{reads.name}: mean {reads.mean:.2f}, longest {reads.longest}" for reads in layouts]
    elements, y = legend(names, 4.0)
    bottom = y + 36 + _PLOT_HEIGHT
    bin_width = (width - _LEFT) / len(bins)
    bar_width = bin_width * 0.8 / max(1, len(layouts))
    elements += [
        label(0, y + 26, "neurons read per token", fill="var(--muted)"),
        *value_grid(_LEFT, width, bottom, _PLOT_HEIGHT, top, "{:g}".format),
    ]
    for position, row in enumerate(heights):
        bars = [
            (_LEFT + bin_width * (index + 0.1) + bar_width * position, max(1.0, _PLOT_HEIGHT * value / top))
            for index, value in enumerate(row)
            if value > 0
        ]
        elements += [boxes([(x, bar_width)], bottom - height, height, fill=colour_of(position)) for x, height in bars]
    elements += _bin_labels(bins, bin_width, width, bottom)
    x_title = "length of the read they come in, in neurons"
    elements.append(label((_LEFT + width) / 2, bottom + 35, x_title, fill="var(--muted)", text_anchor="middle"))
    return Picture(width, bottom + 42, "Neurons read per token by the length of the read", tuple(elements))


def _bin_labels(bins: Sequence[tuple[int, int]], bin_width: float, width: float, bottom: float) -> list[str]:
    """Return the lengths below the bins, as many as there is room for."""
    every = math.ceil(len(bins) * 46 / (width - _LEFT))  # a label needs about 46 pixels
    elements = []
    for index in range(0, len(bins), every):
        first, last = bins[index]
        middle = _LEFT + bin_width * (index + 0.5)
        text = _thousands(first) if first == last else f"{_thousands(first)}-{_thousands(last)}"
        elements.append(label(middle, bottom + 16, text, size=11, fill="var(--muted)", text_anchor="middle"))
    return elements


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
