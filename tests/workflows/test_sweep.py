"""Sweeps and the transfer matrix: each point is the simulation that it says it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.placing.params import PlacingParams
from ripple_place.workflows.reorder import reorder
from ripple_place.workflows.simulate import SimulateParams, simulate
from ripple_place.workflows.sweep import Sweep, parse_collapse, sweep_simulation, transfer_matrix
from tests.trace_builders import random_activity, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def greedy(tmp_path: Path, profile_path: Path) -> str:
    """Return the greedy placement, with bundles of 4 KiB."""
    reorder(None, profile_path, tmp_path / "greedy", PlacingParams(ordering="greedy", bundle_bytes=4096))
    return str(tmp_path / "greedy")


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("dram-budget=0%,25%", [{"dram_budget": 0.0}, {"dram_budget": 0.25}]),
        ("collapse=off,auto,2,optimal", [{"gap": 0}, {"gap": None}, {"gap": 2}, {"gap": "optimal"}]),
        ("bundle-bytes=4KiB,16KiB", [{"bundle_bytes": 4096}, {"bundle_bytes": 16384}]),
        ("device=m1-max,desktop-nvme", [{"device": "m1-max"}, {"device": "desktop-nvme"}]),
    ],
)
def test_each_point_is_the_simulation_at_that_value(
    trace_path: Path, greedy: str, text: str, settings: list[dict[str, object]]
) -> None:
    """A sweep is nothing but the same command at several values of one option."""
    swept = sweep_simulation([trace_path], ["original", greedy], SimulateParams(), Sweep.parse(text))
    for point, setting in zip(swept.to_json()["points"], settings, strict=True):
        alone = simulate([trace_path], ["original", greedy], SimulateParams(**setting))  # type: ignore[arg-type]
        assert point["layouts"] == alone.to_json()["layouts"]


@pytest.mark.parametrize("text", ["", "dram-budget", "dram-budget=", "collapse=1,,2", "seed=1", "collapse=soon"])
def test_a_sweep_that_means_nothing_is_refused(trace_path: Path, greedy: str, text: str) -> None:
    """The message names what can be swept, or what a value must be."""
    with pytest.raises(UsageError, match=r"one of dram-budget, bundle-bytes, collapse|auto, off"):
        sweep_simulation([trace_path], [greedy], SimulateParams(), Sweep.parse(text))


def test_a_bad_value_is_refused_before_the_first_is_simulated(greedy: str, tmp_path: Path) -> None:
    """Nobody waits for nine points to be told that the tenth does not parse: here the trace does not even exist."""
    with pytest.raises(UsageError, match="soon"):
        sweep_simulation([tmp_path / "absent"], [greedy], SimulateParams(), Sweep.parse("collapse=1,soon"))


def test_the_transfer_matrix_scores_each_trace_by_itself(tmp_path: Path, trace_path: Path, greedy: str) -> None:
    """Rows are traces, columns layouts; each cell is that layout's score on that trace alone."""
    rng = np.random.default_rng(1)
    other = write_stock_trace(
        tmp_path / "other.trace.safetensors",
        {f"layers.{layer}": random_activity(rng, 40, 24, 0.2) for layer in range(2)},
    )
    matrix = transfer_matrix([trace_path, other], ["original", greedy], SimulateParams()).to_json()
    assert matrix["traces"] == [trace_path.name, other.name]
    assert matrix["layouts"] == ["original", greedy]
    for row, path in enumerate((trace_path, other)):
        alone = simulate([path], ["original", greedy]).to_json()["layouts"]
        assert matrix["flash_time_us_per_token"][row] == [layout["flash_time_us_per_token"] for layout in alone]
        assert matrix["speedup"][row] == [layout["speedup"] for layout in alone]


@pytest.mark.parametrize("text", ["-1", "1.5", "off ", "²", "9" * 40])
def test_collapse_takes_whole_numbers(text: str) -> None:
    """Anything but auto, off, a planner or a number of neurons is refused with that list."""
    with pytest.raises(UsageError, match="auto, off, adaptive, optimal"):
        parse_collapse(text)
