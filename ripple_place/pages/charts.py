"""Charts of a report: bars of the ladder of gains, and lines for latencies and sweeps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.pages.axes import N_STEPS, legend, value_grid
from ripple_place.pages.svg import Picture, boxes, colour_of, element, label, round_up
from ripple_place.units import format_time_us

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ripple_place.flash.ladder import Step
    from ripple_place.flash.results import LayoutResult

_LEFT, _RIGHT_MARGIN, _PLOT_HEIGHT = 52.0, 14, 200.0
_N_CURVE_POINTS = 101


def ladder_chart(steps: Sequence[Step], names: Sequence[str], width: float) -> Picture:
    """Draw the flash time of each layout at each step as bars, with the times written on them."""
    elements, y = legend(names, 4.0)
    longest = max((time for step in steps for time in step.flash_time_us), default=0.0) or 1.0
    y += 12
    for step in steps:
        y += 18
        elements.append(label(0, y, step.title, font_weight=600))
        y += 7
        for position, time_us in enumerate(step.flash_time_us):
            length = (width - 150) * time_us / longest
            speedup = f"  ({step.flash_time_us[0] / time_us:.2f}x)" if position and time_us else ""
            elements += [
                boxes([(0.0, max(1.0, length))], y, 13, fill=colour_of(position)),
                label(length + 6, y + 11, format_time_us(time_us) + speedup, size=11, fill="var(--muted)"),
            ]
            y += 17
    return Picture(width, y + 6, "Flash time per token as collapse and cache are added", tuple(filter(None, elements)))


def latency_chart(results: Sequence[LayoutResult], names: Sequence[str], width: float) -> Picture:
    """Draw, for each result, the share of tokens whose flash time is at most so long."""
    shares = np.linspace(0, 1, _N_CURVE_POINTS)
    curves = [
        list(zip(np.quantile(result.token_us, shares).tolist(), shares.tolist(), strict=True)) for result in results
    ]
    return line_chart(
        curves, names, width,
        title="Distribution of flash time over tokens", x_title="flash time of a token", y_title="share of tokens",
        write_x=format_time_us, write_y="{:.0%}".format,
    )  # fmt: skip


def line_chart(
    curves: Sequence[Sequence[tuple[float, float]]],
    names: Sequence[str],
    width: float,
    *,
    title: str,
    x_title: str,
    y_title: str,
    write_x: Callable[[float], str],
    write_y: Callable[[float], str],
    x_labels: Sequence[str] | None = None,
) -> Picture:
    """Draw curves over common axes that start at 0.

    Parameters
    ----------
    curves : sequence of sequence of (x, y)
        One a name; in order of x.
    names : sequence of str
    width : float
    title, x_title, y_title : str
    write_x, write_y : callable
        Text of a number at an axis.
    x_labels : sequence of str, optional
        What stands below x = 0, 1, 2, ... where x has no scale of its own.
    """
    elements, y = legend(names, 4.0)
    bottom, plot_width = y + 36 + _PLOT_HEIGHT, width - _LEFT - _RIGHT_MARGIN
    x_end = max((x for curve in curves for x, _ in curve), default=0.0)
    x_end = round_up(x_end) if x_labels is None else max(1.0, x_end)
    y_end = round_up(max((y for curve in curves for _, y in curve), default=0.0))
    ticks: list[tuple[float, str]] = (
        [(x_end * step / N_STEPS, write_x(x_end * step / N_STEPS)) for step in range(N_STEPS + 1)]
        if x_labels is None
        else list(enumerate(x_labels))
    )
    elements += [
        label(0, y + 26, y_title, fill="var(--muted)"),
        *value_grid(_LEFT, width, bottom, _PLOT_HEIGHT, y_end, write_y),
        *_tick_labels(ticks, x_end, width, bottom),
    ]
    for position, curve in enumerate(curves):
        points = " ".join(
            f"{_LEFT + plot_width * x / x_end:.1f},{bottom - _PLOT_HEIGHT * value / y_end:.1f}" for x, value in curve
        )
        elements.append(element("polyline", points=points, fill="none", stroke=colour_of(position), stroke_width=2))
    elements.append(label(_LEFT + plot_width / 2, bottom + 36, x_title, fill="var(--muted)", text_anchor="middle"))
    return Picture(width, bottom + 44, title, tuple(elements))


def _tick_labels(ticks: Sequence[tuple[float, str]], x_end: float, width: float, bottom: float) -> list[str]:
    """Return the texts below the axis of x, as many as there is room for."""
    plot_width = width - _LEFT - _RIGHT_MARGIN
    every = math.ceil(len(ticks) * 70 / plot_width)  # a label needs about 70 pixels
    elements = []
    for index, (x, text) in enumerate(ticks):
        if index % every == 0:
            is_last = index > 0 and index == len(ticks) - 1
            # The last may be longer than the margin that is left: it ends where the picture does.
            anchor, place = ("end", width) if is_last else ("middle", _LEFT + plot_width * x / x_end)
            elements.append(label(place, bottom + 16, text, size=11, fill="var(--muted)", text_anchor=anchor))
    return elements
