"""A picture of systems: the flash time of a token by each, median and 99th percentile, on a logarithmic axis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ripple_place.flash.results import percentiles_us
from ripple_place.pages.label_places import CHARACTER_WIDTH
from ripple_place.pages.svg import WIDE, Picture, colour_of, element, label, standalone
from ripple_place.printable import one_line
from ripple_place.tensorfile import replacing
from ripple_place.units import format_bytes, format_time_us

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.scoring.system_result import SystemResult
    from ripple_place.scoring.systems import SystemScores

_ROW_HEIGHT, _LINE_HEIGHT, _TOP, _AXIS_HEIGHT = 44.0, 16.0, 46.0, 26.0
_LEFT, _RIGHT = 8.0, 24.0
_LEAST_US = 0.1
"""A token that reads nothing stands here, at the left end."""
_NAME_WIDTH, _TIMES_WIDTH = 7.5, CHARACTER_WIDTH
"""Of a character: names are of 12 and bold, times of 11."""
_LEAST_DECADE = 60.0
"""Between two labels of the axis."""


def write_systems_picture(path: Path, scores: SystemScores) -> None:
    """Write the picture of systems as an SVG file; it appears whole or not at all.

    Raises
    ------
    OSError
        If storage refuses.
    """
    with replacing(path) as file:
        file.write(standalone(systems_picture(scores)).encode())


def systems_picture(scores: SystemScores, width: float = WIDE) -> Picture:
    """Draw a row for each system: its name, a line from the median to the 99th percentile, and both as numbers."""
    times = [_times_us(result) for result in scores.results]
    low, high = _decades(times)
    inner = width - _LEFT - _RIGHT

    def place(time_us: float) -> float:
        return _LEFT + inner * (math.log10(max(time_us, low)) - math.log10(low)) / (math.log10(high) - math.log10(low))

    texts = [_lines(result.system.name, pair, inner) for result, pair in zip(scores.results, times, strict=True)]
    heights = [_ROW_HEIGHT + _LINE_HEIGHT * (len(lines) - 1) for lines in texts]
    bottom = _TOP + sum(heights)
    elements = [
        label(_LEFT, 16, "Flash time of a token", size=14, font_weight="600"),
        label(
            _LEFT, 34, f"median to 99th percentile; {format_bytes(scores.budget_bytes)} in DRAM each", size=12,
            fill="var(--muted)",
        ),
    ]  # fmt: skip
    elements += _grid(low, high, inner, bottom)
    top = _TOP
    for position, (lines, height, (median_us, late_us)) in enumerate(zip(texts, heights, times, strict=True)):
        y, colour = top + height - 14, colour_of(position)
        for line, (name, written) in enumerate(lines):
            base = top + 16 + _LINE_HEIGHT * line
            if name:
                elements.append(label(_LEFT, base, name, size=12, font_weight="600"))
            if written:
                elements.append(
                    label(width - _RIGHT, base, written, size=11, fill="var(--muted)", text_anchor="end")
                )  # fmt: skip
        elements += [
            element("line", x1=place(median_us), y1=y, x2=place(late_us), y2=y, stroke=colour, stroke_width=4),
            element("circle", cx=place(median_us), cy=y, r=6, fill=colour),
        ]
        top += height
    return Picture(width, bottom + _AXIS_HEIGHT, "Flash time of a token by system", tuple(elements))


def _grid(low: float, high: float, inner: float, bottom: float) -> list[str]:
    """Return a line at each power of ten, with labels at as many of them as have room."""
    n_decades = round(math.log10(high / low))
    every = max(1, math.ceil(_LEAST_DECADE * n_decades / inner))
    elements = []
    for power in range(n_decades + 1):
        x = _LEFT + inner * power / n_decades
        elements.append(element("line", x1=x, y1=_TOP, x2=x, y2=bottom, stroke="var(--grid)"))
        if power % every == 0:
            anchor = "start" if power == 0 else "end" if power == n_decades else "middle"
            text = format_time_us(low * 10.0**power)
            elements.append(label(x, bottom + 16, text, size=11, fill="var(--muted)", text_anchor=anchor))
    return elements


def _lines(name: str, times_us: tuple[float, float], inner: float) -> list[tuple[str, str]]:
    """Return the lines above a mark: name and times side by side where they fit, else the times below the name."""
    times = f"{format_time_us(times_us[0])}, p99 {format_time_us(times_us[1])}"
    name = one_line(name)
    if len(name) * _NAME_WIDTH + (len(times) + 1) * _TIMES_WIDTH <= inner:
        return [(name, times)]
    most = int(inner / _NAME_WIDTH)
    return [*((name[at : at + most], "") for at in range(0, len(name), most)), ("", times)]


def _times_us(result: SystemResult) -> tuple[float, float]:
    median_us, _, late_us = percentiles_us(result.result.token_us)
    return median_us, late_us


def _decades(times: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the powers of ten around all times, at least one apart."""
    known = [max(time, _LEAST_US) for pair in times for time in pair]
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    return 10.0**low, 10.0 ** max(high, low + 1)
