"""The page of a simulation: well-formed, self-contained, and showing the numbers that were simulated."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.hot_cold import SurvivingGain
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.pages.read_lengths import read_length_picture
from ripple_place.pages.report import Report, SweepCurves, make_report
from ripple_place.pages.simulation_page import report_html
from ripple_place.pages.svg import standalone
from ripple_place.pages.token_picture import token_picture
from ripple_place.units import format_time_us
from tests.flash.builders import block_trace, layout_of, trace_of
from tests.pages.parsing import Balanced, texts

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile


def test_pictures_of_nothing(device: DeviceProfile) -> None:
    """A block that never fires is drawn as an empty strip and an empty chart, without an error."""
    trace = trace_of({"layers.0": block_trace(np.zeros((2, 5)))}, 2)
    layout = layout_of({"layers.0": [0, 1, 2, 3, 4]})
    result = simulate(trace, layout, device)
    report = make_report(trace, [layout], [result], device, SimulationParams(), traces=["t"], command="c")
    assert "0 reads of 0 neurons; 0 active" in texts(standalone(token_picture(report.token_reads)))
    assert "longest 0" in standalone(read_length_picture([result], ["tested"]))
    assert "<td>-</td>" in report_html(report)


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


def test_page_shows_token_times_where_computing_was_timed(timed_report: Report, report: Report) -> None:
    """Speedups of flash time and of the token stand apart; without a time to compute there is one."""
    page = report_html(timed_report)
    scores = timed_report.results[1].to_json(timed_report.baseline)
    assert scores["token_speedup"] != scores["speedup"]
    for title, text in (
        ("Flash speedup", f"{scores['speedup']:.3g}x"),
        ("Token speedup", f"{scores['token_speedup']:.3g}x"),
        ("Token time, with computing", format_time_us(scores["token_time_us_per_token"])),
        ("99th percentile of token time", format_time_us(scores["token_time_us_percentiles"]["99"])),
        ("Computing per token", "200 us"),
    ):
        row = page[page.index(title) :].partition("</tr>")[0]
        assert f"<td>{text}</td>" in row
    assert ">Speedup<" not in page
    plain = report_html(report)
    assert ">Speedup<" in plain
    for title in ("Flash speedup", "Token speedup", "Token time", "Computing"):
        assert title not in plain


def test_a_warning_is_shown_once(report: Report) -> None:
    """The device's own warning may be among those that the caller passes; a reader needs it once."""
    device = replace(report.device, estimated=True)
    assert device.warning is not None
    page = report_html(replace(report, device=device, warnings=[device.warning, "11 tokens"]))
    assert page.count('class="warning"') == 2


def test_sections_that_a_report_lacks_are_left_out(report: Report) -> None:
    """A sweep and the gain beyond hot and cold stand on the page only where they were computed."""
    titles = ("Is co-activation worth anything beyond hot and cold?", "Flash time by a &lt; b")
    page = report_html(report)
    assert not any(title in page for title in titles)
    full = replace(
        report,
        surviving=[SurvivingGain("original", None, 1.5), SurvivingGain("<b>&mixed", 2.0, 1.5)],
        sweep=SweepCurves("a < b", ("1", "2"), ((2.0, 1.0), (3.0, 1.0))),
    )
    page = report_html(full)
    assert all(f"<h2>{title}</h2>" in page for title in titles)
    assert "<td>-</td><td>1.50x</td><td>-</td>" in page
    assert "<td>2.00x</td><td>1.50x</td><td>50%</td>" in page
    assert page.count("<title>Flash time per token by a &lt; b</title>") == 2
    assert "\n\n" not in page
