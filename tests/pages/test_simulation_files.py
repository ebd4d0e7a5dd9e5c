"""The files that `simulate` draws: whole or not at all, and what they are drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ripple_place.flash.pipeline.params import PipelineParams
from ripple_place.flash.token_time import ComputeParams
from ripple_place.pages.simulation_files import hot_cold, sweep_curves, write_page, write_picture, write_timeline
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.score import Scores, score
from ripple_place.scoring.sweep import Sweep, sweep_simulation
from tests.pages.parsing import texts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def scores(trace_path: Path) -> Scores:
    """Return checkpoint order of the pico model, without frequencies."""
    return score([trace_path], ["original"], SimulateParams(bundle_bytes=4096))


def test_hot_cold_order_needs_frequencies(trace_path: Path, profile_path: Path, scores: Scores) -> None:
    """Neurons by descending frequency, in the same places; None where nobody counted."""
    assert hot_cold(scores.layouts[0]) is None
    counted = score([trace_path], ["original"], SimulateParams(bundle_bytes=4096, profile=profile_path)).layouts[0]
    ordered = hot_cold(counted)
    assert ordered is not None
    for name, block in ordered.blocks.items():
        frequency = counted.blocks[name].placement.frequency
        assert frequency is not None
        assert sorted(frequency, reverse=True) == frequency[block.placement.order].tolist()
        assert block.extent == counted.blocks[name].extent


def test_curves_are_times_per_token(trace_path: Path) -> None:
    """One curve a layout, one point a value, as the document of the sweep has them."""
    report = sweep_simulation(
        [trace_path], ["original"], SimulateParams(bundle_bytes=4096), Sweep.parse("collapse=off,auto")
    )
    curves = sweep_curves(report)
    assert (curves.option, curves.values) == ("collapse", ("off", "auto"))
    points = report.to_json()["points"]
    assert [list(times) for times in curves.flash_time_us] == [
        [point["layouts"][0]["flash_time_us_per_token"] for point in points]
    ]


def test_files_are_written_by_either_kind_of_path(tmp_path: Path, scores: Scores) -> None:
    """Text and Path; the page says what made it, and has the curves where there was a sweep."""
    write_page(tmp_path / "a.html", scores, "<command>")
    write_page(str(tmp_path / "b.html"), scores, "<command>")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert "&lt;command&gt;" in (tmp_path / "a.html").read_text()
    write_picture(tmp_path / "a.svg", scores)
    write_picture(str(tmp_path / "b.svg"), scores)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.svg").read_text().startswith("<svg")


def test_the_timeline_is_of_the_median_token(tmp_path: Path, trace_path: Path) -> None:
    """And of the layer in the middle; with a rule, of all that fires."""
    compute = ComputeParams(0.0, "pipeline", pipeline=PipelineParams(attention_us=5.0))
    drawn = []
    for select in ((), ("exact",)):
        params = SimulateParams(bundle_bytes=4096, compute=compute, select=select)
        scores = score([trace_path], ["original"], params)
        write_timeline(tmp_path / f"{len(select)}.svg", scores)
        drawn.append((tmp_path / f"{len(select)}.svg").read_text())
    assert drawn[0] == drawn[1]
    times = scores.results[0].token_time
    assert times is not None
    token = int(texts(drawn[0])[0].split()[-1])
    assert (times.token_us < times.token_us[token]).sum() <= (times.token_us.size - 1) // 2
    assert (times.token_us > times.token_us[token]).sum() <= times.token_us.size // 2
    middle = list(scores.trace.blocks)[len(scores.trace.blocks) // 2]
    assert texts(drawn[0])[0].startswith(f"{middle}, token ")
