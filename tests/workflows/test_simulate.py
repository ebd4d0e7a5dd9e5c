"""`simulate` as a function does whatever the command does; scoring itself is tested in tests/scoring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ripple_place.errors import UsageError
from ripple_place.placing.params import PlacingParams
from ripple_place.scoring.extras import SimulateExtras
from ripple_place.scoring.measure import MeasureParams
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.score import score
from ripple_place.scoring.sweep import Sweep
from ripple_place.workflows.reorder import reorder
from ripple_place.workflows.simulate import simulate

SIZED = SimulateParams(bundle_bytes=4096)


@pytest.fixture
def greedy(tmp_path: Path, profile_path: Path) -> Path:
    """Return the greedy placement, with bundles of 4 KiB."""
    reorder(None, profile_path, tmp_path / "greedy", PlacingParams(ordering="greedy", bundle_bytes=4096))
    return tmp_path / "greedy"


def test_the_plain_report_is_the_scores(trace_path: Path, greedy: Path) -> None:
    """Without extras nothing is added, and nothing is written."""
    before = sorted(trace_path.parent.iterdir())
    report = simulate([trace_path], ["original", str(greedy)])
    assert report.to_json() == score([trace_path], ["original", str(greedy)]).to_json()
    assert report.baseline is report.results[0]
    assert (report.sweep, report.transfer, report.measured) == (None, None, None)
    assert sorted(trace_path.parent.iterdir()) == before


def test_all_that_the_command_does(tmp_path: Path, trace_path: Path, greedy: Path) -> None:
    """A sweep, the transfer matrix, fio's files, the page and the picture: in the report, and on disk."""
    extras = SimulateExtras(
        html=tmp_path / "page.html", svg=tmp_path / "reads.svg", command="made by hand",
        sweep=Sweep.parse("collapse=off,auto"), transfer=True,
        measure=MeasureParams(fio=tmp_path / "reads.iolog", n_tokens=4),
    )  # fmt: skip
    report = simulate([trace_path], ["original", str(greedy)], extras=extras)
    document, plain = report.to_json(), score([trace_path], ["original", str(greedy)]).to_json()
    assert list(document) == [*plain, "fio", "sweep", "transfer"]
    assert {key: document[key] for key in plain} == plain
    assert [point["value"] for point in document["sweep"]["points"]] == ["off", "auto"]
    assert document["transfer"]["traces"] == [trace_path.name]
    assert document["fio"] == [str(tmp_path / name) for name in ("reads.fio", "reads.iolog", "reads.2.iolog")]
    page = (tmp_path / "page.html").read_text()
    assert "made by hand" in page
    assert "Flash time by collapse" in page
    assert (tmp_path / "reads.svg").read_text().startswith("<svg")


def test_warnings_of_measuring_are_the_report_s(tmp_path: Path, trace_path: Path) -> None:
    """Those of the scores come first; the page, which is written before, has only these."""
    (tmp_path / "short").write_bytes(bytes(100_000))
    extras = SimulateExtras(measure=MeasureParams(tmp_path / "short", n_tokens=6, n_repeats=2))
    params = replace(SIZED, gap=0)
    report = simulate([trace_path], ["original"], params, extras=extras)
    assert report.measured is not None
    assert any("reads wrapped around" in warning for warning in report.measured.warnings)
    plain = score([trace_path], ["original"], params)
    assert report.warnings == (*plain.warnings, *report.measured.warnings)
    assert report.to_json()["warnings"] == list(report.warnings)
    assert "measured" in report.to_json()["layouts"][0]


@pytest.mark.parametrize(
    ("extras", "match"),
    [
        ({"html": "there"}, "there: found a file; expected a new name"),
        ({"svg": "there"}, "there: found a file; expected a new name"),
        ({"html": "absent/page.html"}, "found no directory to write it in"),
        ({"html": "input", "force": True}, "input: found another file of this command"),
        ({"html": "same", "svg": "same"}, "same: found another file of this command"),
        ({"measure": MeasureParams("absent")}, "--measure absent: found no file"),
        ({"measure": MeasureParams(fio="there.iolog")}, "there.iolog: found a file"),
        ({"sweep": Sweep.parse("collapse=1,soon")}, "--collapse soon"),
        ({"sweep": Sweep.parse("cache=lru")}, "--cache lru: found no DRAM budget"),
    ],
)
def test_extras_are_checked_before_the_work_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extras: dict[str, Any], match: str
) -> None:
    """Nobody waits for a simulation to be told where its page cannot go: here the trace is no trace."""
    monkeypatch.chdir(tmp_path)
    for name in ("there", "there.iolog", "input"):
        Path(name).write_text("mine")
    with pytest.raises(UsageError, match=match):
        simulate(["input"], ["original"], SIZED, extras=SimulateExtras(**extras))
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"}


def test_force_replaces(tmp_path: Path, trace_path: Path) -> None:
    """All files of the extras alike."""
    for name in ("page.html", "reads.svg", "reads.iolog"):
        (tmp_path / name).write_text("mine")
    extras = SimulateExtras(
        html=tmp_path / "page.html", svg=tmp_path / "reads.svg", force=True,
        measure=MeasureParams(fio=tmp_path / "reads.iolog", n_tokens=4),
    )  # fmt: skip
    simulate([trace_path], ["original"], SIZED, extras=extras)
    assert all((tmp_path / name).read_text() != "mine" for name in ("page.html", "reads.svg", "reads.iolog"))


def test_text_is_a_path_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trace_path: Path, profile_path: Path, greedy: Path
) -> None:
    """Wherever a path is taken, and a Path wherever a layout or a device is named; the documents are the same."""
    monkeypatch.chdir(tmp_path)
    device = Path("my-device.toml")
    shipped = Path(__file__).parents[2] / "ripple_place/flash/devices/m1-max.toml"
    device.write_bytes(shipped.read_bytes())
    budget = {"dram_budget": 0.25, "cache": "pinned"}
    documents = []
    for kind in (str, Path):
        params = SimulateParams(
            device=kind(device) if kind is Path else f"./{device}", baseline=kind(greedy), profile=kind(profile_path),
            **budget,
        )  # fmt: skip
        extras = SimulateExtras(
            html=kind("page.html"), svg=kind("reads.svg"), transfer=True, force=True,
            measure=MeasureParams(fio=kind("reads.iolog"), n_tokens=4),
        )  # fmt: skip
        report = simulate([kind(trace_path)], ["original", kind(greedy)], params, extras=extras)
        documents.append((report.to_json(), Path("page.html").read_bytes(), Path("reads.svg").read_bytes()))
    assert documents[0] == documents[1]
    assert documents[0][0]["layouts"][1]["speedup"] == 1
