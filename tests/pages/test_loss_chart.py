"""Loss against flash time: where marks lie, what is joined, and that all of it is inside its frame."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from ripple_place.pages.loss_chart import LossPanel, loss_chart, nice_ticks
from ripple_place.pages.loss_points import LossPoint
from ripple_place.pages.svg import NARROW, WIDE, Picture, colour_of, standalone
from tests.pages.parsing import texts
from tests.pages.test_charts import curves

if TYPE_CHECKING:
    from collections.abc import Sequence


def point(layout: int, family: str, value: str, time_us: float, loss: float, error: float | None = None) -> LossPoint:
    """Return a point."""
    return LossPoint(layout, family, value, time_us, loss, error, family == "exact")


POINTS = [
    point(0, "exact", "", 5000.0, 0.0),
    point(0, "top-k", "20%", 3000.0, 0.001),
    point(0, "top-k", "5%", 1000.0, 0.1),
    point(1, "exact", "", 4000.0, 0.0),
    point(1, "top-k", "5%", 900.0, 0.1, 0.02),
]


def marks(picture: Picture, colour: str) -> list[tuple[float, float]]:
    """Return where the marks of a colour lie; those of the legend are at the left."""
    found = []
    for node in picture.elements:
        at = re.match(r'<path d="M([\d.]+) ([\d.]+)m', node)
        if at and colour in node:
            found.append((float(at[1]), float(at[2])))
    return found


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_panels_stand_side_by_side_where_there_is_room(width: float) -> None:
    """Below each other on a phone; whatever the width, everything lies inside."""
    panels = [LossPanel("KL", POINTS, is_log=True), LossPanel("rise", POINTS, is_log=False)]
    picture = loss_chart(panels, ["a", "b"], width)
    ElementTree.fromstring(standalone(picture))
    (log, line) = curves(picture)
    if width == WIDE:
        assert max(x for x, _ in log) < WIDE / 2 < min(x for x, _ in line)
    else:
        assert max(y for _, y in log) < min(y for _, y in line)
    places = [*log, *line, *marks(picture, colour_of(0)), *marks(picture, colour_of(1))]
    assert len(places) == 4 + 10
    assert all(0 < x < picture.width and 0 < y < picture.height for x, y in places)
    assert {"KL", "rise", "20%", "5%", "top-k", "exact: nothing dropped"} <= set(texts(standalone(picture)))


def test_a_logarithmic_axis_has_zero_below_it() -> None:
    """Equal ratios are equal distances; what loses nothing lies on a line of its own."""
    picture = loss_chart([LossPanel("KL", POINTS, is_log=True)], ["a", "b"], WIDE)
    exact, low, high = marks(picture, colour_of(0))
    assert high[1] < low[1] < exact[1]
    assert {"0", "0.001", "0.01", "0.1"} <= set(texts(standalone(picture)))
    assert (exact[0] - low[0]) == pytest.approx(low[0] - high[0], abs=0.2)


def test_only_rules_of_a_kind_and_layout_are_joined() -> None:
    """From fast to slow; one point is no line, and what is exact is no end of one."""
    picture = loss_chart([LossPanel("KL", POINTS, is_log=True)], ["a", "b"], WIDE)
    (curve,) = curves(picture)
    assert curve == sorted(curve)
    assert len(curve) == 2


@pytest.mark.parametrize(
    "points",
    [
        [point(0, "exact", "", 0.0, 0.0)],
        [point(0, "top-k", "5%", 10.0, 0.0)],
        [point(0, "top-k", "5%", 10.0, -0.01, 0.02), point(0, "top-k", "6%", 10.0, -0.01, 0.02)],
        [point(0, "top-k", "5%", 10.0, 1e-12), point(0, "top-k", "1%", 1.0, 10.0)],
    ],
)
@pytest.mark.parametrize("is_log", [False, True])
def test_odd_losses(points: Sequence[LossPoint], is_log: bool) -> None:
    """No time, no loss, a gain, twelve powers of ten: a picture all the same, with its marks inside."""
    picture = loss_chart([LossPanel("loss", points, is_log=is_log)], ["a"], NARROW)
    if is_log and points[0].loss < 0:
        return  # A divergence is never negative.
    assert all(0 < x < picture.width and 0 < y < picture.height for x, y in marks(picture, colour_of(0)))
    assert len(marks(picture, colour_of(0))) == len(points)


def test_error_bars_reach_a_standard_error_either_way() -> None:
    """On a line of their own colour, through the mark."""
    picture = loss_chart([LossPanel("rise", POINTS, is_log=False)], ["a", "b"], WIDE)
    (bar,) = [node for node in picture.elements if re.search(r'd="M[\d.]+ [\d.]+V[\d.]+M', node)]
    assert colour_of(1) in bar
    x, low, high = (float(number) for number in re.findall(r"[\d.]+", bar)[:3])
    at = marks(picture, colour_of(1))[-1]
    assert x == pytest.approx(at[0], abs=0.1)
    assert low - at[1] == pytest.approx(at[1] - high, abs=0.2)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (0.0, 1.0), (-0.3, 0.31), (0.0, 123456.0), (-2e-9, 0.0)])
def test_ticks_are_few_and_enclose_the_values(low: float, high: float) -> None:
    """At equal distances, at most six."""
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] <= low <= high <= ticks[-1]
    assert len({round((b - a) / (ticks[1] - ticks[0]), 6) for a, b in pairwise(ticks)}) == 1
