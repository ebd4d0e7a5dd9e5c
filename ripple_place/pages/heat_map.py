"""A heat map: how much more often than by chance the neurons of two stretches of slots fire together."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.pages.svg import HEAT, NARROW, Picture, boxes, element, label

if TYPE_CHECKING:
    from ripple_place.arrays import BoolArray, Float64Array

LEVELS = (0.5, 0.8, 1.25, 2.0, 4.0, 8.0)
"""Lifts at which the colour changes."""
NEUTRAL = 2
"""Colour of what fires together about as often as by chance."""


def heat_map(lift: Float64Array, title: str, width: float = NARROW) -> Picture:
    """Draw a lift matrix as a square.

    Parameters
    ----------
    lift : ndarray of shape (n_bins, n_bins), float64
        NaN is left blank.
    title : str
        Stands above it.
    width : float
    """
    n_bins = lift.shape[0]
    level = np.where(np.isnan(lift), -1, np.digitize(lift, LEVELS))
    paths = [
        # A little wider than a row, so that no seam shows between rows.
        element("path", d=_runs(level == place), stroke=f"var(--{colour})", stroke_width=1.04)
        for place, colour in [(-1, "ground"), *enumerate(HEAT)]
        if place != NEUTRAL and (level == place).any()
    ]
    square = element("rect", width=n_bins, height=n_bins, fill=f"var(--{HEAT[NEUTRAL]})")
    scale = f"{width / n_bins:.4f}"
    drawing = element(
        "g", square + "".join(paths), transform=f"translate(0 22) scale({scale})", shape_rendering="crispEdges"
    )
    return Picture(width, 22 + width, f"Co-activation of slots, {title}", (label(0, 14, title), drawing))


def heat_scale(width: float = NARROW) -> Picture:
    """Draw what the colours of `heat_map` mean."""
    texts = [f"< {LEVELS[0]:g}", *(f"{low:g}-{high:g}" for low, high in pairwise(LEVELS))]
    texts.append(f"> {LEVELS[-1]:g}")
    step = width / len(texts)
    elements = [label(0, 12, "times as often together as by chance", size=11, fill="var(--muted)")]
    for place, (colour, text) in enumerate(zip(HEAT, texts, strict=True)):
        elements += [
            boxes([(place * step, step)], 19, 10, fill=f"var(--{colour})"),
            label((place + 0.5) * step, 42, text, size=10, fill="var(--muted)", text_anchor="middle"),
        ]
    return Picture(width, 48, "Colours of the heat maps: lift", tuple(elements))


def _runs(cells: BoolArray) -> str:
    """Return a path of a line through each run of true cells in a row."""
    parts = []
    for row, line in enumerate(cells):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(np.int8)))
        parts += [
            f"M{first} {row}.5h{stop - first}"
            for first, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        ]
    return "".join(parts)
