"""Heat maps: every cell drawn once in its colour, blanks left blank, and a scale that names the borders."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

from ripple_place.pages.heat_map import LEVELS, heat_map, heat_scale
from ripple_place.pages.svg import HEAT, standalone

SVG = "{http://www.w3.org/2000/svg}"


def painted(lift: np.ndarray) -> np.ndarray:
    """Return what colour each cell has, as the paths say: a place in `HEAT`, or -1; each painted at most once."""
    drawing = "".join(heat_map(lift, "t").elements)
    cells = np.full(lift.shape, 2)
    seen = np.zeros(lift.shape, int)
    for path, colour in re.findall(r'<path d="([^"]*)" stroke="var\(--([a-z0-9-]+)\)"', drawing):
        for x, y, length in re.findall(r"M(\d+) (\d+)\.5h(\d+)", path):
            span = np.s_[int(y), int(x) : int(x) + int(length)]
            cells[span] = -1 if colour == "ground" else HEAT.index(colour)
            seen[span] += 1
    assert seen.max(initial=0) <= 1
    return cells


def test_cells_have_the_colour_of_their_level() -> None:
    """Against the borders, one by one; neutral cells are the ground square's, and NaN is blank."""
    rng = np.random.default_rng(0)
    lift = np.exp(rng.normal(0, 1.5, (9, 9)))
    lift[2, 3:5] = np.nan
    expected = sum((lift >= border).astype(int) for border in LEVELS)
    np.testing.assert_array_equal(painted(lift), np.where(np.isnan(lift), -1, expected))


def test_the_picture_is_well_formed_and_titled() -> None:
    """A file that parses, with the name as text, no taller than its square and title."""
    picture = heat_map(np.ones((4, 4)), "a < b & c", 100)
    root = ElementTree.fromstring(standalone(picture))
    assert [node.text for node in root.iter(f"{SVG}text")] == ["a < b & c"]
    assert (picture.width, picture.height) == (100, 122)


def test_the_scale_names_every_colour() -> None:
    """As many fields as colours, with the borders between them, inside the picture."""
    root = ElementTree.fromstring(standalone(heat_scale()))
    texts = [node.text for node in root.iter(f"{SVG}text")]
    assert texts[1:] == ["< 0.5", "0.5-0.8", "0.8-1.25", "1.25-2", "2-4", "4-8", "> 8"]
    assert len(texts) - 1 == len(HEAT)
