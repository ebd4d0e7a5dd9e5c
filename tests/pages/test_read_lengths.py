"""The picture of read lengths: its bins, and a file that stands alone."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ripple_place.pages.read_lengths import length_bins, read_length_picture
from ripple_place.pages.svg import standalone
from tests.pages.parsing import SVG, texts

if TYPE_CHECKING:
    from ripple_place.pages.report import Report


def test_standalone_picture_needs_nothing_else(report: Report) -> None:
    """No CSS variable is left, since README viewers have no style sheet; sizes are in the file."""
    drawing = standalone(read_length_picture(report.results, ["a", "b"]))
    assert "var(" not in drawing
    root = ElementTree.fromstring(drawing)
    assert float(root.attrib["width"]) == 744
    assert (root.find(f"{SVG}title") or root[0]).text == "Neurons read per token by the length of the read"
    assert {"1", "2", "3-4"} <= set(texts(drawing))


def test_bins_double() -> None:
    """The last bin holds the longest read, whole."""
    assert length_bins(1) == [(1, 1)]
    assert length_bins(5)[-1] == (5, 8)
