"""Charts: well-formed, inside their frame, and with their numbers as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest

from ripple_place.flash.ladder import Step
from ripple_place.flash.results import LayoutResult
from ripple_place.pages.charts import ladder_chart, latency_chart, line_chart
from ripple_place.pages.svg import NARROW, WIDE, Picture, standalone

if TYPE_CHECKING:
    from collections.abc import Sequence

SVG = "{http://www.w3.org/2000/svg}"


def curves(picture: Picture) -> list[list[tuple[float, float]]]:
    """Return the points of a picture's curves."""
    root = ElementTree.fromstring(standalone(picture))
    return [
        [(float(x), float(y)) for x, y in (point.split(",") for point in node.attrib["points"].split())]
        for node in root.iter(f"{SVG}polyline")
    ]


def texts(picture: Picture) -> list[str]:
    """Return the texts of a picture."""
    return [node.text or "" for node in ElementTree.fromstring(standalone(picture)).iter(f"{SVG}text")]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_the_ladder_shows_times_and_speedups(width: float) -> None:
    """Bars are as long as times, and say them; the first layout has no speedup over itself."""
    picture = ladder_chart([Step("single reads", (3000.0, 1500.0)), Step("+ cache", (1000.0, 0.0))], ["a", "b"], width)
    shown = texts(picture)
    assert {"3 ms", "1.5 ms  (2.00x)", "1 ms", "0 us"} <= set(shown)
    lengths = [float(length) for length in re.findall(r"M0 [\d.]+h([\d.]+)v13", "".join(picture.elements))]
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=0.02)
    assert max(lengths) < width


@pytest.mark.parametrize("token_us", [[5.0, 1.0, 3.0], [0.0, 0.0], [7.0]])
def test_latencies_rise_from_none_to_all(token_us: Sequence[float]) -> None:
    """A distribution never falls, stays in its frame, and ends at 100 %; also of equal times, or of one token."""
    result = LayoutResult("a", len(token_us), {}, np.array(token_us))
    picture = latency_chart([result], ["a"], WIDE)
    (curve,) = curves(picture)
    xs, ys = zip(*curve, strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True)
    assert all(0 <= x <= picture.width and 0 <= y <= picture.height for x, y in curve)
    assert "100%" in texts(picture)


def test_a_sweep_has_its_values_below_the_axis() -> None:
    """Values of an option have no scale: they stand at even distances, each under its point."""
    picture = line_chart(
        [[(0.0, 4.0), (1.0, 2.0), (2.0, 1.0)]], ["a"], WIDE, title="t", x_title="x", y_title="y",
        write_x=str, write_y=str, x_labels=("0%", "5%", "10%"),
    )  # fmt: skip
    assert {"0%", "5%", "10%"} <= set(texts(picture))
    (curve,) = curves(picture)
    assert curve[1][0] - curve[0][0] == pytest.approx(curve[2][0] - curve[1][0], abs=0.11)
