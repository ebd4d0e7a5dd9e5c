"""Placing by a plan: hot neurons first in one stretch, cold ones as if the hot ones did not exist, the plan beside."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.checkpoint.names import PLAN_FILE
from ripple_place.errors import PlacementError, UsageError
from ripple_place.graph.profile import read_profile
from ripple_place.placement import ModelPlacement, read_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.systems.cold_profile import cold_profile
from ripple_place.systems.hot_first import are_hot, hot_first, hot_neurons
from ripple_place.systems.plan import METADATA_KEY, NeuronPlan
from ripple_place.systems.plan_params import PlanParams
from ripple_place.workflows.profile import profile
from ripple_place.workflows.reorder import reorder
from tests.trace_builders import unpack, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

N = 24
PARAMS = PlanParams((1, 4), cluster_rows=4, attention_us=0.0)


@pytest.fixture
def planned(tmp_path: Path) -> tuple[Path, Path]:
    """Return a profile of neurons that fire the more often the lower they are, and a placement planned from it."""
    rng = np.random.default_rng(0)
    rates = np.linspace(0.9, 0.05, N)
    activity = {f"layers.{layer}": rng.random((300, N)) < rates for layer in range(2)}
    path = tmp_path / "p.profile"
    profile(write_stock_trace(tmp_path / "trace", activity), path)
    out = tmp_path / "planned"
    placing = PlacingParams(ordering="greedy", bundle_bytes=4096, dram_budget=0.5)
    reorder(None, path, out, placing, neuron_plan=PARAMS)
    return path, out


def test_hot_neurons_lie_first_by_frequency(planned: tuple[Path, Path]) -> None:
    """Those of a smaller batch before those of a larger one; resident ones are pinned."""
    learned, placement = read_profile(planned[0]), read_placement(planned[1])
    plan = NeuronPlan.of("planned", placement)
    assert plan is not None
    assert plan.dram_neurons == N
    for name, block in placement.blocks.items():
        frequency = learned.blocks[name].frequency
        most = plan.n_hot(4)[name]
        assert most > 0
        hot = frequency[block.order[:most]]
        assert (np.diff(hot) <= 0).all()
        assert hot.min() >= frequency[block.order[most:]].max()
        assert block.frequency is not None
        assert (block.frequency == frequency).all()
        assert block.pinned is not None
        assert set(block.pinned) == set(block.order[: plan.blocks[name].hot[1].n_resident])


def test_cold_neurons_are_ordered_without_the_hot_ones(planned: tuple[Path, Path], tmp_path: Path) -> None:
    """As greedy order places a trace in which hot neurons never fire."""
    learned, placement = read_profile(planned[0]), read_placement(planned[1])
    plan = NeuronPlan.of("planned", placement)
    assert plan is not None
    assert learned.trace is not None
    flags = are_hot(hot_neurons({name: block.frequency for name, block in learned.blocks.items()}, plan), plan)
    cleared = {name: unpack(block) & ~flags[name] for name, block in learned.trace.blocks.items()}
    path = tmp_path / "cold.profile"
    profile(write_stock_trace(tmp_path / "cold", cleared), path)
    reorder(None, path, tmp_path / "cold.placement", PlacingParams(ordering="greedy", bundle_bytes=4096))
    for name, block in read_placement(tmp_path / "cold.placement").blocks.items():
        cold = block.order[~flags[name][block.order]]
        assert placement.blocks[name].order[flags[name].sum() :].tolist() == cold.tolist()


def test_a_cold_profile_is_that_of_the_cleared_trace(planned: tuple[Path, Path], tmp_path: Path) -> None:
    """Firing counts, pairs and bits; neighbours that were crowded out by hot ones may be missing."""
    learned = read_profile(planned[0])
    assert learned.trace is not None
    flags = {name: np.arange(N) < 5 for name in learned.blocks}
    cold = cold_profile(learned, flags)
    cleared = {name: unpack(block) & ~flags[name] for name, block in learned.trace.blocks.items()}
    profile(write_stock_trace(tmp_path / "cold", cleared), tmp_path / "cold.profile")
    expected = read_profile(tmp_path / "cold.profile")
    assert cold.trace is not None
    for name, block in expected.blocks.items():
        assert (cold.blocks[name].frequency == block.frequency).all()
        assert (unpack(cold.trace.blocks[name]) == cleared[name]).all()
        # With so few neurons every pair is a neighbour.
        assert (cold.blocks[name].graph.toarray() == block.graph.toarray()).all()


def test_the_plan_is_kept_beside_a_checkpoint(planned: tuple[Path, Path], tmp_path: Path, pico_opt: Path) -> None:
    """As a file, which says what the placement's metadata say."""
    out = tmp_path / "out"
    report = reorder(
        pico_opt, planned[0], out, PlacingParams(ordering="greedy", dram_budget=0.5), neuron_plan=PARAMS
    )  # fmt: skip
    document = json.loads((out / PLAN_FILE).read_text())
    assert document == report.to_json()["neuron_plan"]
    assert report.verification is not None
    placement = read_placement(out / "ripple_place" / "placement.safetensors")
    assert json.loads(placement.metadata[METADATA_KEY]) == document
    plan = NeuronPlan.of("out", placement)
    assert plan is not None
    assert plan.to_json() == document


@pytest.mark.parametrize(
    ("placing", "found"),
    [
        ({}, "no DRAM budget"),
        ({"dram_budget": 0.5, "cache": "lru"}, "--cache"),
        ({"dram_budget": 0.5, "copies": 2}, "--copies 2"),
        ({"dram_budget": 0.5, "break_even_gap": 2.0}, "--break-even-gap"),
        ({"dram_budget": 0.5, "ordering": "greedy"}, "bundle size"),
    ],
)
def test_what_a_plan_does_not_go_with(
    planned: tuple[Path, Path], tmp_path: Path, placing: dict[str, object], found: str
) -> None:
    """Refused before anything is written."""
    with pytest.raises(UsageError, match=found):
        reorder(None, planned[0], tmp_path / "no", PlacingParams(**placing), neuron_plan=PARAMS)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("change", ["format", "blocks", "n_hot", "sizes", "json"])
def test_a_malformed_plan_is_refused(planned: tuple[Path, Path], change: str) -> None:
    """Whatever of it does not fit the placement."""
    placement = read_placement(planned[1])
    document = json.loads(placement.metadata[METADATA_KEY])
    if change == "format":
        document["format"] = "ripple-place.plan/9"
    elif change == "blocks":
        document["blocks"]["layers.9"] = document["blocks"].pop("layers.1")
    elif change == "n_hot":
        document["blocks"]["layers.0"]["hot"]["1"]["n_hot"] = N + 1
    elif change == "sizes":
        document["blocks"]["layers.0"]["hot"].pop("4")
    text = "{" if change == "json" else json.dumps(document)
    broken = ModelPlacement(placement.blocks, {**placement.metadata, METADATA_KEY: text})
    with pytest.raises(PlacementError, match="a plan that is malformed"):
        NeuronPlan.of("planned", broken)
    assert NeuronPlan.of("none", ModelPlacement(placement.blocks, {})) is None


def test_hot_first_takes_the_cold_order(planned: tuple[Path, Path]) -> None:
    """Hot neurons are taken out of it, wherever they were."""
    placement = read_placement(planned[1])
    plan = NeuronPlan.of("planned", placement)
    assert plan is not None
    hot = {name: np.arange(plan.n_hot(4)[name], dtype=np.int32) for name in placement.blocks}
    for name, block in hot_first(placement, hot, plan).blocks.items():
        assert block.order[: hot[name].size].tolist() == hot[name].tolist()
        rest = [neuron for neuron in placement.blocks[name].order.tolist() if neuron >= hot[name].size]
        assert block.order[hot[name].size :].tolist() == rest
