"""What charts have in common: a line for each layout above them, and the grid of a value axis that starts at 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.pages.svg import boxes, colour_of, element, label

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

N_STEPS = 4
"""Steps of an axis from 0 to its end."""


def legend(names: Sequence[str], y: float) -> tuple[list[str], float]:
    """Return a line for each layout with its colour, and where the drawing goes on."""
    elements = []
    for position, name in enumerate(names):
        y += 18
        elements += [boxes([(0.0, 11.0)], y - 10, 11, fill=colour_of(position)), label(17, y, name)]
    return elements, y


def value_grid(
    left: float, right: float, bottom: float, height: float, end: float, write: Callable[[float], str]
) -> list[str]:
    """Return a line across the plot at each step of the value axis, with its value beside it.

    Parameters
    ----------
    left, right, bottom, height : float
        Of the plot.
    end : float
        Value at its top.
    write : callable
        Text of a value.
    """
    elements = []
    for step in range(N_STEPS + 1):
        y = bottom - height * step / N_STEPS
        elements += [
            element("path", d=f"M{left:.0f} {y:.1f}H{right:.0f}", stroke="var(--grid)", stroke_width=1),
            label(left - 6, y + 4, write(end * step / N_STEPS), size=11, fill="var(--muted)", text_anchor="end"),
        ]
    return elements
