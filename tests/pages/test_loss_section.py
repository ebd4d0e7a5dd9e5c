"""The page of a simulation with rules: its first section, and results told apart by layout and rule."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ripple_place.pages.loss_section import loss_section
from ripple_place.pages.report import SweepCurves
from ripple_place.pages.simulation_page import report_html
from tests.pages.conftest import RULES, by_rule
from tests.pages.parsing import Balanced

if TYPE_CHECKING:
    from ripple_place.pages.report import Report


def test_without_rules_there_is_no_section(report: Report) -> None:
    """Nor a word of loss, or of rules, on the page."""
    assert loss_section(report) is None
    page = report_html(report)
    assert "Loss against" not in page
    assert "sticky" not in page
    assert "<h3>" not in page


def test_the_page_is_balanced_and_names_layouts_and_rules(report_by_rule: Report) -> None:
    """A table a layout, a row a rule, with who could run it; speedups say what they are against."""
    page = report_html(report_by_rule)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == parser.loads == []
    assert "<b>&mixed" not in page
    assert page.index("Loss against flash time") < page.index("<h2>Scores")
    assert "<p>Speedup is against original, exact.</p>" in page
    for at, rule in enumerate(RULES):
        assert page.count(f'<tr><th scope="row">{rule}</th>') == 2
        assert page.count(f"<td>whoever knows rule {at}</td></tr>") == 2
    assert page.count("<h3>original</h3>") == page.count("<h3>&lt;b&gt;&amp;mixed</h3>") == 5
    for text in ("KL divergence, nats a token", "rise of NLL, nats a token"):
        assert page.count(f">{text}</text>") == 2
    assert "\n\n" not in page


def test_pictures_of_layouts_stay_about_layouts(report_by_rule: Report, report: Report) -> None:
    """The ladder and the token have one entry a layout, and say that rules are not in them."""
    page = report_html(report_by_rule)
    assert "Flash time per token, of all that fires;" in page
    assert "if all that fires is read." in page
    for title in ("Flash time per token as collapse and cache are added", "Reads of one token"):
        (start, plain) = (each.index(f"<title>{title}") for each in (page, report_html(report)))
        drawing, expected = (
            each[at:].partition("</svg>")[0] for each, at in ((page, start), (report_html(report), plain))
        )
        assert drawing == expected


def test_loss_is_predicted_where_no_model_ran(report_by_rule: Report) -> None:
    """One panel; without importance none, but the table."""
    layouts = [report_by_rule.results[0], report_by_rule.results[4]]
    predicted = replace(
        report_by_rule, results=[by_rule(one, at, is_measured=False) for one in layouts for at in range(4)]
    )
    page = report_html(predicted)
    assert "predicted to cost in loss" in page
    assert page.count(">predicted loss, nats a token</text>") == 2
    assert "KL divergence" not in page
    unknown = replace(
        report_by_rule,
        results=[by_rule(one, at, is_measured=False, has_importance=False) for one in layouts for at in range(4)],
    )
    section = loss_section(unknown)
    assert section is not None
    assert section.figure is None
    assert len(section.tables) == 2
    assert "<title>Loss" not in report_html(unknown)


def test_a_sweep_has_a_chart_a_layout(report_by_rule: Report) -> None:
    """Each with a curve a rule."""
    times = tuple((float(at + 1), 1.0) for at in range(8))
    page = report_html(replace(report_by_rule, sweep=SweepCurves("collapse", ("off", "auto"), times)))
    section = page[page.index("<h2>Flash time by collapse") :].partition("<h2>Where")[0]
    assert section.count("<h3>") == 2
    assert section.count("<polyline") == 2 * 2 * 4
    drawing = section[section.index("<svg") : section.index("</svg>") + 6]
    assert all(f">{rule}</text>" in drawing for rule in RULES)
