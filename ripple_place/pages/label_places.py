"""Where the texts beside the marks of a chart find room."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Point = tuple[float, float]
    Box = tuple[float, float, float, float]

CHARACTER_WIDTH = 6.2
"""Of a text of 11, in pixels."""
_HALF_MARK = 5.0
_PLACES = (
    (8, 4, 0.0),
    (-8, 4, 1.0),
    (6, -7, 0.0),
    (-6, -7, 1.0),
    (6, 15, 0.0),
    (-6, 15, 1.0),
    (0, -9, 0.5),
    (0, 17, 0.5),
)
"""Tried in this order: where a text's baseline lies from its mark, and which share of the text lies left of that."""


def place_labels(
    labels: Sequence[tuple[str, Point]], marks: Sequence[Point], lines: Sequence[Sequence[Point]], frame: Box
) -> list[tuple[str, Point]]:
    """Return the labels that fit, with the left end of their baselines.

    Parameters
    ----------
    labels : sequence of (text, (x, y))
        Each with the mark that it belongs to. Of labels that would overlap, the first is placed.
    marks : sequence of (x, y)
        That no label may cover.
    lines : sequence of sequence of (x, y)
        That labels do not cover unless they have no other room.
    frame : (left, right, top, bottom)
        In which labels lie.
    """
    taken = [(x - _HALF_MARK, x + _HALF_MARK, y - _HALF_MARK, y + _HALF_MARK) for x, y in marks]
    covered = [box for line in lines for ends in pairwise(line) for box in _along(*ends)]
    placed = []
    for text, (x, y) in labels:
        width = CHARACTER_WIDTH * len(text)
        starts = [(x + dx - width * share, y + dy) for dx, dy, share in _PLACES]
        fitting = [
            start for start in starts if _is_inside(_box(start, width), frame) and _is_free(_box(start, width), taken)
        ]
        clear = [start for start in fitting if _is_free(_box(start, width), covered)]
        if fitting:
            start = (clear or fitting)[0]
            taken.append(_box(start, width))
            placed.append((text, start))
    return placed


def _box(start: Point, width: float) -> Box:
    """Return what a text of 11 covers."""
    return start[0], start[0] + width, start[1] - 9, start[1] + 2


def _along(start: Point, end: Point) -> list[Box]:
    """Return small boxes along a line."""
    n = max(1, math.ceil(math.dist(start, end) / 4))
    at = [(start[0] + (end[0] - start[0]) * i / n, start[1] + (end[1] - start[1]) * i / n) for i in range(n + 1)]
    return [(x - 1, x + 1, y - 1, y + 1) for x, y in at]


def _is_inside(box: Box, frame: Box) -> bool:
    return box[0] >= frame[0] and box[1] <= frame[1] and box[2] >= frame[2] and box[3] <= frame[3]


def _is_free(box: Box, others: Sequence[Box]) -> bool:
    return not any(
        box[0] < other[1] and other[0] < box[1] and box[2] < other[3] and other[2] < box[3] for other in others
    )
