"""The picture of systems: well-formed, a row for each, and no text over another or outside, however long names are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest

from ripple_place.flash.results import LayoutResult
from ripple_place.pages.svg import NARROW, WIDE, Picture, standalone
from ripple_place.pages.systems_picture import systems_picture, write_systems_picture

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.scoring.systems import SystemScores

SVG = "{http://www.w3.org/2000/svg}"
LONG = "llm-in-a-flash,uses=flash-aware;price=3e-06;sees=predictor,cache=mask-first-lfu,bundle-form=gate-first"
NINE = ("llama.cpp", "llm-in-a-flash", "neuralink-s", "neuralink", LONG, "dip", "dip-ca,cache=lru", "a" * 40, "ours")


def scores_of(times_us: dict[str, list[float]]) -> SystemScores:
    """Return as much of the scores of systems as a picture shows: flash times of tokens."""
    results = tuple(
        SimpleNamespace(
            system=SimpleNamespace(name=name), result=LayoutResult(name, len(token_us), {}, np.array(token_us))
        )
        for name, token_us in times_us.items()
    )
    made: Any = SimpleNamespace(results=results, budget_bytes=2**30)
    return made  # type: ignore[no-any-return]


def boxes_of(picture: Picture) -> list[tuple[float, float, float, float, str]]:
    """Return what each text covers: left, right, top and bottom, and the text."""
    boxes = []
    for node in ElementTree.fromstring(standalone(picture)).iter(f"{SVG}text"):
        text, size = node.text or "", float(node.attrib["font-size"])
        width = len(text) * size * (0.6 if "font-weight" in node.attrib else 0.55)
        share = {"start": 0.0, "middle": 0.5, "end": 1.0}[node.attrib.get("text-anchor", "start")]
        left, y = float(node.attrib["x"]) - share * width, float(node.attrib["y"])
        boxes.append((left, left + width, y - 0.8 * size, y + 0.2 * size, text))
    return boxes


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("names", [("ours",), (LONG,), NINE])
@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_no_text_covers_another(width: float, names: tuple[str, ...], scale: float) -> None:
    """Nor leaves the picture; each name is there in full, and each row has its mark inside the frame."""
    rng = np.random.default_rng(0)
    times = {name: (scale ** (at / 8) * rng.random(50) * 1000).tolist() for at, name in enumerate(names)}
    picture = systems_picture(scores_of(times), width)
    boxes = boxes_of(picture)
    for at, (left, right, top, bottom, text) in enumerate(boxes):
        assert left >= 0, text
        assert right <= width, text
        assert bottom <= picture.height, text
        for other in boxes[at + 1 :]:
            apart = right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top
            assert apart, (text, other[4])
    shown = "".join(text for *_, text in boxes)
    assert all(name in shown for name in names)
    marks = list(ElementTree.fromstring(standalone(picture)).iter(f"{SVG}circle"))
    assert len(marks) == len(names)
    for mark in marks:
        x, y = float(mark.attrib["cx"]), float(mark.attrib["cy"])
        assert 0 <= x <= width
        assert not any(left < x + 6 and x - 6 < right and top < y + 6 and y - 6 < bottom
                       for left, right, top, bottom, _ in boxes)  # fmt: skip


def test_marks_lie_at_the_median_on_a_logarithmic_axis() -> None:
    """Ten times as long lies as far right as ten times that; the line ends at the 99th percentile."""
    picture = systems_picture(scores_of({"a": [10.0] * 3, "b": [100.0] * 3, "c": [1000.0] * 3, "d": [10.0, 1000.0]}))
    root = ElementTree.fromstring(standalone(picture))
    xs = [float(mark.attrib["cx"]) for mark in root.iter(f"{SVG}circle")]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.05)
    assert xs[0] < xs[1]
    lines = [line.attrib for line in root.iter(f"{SVG}line") if "stroke-width" in line.attrib]
    assert float(lines[0]["x1"]) == float(lines[0]["x2"]) == xs[0]
    assert float(lines[3]["x1"]) < float(lines[3]["x2"]) < xs[2]


def test_tokens_that_read_nothing(tmp_path: Path) -> None:
    """Everything in DRAM takes no time: the mark stands at the left end, and the number says 0."""
    scores = scores_of({"all <in> DRAM & more": [0.0] * 4, "b": [50.0] * 4})
    write_systems_picture(tmp_path / "a.svg", scores)
    root = ElementTree.fromstring((tmp_path / "a.svg").read_text())
    texts = [node.text for node in root.iter(f"{SVG}text")]
    assert "all <in> DRAM & more" in texts
    assert "0 us, p99 0 us" in texts
    assert float(next(root.iter(f"{SVG}circle")).attrib["cx"]) == 8
    systems_picture(scores_of({"alone": [0.0]}))
