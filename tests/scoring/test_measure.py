"""Measuring simulated layouts on a real file: the same requests, all layouts, and what makes figures doubtful."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.device.conditions import ReadConditions
from ripple_place.flash.storage.direct_file import DirectFile
from ripple_place.flash.storage.measurement import measurement_warnings
from ripple_place.placing.params import PlacingParams
from ripple_place.scoring.measure import MeasureParams, MeasureReport, measure_simulated, measured_depth
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.score import Scores, score
from ripple_place.workflows.reorder import reorder

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="direct reads need Linux")

QUICK = {"n_tokens": 6, "n_repeats": 2}


@pytest.fixture
def simulated(trace_path: Path, profile_path: Path, tmp_path: Path) -> Scores:
    """Return checkpoint order and the greedy path on the pico trace; speedups are against the second."""
    reorder(None, profile_path, tmp_path / "greedy", PlacingParams(ordering="greedy"))
    layouts = ["original", str(tmp_path / "greedy")]
    return score([trace_path], layouts, SimulateParams(bundle_bytes=4096, gap=0, baseline=layouts[1]))


@pytest.fixture
def data_path(tmp_path: Path) -> Path:
    """Return a file of 1 MiB: more than the two blocks of 24 bundles of 4 KiB take."""
    (tmp_path / "data").write_bytes(np.random.default_rng(0).bytes(1 << 20))
    return tmp_path / "data"


def measured(report: Scores, params: MeasureParams) -> MeasureReport:
    """Run the workflow."""
    return measure_simulated(report, params, np.random.default_rng(0))


def test_every_layout_is_measured(simulated: Scores, data_path: Path) -> None:
    """Each gets what was predicted of its own requests, measured times, and a speedup against the baseline."""
    report = measured(simulated, MeasureParams(data_path, depth=3, **QUICK))
    document = report.add_to(simulated.to_json())
    for layout, requests in zip(document["layouts"], report.requests, strict=True):
        scores = layout["measured"]
        assert (scores["n_tokens"], scores["queue_depth"], scores["repeats"]) == (6, 3, 2)
        assert scores["n_requests"] == requests.n_requests
        assert scores["predicted_us_per_token"] == pytest.approx(requests.predicted_us / 6)
        low, high = scores["flash_time_us_range"]
        assert 0 < low <= scores["flash_time_us_per_token"] <= high
        assert scores["waiting_us_per_token"] > 0
        assert scores["error"] == scores["predicted_us_per_token"] / scores["flash_time_us_per_token"] - 1
    baseline = document["layouts"][1]["measured"]
    assert (baseline["speedup"], baseline["predicted_speedup"], baseline["speedup_range"]) == (1, 1, [1, 1])
    assert document["layouts"][0]["measured"]["predicted_speedup"] < 1
    assert list(document["layouts"][0])[:-1] == list(simulated.to_json()["layouts"][0])


def test_prediction_of_all_tokens_is_the_simulation(simulated: Scores, data_path: Path) -> None:
    """With as many tokens as the trace has, what is compared is the figure of the table."""
    report = measured(simulated, MeasureParams(data_path, n_tokens=300, n_repeats=1))
    for requests, result in zip(report.requests, simulated.results, strict=True):
        assert requests.predicted_us == pytest.approx(result.totals.flash_time_us)
        assert requests.n_requests == result.totals.n_requests


def test_a_short_file_is_wrapped_and_warned_of(simulated: Scores, tmp_path: Path) -> None:
    """A file of half the layouts' length is read from its start again; the warning says how long it should be."""
    (tmp_path / "short").write_bytes(bytes(100_000))
    report = measured(simulated, MeasureParams(tmp_path / "short", **QUICK))
    assert any("reads wrapped around" in warning and "KiB" in warning for warning in report.warnings)


def test_a_file_of_hardly_a_read_is_refused(simulated: Scores, tmp_path: Path) -> None:
    """There is nothing to wrap around in."""
    (tmp_path / "tiny").write_bytes(bytes(4096))
    with pytest.raises(UsageError, match="Name a larger file"):
        measured(simulated, MeasureParams(tmp_path / "tiny", **QUICK))


def test_a_foreign_device_is_warned_of(simulated: Scores, data_path: Path) -> None:
    """Predictions a thousand times too long are not this storage's."""
    report = measured(simulated, MeasureParams(data_path, **QUICK))
    scaled = [
        replace(each, requests=replace(each.requests, predicted_us=1000 * each.measured_us * 6))
        for each in report.measurements
    ]
    with DirectFile.open(data_path) as file:
        warnings = measurement_warnings(scaled, file, simulated.device)
    assert any("off by up to 99900 %" in warning for warning in warnings)


def test_depth_is_that_of_the_profile(simulated: Scores) -> None:
    """A prediction holds at the depth that the device was measured at; 8 where nobody said."""
    silent = replace(simulated.device, queue_depths=(), queue_factor=())
    assert measured_depth(silent) == 8
    sources = {**silent.sources, "queue_factor": "remembered: made up for tests"}
    known = replace(silent, queue_depths=(1, 4), queue_factor=(0.5, 1.0), sources=sources)
    assert measured_depth(known) == 4
    assert measured_depth(replace(known, conditions=ReadConditions(queue_depth=2))) == 2


def test_nothing_to_read_is_refused(trace_path: Path, data_path: Path) -> None:
    """With all neurons in DRAM, late tokens read nothing at all."""
    report = score([trace_path], ["original"], SimulateParams(bundle_bytes=4096, dram_budget=1.0, cache="lru"))
    with pytest.raises(UsageError, match=r"no read in .* Lower --dram-budget"):
        measured(report, MeasureParams(data_path, n_tokens=1))


def test_fio_files_hold_the_same_requests(simulated: Scores, tmp_path: Path) -> None:
    """One log a layout, in order, without a file to read; the job's depth is that asked for."""
    report = measured(simulated, MeasureParams(fio=tmp_path / "reads.iolog", depth=5, n_tokens=4))
    assert [path.name for path in report.written] == ["reads.fio", "reads.iolog", "reads.2.iolog"]
    assert report.measurements == ()
    for path, requests in zip(report.written[1:], report.requests, strict=True):
        reads = [line.split()[2:] for line in path.read_text().splitlines() if " read " in line]
        assert [[int(number) for number in read] for read in reads] == list(
            map(list, zip(requests.offset_bytes.tolist(), requests.length_bytes.tolist(), strict=True))
        )
    assert "iodepth=5" in report.written[0].read_text()
    assert report.add_to(simulated.to_json())["fio"] == [str(path) for path in report.written]
    assert "measured" not in report.add_to(simulated.to_json())["layouts"][0]
