"""The picture of a layer in the pipeline: texts that say what it shows, and boxes inside the frame."""

from __future__ import annotations

import re

from ripple_place.flash.pipeline.timeline import LayerTimeline, StageSpan
from ripple_place.pages.svg import NARROW, standalone
from ripple_place.pages.timeline_picture import timeline_picture
from tests.pages.parsing import texts

SPANS = [
    StageSpan("compute 1", "attention", -1, 0.0, 10.0), StageSpan("compute 2", "attention", -1, 0.0, 10.0),
    StageSpan("compute 1", "gate", 0, 10.0, 40.0), StageSpan("I/O", "gate read", 1, 10.0, 60.0),
    StageSpan("compute 10", "up/down", 0, 40.0, 80.0), StageSpan("compute 2", "gate", 1, 60.0, 60.5),
    StageSpan("NPU", "dense rows", -1, 10.0, 100.0),
]  # fmt: skip
TIMELINE = LayerTimeline(SPANS, 1, 100.0, 3.0)


def test_texts_say_what_is_shown() -> None:
    """Heading, times, threads in order, the stages that occur, and clusters counted from 1 where they fit."""
    shown = texts(standalone(timeline_picture(TIMELINE, "layers.<3>, token 7")))
    assert shown[:2] == ["layers.<3>, token 7", "100 us; 3 us of it nothing computes"]
    assert [text for text in shown if text.startswith("compute") or text in ("I/O", "NPU")] == [
        "compute 1", "compute 2", "compute 10", "I/O", "NPU",
    ]  # fmt: skip
    assert {"gate", "gate read", "up/down", "attention", "dense rows"} <= {*shown}
    assert not {"predict", "prefetch", "up/down read"} & {*shown}
    # Half a microsecond of cluster 2's gate has no room for its number.
    assert [text for text in shown if text in ("1", "2", "3")] == ["1", "1", "2"]
    assert [text for text in shown if re.fullmatch(r"0|[0-9]+ us", text)] == ["0", "20 us", "40 us", "60 us", "80 us",
                                                                              "100 us"]  # fmt: skip


def test_every_stage_has_a_box_inside_the_frame() -> None:
    """At any width; a box of a resident cluster has a ground beneath it."""
    for width in (440.0, float(NARROW)):
        drawing = standalone(timeline_picture(TIMELINE, "a", width))
        boxes = re.findall(r"M([\d.]+) [\d.]+h([\d.]+)v20h", drawing)
        assert len(boxes) == len(SPANS) + 2
        assert all(float(x) + float(length) <= width for x, length in boxes)


def test_colours_follow_the_page() -> None:
    """Where it is part of a page, colours are variables, so that a dark page has dark colours."""
    picture = timeline_picture(TIMELINE, "a")
    assert not re.search("#[0-9a-f]{6}", "".join(picture.elements))
    assert "var(" not in standalone(picture)


def test_an_empty_layer() -> None:
    """Nothing was active and nothing is computed: a row for the I/O thread, and an axis."""
    assert "I/O" in texts(standalone(timeline_picture(LayerTimeline([], 0, 0.0, 0.0), "a")))
