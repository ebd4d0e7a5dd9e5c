"""A picture of systems: the flash time of a token by each, median and 99th percentile, on a logarithmic axis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ripple_place.pages.svg import WIDE, Picture, colour_of, element, label, standalone
from ripple_place.tensorfile import replacing
from ripple_place.units import format_bytes, format_time_us

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.scoring.system_result import SystemResult
    from ripple_place.scoring.systems import SystemScores

_ROW_HEIGHT, _TOP, _AXIS_HEIGHT = 44.0, 46.0, 26.0
_LEFT, _RIGHT = 8.0, 24.0
_LEAST_US = 0.1
"""A token that reads nothing stands here, at the left end."""


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

    bottom = _TOP + _ROW_HEIGHT * len(times)
    elements = [
        label(_LEFT, 16, "Flash time of a token", size=14, font_weight="600"),
        label(
            _LEFT, 34, f"median to 99th percentile; {format_bytes(scores.budget_bytes)} in DRAM each", size=12,
            fill="var(--muted)",
        ),
    ]  # fmt: skip
    decade = low
    while decade <= high * 1.001:
        x = place(decade)
        elements.append(element("line", x1=x, y1=_TOP, x2=x, y2=bottom, stroke="var(--grid)"))
        anchor = "start" if decade == low else "end" if decade * 10 > high * 1.001 else "middle"
        elements.append(
            label(x, bottom + 16, format_time_us(decade), size=11, fill="var(--muted)", text_anchor=anchor)
        )  # fmt: skip
        decade *= 10
    for position, (result, (median_us, late_us)) in enumerate(zip(scores.results, times, strict=True)):
        top = _TOP + _ROW_HEIGHT * position
        y, colour = top + 30, colour_of(position)
        text = f"{format_time_us(median_us)}, p99 {format_time_us(late_us)}"
        elements += [
            label(_LEFT, top + 16, result.system.name, size=12, font_weight="600"),
            label(width - _RIGHT, top + 16, text, size=11, fill="var(--muted)", text_anchor="end"),
            element("line", x1=place(median_us), y1=y, x2=place(late_us), y2=y, stroke=colour, stroke_width=4),
            element("circle", cx=place(median_us), cy=y, r=6, fill=colour),
        ]
    return Picture(width, bottom + _AXIS_HEIGHT, "Flash time of a token by system", tuple(elements))


def _times_us(result: SystemResult) -> tuple[float, float]:
    percentiles = result.result.to_json()["flash_time_us_percentiles"]
    return percentiles["50"], percentiles["99"]


def _decades(times: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the powers of ten around all times, at least one apart."""
    known = [max(time, _LEAST_US) for pair in times for time in pair]
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    return 10.0**low, 10.0 ** max(high, low + 1)
