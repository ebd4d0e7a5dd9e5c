"""Loss against flash time: a curve for each kind of rule and layout, a mark for each rule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.pages.axes import legend
from ripple_place.pages.label_places import place_labels
from ripple_place.pages.svg import Picture, colour_of, element, label
from ripple_place.units import format_time_us

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ripple_place.pages.loss_points import LossPoint

    Curve = list[tuple[float, float]]

_LEFT, _RIGHT_MARGIN, _PLOT_HEIGHT, _ZERO_BAND = 52.0, 12.0, 220.0, 24.0
_PANEL_GAP = 28.0
_MIN_PANEL = 320.0
"""Panels that would be narrower stand below each other."""
_SHAPES = ("circle", "square", "triangle", "diamond", "down", "plus")
"""Marks of kinds of rules, by position; a seventh starts over."""


@dataclass(frozen=True)
class LossPanel:
    """One measure of loss.

    Attributes
    ----------
    title : str
        Above the axis.
    points : sequence of LossPoint
    is_log : bool
        Draw positive losses on a logarithmic axis, and losses of zero on a line of their own below it.
    """

    title: str
    points: Sequence[LossPoint]
    is_log: bool


@dataclass(frozen=True)
class _Axis:
    """Values to places between `start` and `end`, and values that are written at it."""

    place: Callable[[float], float]
    ticks: Sequence[float]


def loss_chart(panels: Sequence[LossPanel], layouts: Sequence[str], width: float) -> Picture:
    """Draw the loss of rules on layouts against their flash time.

    Parameters
    ----------
    panels : sequence of LossPanel
        Side by side, or below each other where there is no room.
    layouts : sequence of str
        Names, which have a colour each.
    width : float
    """
    elements, y = legend(layouts, 4.0)
    families = list(dict.fromkeys(p.family for panel in panels for p in panel.points if not p.is_exact))
    marks, y = _mark_legend(families, width, y)
    elements += marks
    n_columns = max(1, min(len(panels), int((width + _PANEL_GAP) // (_MIN_PANEL + _PANEL_GAP))))
    panel_width = (width - _PANEL_GAP * (n_columns - 1)) / n_columns
    height = _PLOT_HEIGHT + 84
    for place, panel in enumerate(panels):
        row, column = divmod(place, n_columns)
        left, top = column * (panel_width + _PANEL_GAP), y + 12 + row * height
        elements += _panel(panel, families, left, left + panel_width, top)
    bottom = y + 12 + height * math.ceil(len(panels) / n_columns)
    return Picture(width, bottom, "Loss against flash time per token", tuple(elements))


def nice_ticks(low: float, high: float, at_most: int = 5) -> list[float]:
    """Return round values at equal distances, the first not above `low` and the last not below `high`.

    >>> nice_ticks(0.0, 5.7), nice_ticks(-0.1, 0.3)
    ([0.0, 2.0, 4.0, 6.0], [-0.1, 0.0, 0.1, 0.2, 0.3])
    """
    span = max(high - low, 1e-300)
    power = 10.0 ** math.floor(math.log10(span / at_most))
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= at_most:
            break
    # Multiplied, 3 steps of 0.1 are 0.30000000000000004.
    return [float(f"{step * at:.12g}") for at in range(first, max(last, first + 1) + 1)]


def _mark_legend(families: Sequence[str], width: float, y: float) -> tuple[list[str], float]:
    """Return a line, or several, of the marks of rules, and where the drawing goes on."""
    elements, x = [], 0.0
    y += 20
    for text, mark in [
        *((family, _shape(families, family)) for family in families),
        ("exact: nothing dropped", "cross"),
    ]:
        length = 17 + 7 * len(text) + 16
        if x and x + length > width:
            x, y = 0.0, y + 18
        elements += [_mark(mark, x + 6, y - 4, "var(--muted)"), label(x + 17, y, text)]
        x += length
    return elements, y


def _panel(panel: LossPanel, families: Sequence[str], left: float, right: float, top: float) -> list[str]:
    """Return a panel whose title is at the top."""
    plot_left, plot_right, plot_top = left + _LEFT, right - _RIGHT_MARGIN, top + 24
    bottom = plot_top + _PLOT_HEIGHT
    time_ticks = nice_ticks(0.0, max((point.time_us for point in panel.points), default=1.0))
    at_x = _between(0.0, time_ticks[-1], plot_left, plot_right)
    is_log = panel.is_log and any(point.loss > 0 for point in panel.points)
    loss = _log_axis(panel.points, plot_top, bottom) if is_log else _line_axis(panel.points, plot_top, bottom)
    elements = [
        label(left, top + 10, panel.title, fill="var(--muted)"),
        *_loss_grid(loss, plot_left, right),
        *_time_labels(time_ticks, at_x, right, bottom),
        label(
            (plot_left + plot_right) / 2, bottom + 36, "flash time per token", fill="var(--muted)", text_anchor="middle"
        ),
    ]
    placed = [(at_x(point.time_us), loss.place(point.loss)) for point in panel.points]
    curves = _curves(panel.points, placed)
    values = [(p.value, at) for p, at in zip(panel.points, placed, strict=True) if p.value and not p.is_exact]
    zero = [(plot_left, loss.place(0.0)), (right, loss.place(0.0))]
    lines = [zero, *(curve for of_layout in curves.values() for curve in of_layout)]
    frame = (plot_left, right, plot_top - 10, bottom - 2)
    return [
        *elements,
        *(
            element(
                "polyline",
                points=" ".join(f"{x:.1f},{y:.1f}" for x, y in curve),
                fill="none",
                stroke=colour_of(layout),
                stroke_width=2,
            )
            for layout, of_layout in curves.items()
            for curve in of_layout
            if len(curve) > 1
        ),
        *_error_bars(panel.points, placed, loss),
        *(
            _mark("cross" if point.is_exact else _shape(families, point.family), x, y, colour_of(point.layout))
            for point, (x, y) in zip(panel.points, placed, strict=True)
        ),
        *(
            label(x, y, text, size=11, fill="var(--muted)")
            for text, (x, y) in place_labels(values, placed, lines, frame)
        ),
    ]


def _loss_grid(loss: _Axis, left: float, right: float) -> list[str]:
    """Return a line across the plot at each tick, with its value beside it."""
    elements = []
    for value in loss.ticks:
        y, stroke = loss.place(value), "var(--grid)" if value else "var(--muted)"
        elements += [
            element("path", d=f"M{left:.0f} {y:.1f}H{right:.0f}", stroke=stroke, stroke_width=1),
            label(left - 6, y + 4, f"{value:g}", size=11, fill="var(--muted)", text_anchor="end"),
        ]
    return elements


def _time_labels(ticks: Sequence[float], at_x: Callable[[float], float], right: float, bottom: float) -> list[str]:
    """Return the marks and the texts of the axis of time."""
    elements = []
    for value in ticks:
        # The last may be longer than the margin that is left: it ends where the panel does.
        anchor, place = ("end", right) if value == ticks[-1] else ("middle", at_x(value))
        elements += [
            element("path", d=f"M{at_x(value):.1f} {bottom:.1f}v4", stroke="var(--grid)", stroke_width=1),
            label(place, bottom + 17, format_time_us(value), size=11, fill="var(--muted)", text_anchor=anchor),
        ]
    return elements


def _between(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (end - start) * (value - low) / (high - low)


def _line_axis(points: Sequence[LossPoint], top: float, bottom: float) -> _Axis:
    """Return an axis that has room for zero and for the errors."""
    ends = [point.loss + sign * (point.error or 0.0) for point in points for sign in (-1, 1)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    ticks = nice_ticks(low, high or 1.0)
    # What loses nothing does not lie on the axis of time.
    start = low - 0.08 * (ticks[-1] - low)
    return _Axis(_between(start, ticks[-1], bottom, top), [tick for tick in ticks if tick >= start])


def _log_axis(points: Sequence[LossPoint], top: float, bottom: float) -> _Axis:
    """Return an axis of powers of ten, with zero on a line below."""
    losses = [point.loss for point in points if point.loss > 0]
    first, last = math.floor(math.log10(min(losses)) + 1e-9), math.ceil(math.log10(max(losses)) - 1e-9)
    last = max(last, first + 1)
    zero = bottom - _ZERO_BAND / 2
    to_y = _between(first, last, bottom - 2 * _ZERO_BAND, top)
    every = math.ceil((last - first) / 6)
    ticks = [0.0, *(10.0**power for power in range(first, last + 1, every))]
    return _Axis(lambda value: to_y(math.log10(value)) if value > 0 else zero, ticks)


def _curves(points: Sequence[LossPoint], placed: Sequence[tuple[float, float]]) -> dict[int, list[Curve]]:
    """Return, by layout, a curve through the rules of each kind, from left to right."""
    curves: dict[tuple[int, str], Curve] = {}
    for point, at in zip(points, placed, strict=True):
        if not point.is_exact:
            curves.setdefault((point.layout, point.family), []).append(at)
    by_layout: dict[int, list[Curve]] = {}
    for (layout, _), curve in curves.items():
        by_layout.setdefault(layout, []).append(sorted(curve))
    return by_layout


def _error_bars(points: Sequence[LossPoint], placed: Sequence[tuple[float, float]], loss: _Axis) -> list[str]:
    elements = []
    for point, (x, _) in zip(points, placed, strict=True):
        if point.error:
            ends = [loss.place(point.loss + sign * point.error) for sign in (-1, 1)]
            path = f"M{x:.1f} {ends[0]:.1f}V{ends[1]:.1f}" + "".join(f"M{x - 3:.1f} {y:.1f}h6" for y in ends)
            elements.append(element("path", d=path, stroke=colour_of(point.layout), stroke_width=1.5))
    return elements


def _shape(families: Sequence[str], family: str) -> str:
    return _SHAPES[families.index(family) % len(_SHAPES)]


def _mark(shape: str, x: float, y: float, colour: str) -> str:
    """Return a mark of about nine pixels, with a rim that sets it off from what lies below."""
    paths = {
        "circle": "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
        "square": "m-4 -4h8v8h-8z",
        "triangle": "m0 -5.5l5 9h-10z",
        "diamond": "m0 -5.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
        "down": "m0 5.5l5 -9h-10z",
        "plus": "m-1.6 -5h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4v-3.2h3.4z",
    }
    start = f"M{x:.1f} {y:.1f}"
    if shape == "cross":
        return element("path", d=f"{start}m-4.5 -4.5l9 9m0 -9l-9 9", stroke=colour, stroke_width=2.5)
    return element("path", d=start + paths[shape], fill=colour, stroke="var(--ground)", stroke_width=1)
