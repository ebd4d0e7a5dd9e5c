"""Sweeps: each point is the simulation that it says it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ripple_place.errors import UsageError
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.score import score
from ripple_place.scoring.sweep import Sweep, sweep_simulation

if TYPE_CHECKING:
    from pathlib import Path


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
        alone = score([trace_path], ["original", greedy], SimulateParams(**setting))  # type: ignore[arg-type]
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


def test_numbers_without_a_unit_are_no_budgets(greedy: str, tmp_path: Path) -> None:
    """0, 10 and 20 bytes hold no neuron: the three rows were equal, as if DRAM did not help."""
    with pytest.raises(UsageError, match=r"found '10'; expected 10% for a share, or 10MiB or 10B for a size"):
        sweep_simulation([tmp_path / "absent"], [greedy], SimulateParams(), Sweep.parse("dram-budget=0,10,20"))
