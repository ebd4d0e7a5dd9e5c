"""Pictures and the report: well-formed, self-contained, and showing the numbers that were simulated."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest

from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.pages.read_lengths import length_bins, read_length_picture
from ripple_place.pages.simulation_page import Report, make_report, report_html
from ripple_place.pages.svg import NARROW, boxes, label, standalone
from ripple_place.pages.token_picture import token_picture
from tests.flash.builders import block_trace, layout_of, trace_of

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def report(device: DeviceProfile) -> Report:
    """Return a report on two layouts of two blocks, one of them with a name that HTML must escape."""
    rng = np.random.default_rng(4)
    trace = trace_of({f"layers.{layer}": block_trace(rng.random((11, 300)) < 0.2) for layer in range(2)}, 11)
    layouts = [
        layout_of({name: list(range(300)) for name in trace.blocks}, name="original"),
        layout_of({name: rng.permutation(300).tolist() for name in trace.blocks}, name="<b>&mixed"),
    ]
    params = SimulationParams(cache="lru", capacity_neurons={"layers.0": 40, "layers.1": 40}, gap=1)
    results = [simulate(trace, layout, device, params) for layout in layouts]
    return make_report(
        trace, layouts, results, device, params, traces=["a.trace"], command="simulate a.trace --layout <b>",
        warnings=["11 tokens"],
    )  # fmt: skip


def texts(svg: str) -> list[str]:
    """Return the texts of an SVG file, which must be well-formed."""
    return [node.text or "" for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_token_picture_tells_the_counts(report: Report) -> None:
    """Names and counts are text in the picture, for those who search, copy or listen."""
    shown = texts(standalone(token_picture(report.token_reads)))
    assert "<b>&mixed" in shown
    for reads in report.token_reads:
        n_read = int((reads.last_slot - reads.first_slot + 1).sum())
        counts = f"{reads.first_slot.size} reads of {n_read} neurons; {reads.slots.size} active"
        assert any(text.startswith(counts) for text in shown)


def test_token_picture_draws_every_read(report: Report) -> None:
    """One bar a read, two where it runs on into the next row; ticks and bars stay inside the picture."""
    for width in (720.0, float(NARROW)):
        drawing = standalone(token_picture(report.token_reads[:1], width))
        bars = re.findall(r"M([\d.]+) [\d.]+h([\d.]+)v5h", drawing)
        n_reads = report.token_reads[0].first_slot.size
        assert n_reads <= len(bars) <= n_reads + 8
        assert all(float(x) + float(length) <= width + 0.8 for x, length in bars)


def test_standalone_picture_needs_nothing_else(report: Report) -> None:
    """No CSS variable is left, since README viewers have no style sheet; sizes are in the file."""
    drawing = standalone(read_length_picture(report.results))
    assert "var(" not in drawing
    root = ElementTree.fromstring(drawing)
    assert float(root.attrib["width"]) == 744
    assert (root.find(f"{SVG}title") or root[0]).text == "Neurons read per token by the length of the read"
    assert {"1", "2", "3-4"} <= set(texts(drawing))


def test_pictures_of_nothing(device: DeviceProfile) -> None:
    """A block that never fires is drawn as an empty strip and an empty chart, without an error."""
    trace = trace_of({"layers.0": block_trace(np.zeros((2, 5)))}, 2)
    layout = layout_of({"layers.0": [0, 1, 2, 3, 4]})
    result = simulate(trace, layout, device)
    report = make_report(trace, [layout], [result], device, SimulationParams(), traces=["t"], command="c")
    assert "0 reads of 0 neurons; 0 active" in texts(standalone(token_picture(report.token_reads)))
    assert "longest 0" in standalone(read_length_picture([result]))
    assert "<td>-</td>" in report_html(report)


class Balanced(HTMLParser):
    """Checks that tags are closed in order, and collects what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what is opened, and what it loads."""
        if tag != "meta":
            self.open.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        """Fail if something else was opened last."""
        assert self.open.pop() == tag


def test_page_is_self_contained_and_balanced(report: Report) -> None:
    """The page loads nothing, closes every tag, escapes names, and follows light and dark."""
    page = report_html(report)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == parser.loads == []
    assert "<b>&mixed" not in page
    assert "url(" not in page
    assert "prefers-color-scheme:dark" in page
    assert "simulate a.trace --layout &lt;b&gt;" in page


def test_page_shows_scores_assumptions_and_warnings(report: Report) -> None:
    """What a reader needs to judge the numbers stands on the page itself."""
    page = report_html(report)
    scores = report.results[1].to_json(report.baseline)
    assert f"<td>{scores['reads_per_token']:.1f}</td>" in page
    assert f"<td>{scores['speedup']:.3g}x</td>" in page
    for text in ("11 tokens", "DRAM cache: lru, 320 KiB in all", "Gaps of up to 1 unwanted", "remembered: made up"):
        assert text in page
    assert page.count('class="warning"') == 1
    estimate = replace(report, device=replace(report.device, estimated=True))
    assert "Device linear is an estimate" in report_html(estimate)


def test_routed_blocks_name_the_token_not_the_row(device: DeviceProfile) -> None:
    """An expert's row 0 is token 3 of the trace: the page must say 3."""
    trace = trace_of({"layers.0.experts.1": block_trace(np.array([[1, 0, 1]]), token_index=[3])}, 5)
    layout = layout_of({"layers.0.experts.1": [0, 1, 2]})
    params = SimulationParams()
    report = make_report(trace, [layout], [simulate(trace, layout, device)], device, params, traces=["t"], command="c")
    assert (report.token, report.block) == (3, "layers.0.experts.1")


def test_helpers_by_hand() -> None:
    """Boxes of equal height are one path, no boxes are nothing, and texts are escaped."""
    assert boxes([(0.0, 2.0), (5.0, 0.5)], 1, 3, fill="red") == '<path d="M0 1h2v3h-2zM5 1h0.5v3h-0.5z" fill="red"/>'
    assert boxes([], 1, 3) == ""
    assert label(1, 2, "a<b", size=9) == '<text x="1" y="2" font-size="9" fill="var(--ink)">a&lt;b</text>'
    assert length_bins(1) == [(1, 1)]
    assert length_bins(5)[-1] == (5, 8)


def test_a_warning_is_shown_once(report: Report) -> None:
    """The device's own warning may be among those that the caller passes; a reader needs it once."""
    device = replace(report.device, estimated=True)
    assert device.warning is not None
    page = report_html(replace(report, device=device, warnings=[device.warning, "11 tokens"]))
    assert page.count('class="warning"') == 2
