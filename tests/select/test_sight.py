"""Rules that are told by a predictor: what is read then, what is dropped, and what they are refused for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.block_tally import RowTokens
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.flash.simulator import SimulationParams
from ripple_place.placement import NeuronPlacement
from ripple_place.predict.predictor import BlockPredictor, ModelPredictor, PredictorNote, softplus
from ripple_place.select.registry import parse_rule
from ripple_place.select.rule import Tuning
from ripple_place.select.selected_block import SelectedBlock, WorthCount
from ripple_place.select.shared_choice import SharedChoice
from ripple_place.select.sight import Ffn, Noise, Predictions
from tests.flash.builders import linear_device
from tests.select.builders import N_NEURONS, N_TOKENS, known_of, layout_of

if TYPE_CHECKING:
    from ripple_place.select.sight import Sight

DEVICE = replace(linear_device(), overhead_us=2.0)
"""With bundles of 4 KiB a gap of 2."""
NAME = "layers.0"


def told(n_neurons: int, *, predicts: str = "magnitude", scale: np.ndarray | None = None, **more: Any) -> Predictions:
    """Return predictions whose scores are the inputs themselves, and which fire from 0.5 on."""
    same = np.eye(n_neurons, dtype=np.float16)
    if predicts == "magnitude" and scale is None:
        scale = np.ones(n_neurons, np.float32)
    block = BlockPredictor(same, same, np.zeros(n_neurons, np.float32), np.array([0.5, 0.25], np.float32), scale)
    note = PredictorNote(predicts, (0.95, 0.99), 100, {NAME: "logistic"})
    return Predictions.at(ModelPredictor({NAME: block}, note), more.get("recall", 0.95))


def at_work(
    rule: str, sight: Sight, layout: Layout, tuning: Tuning, ffn: Ffn | None = None, n_rows: int = N_TOKENS,
    **params: Any,
) -> SelectedBlock:  # fmt: skip
    """Return a rule at work on a layout."""
    return SelectedBlock(
        NAME, parse_rule(rule), layout.blocks[NAME], DEVICE, SimulationParams(**params),
        RowTokens(n_rows, None, n_rows), tuning, sight, ffn or Ffn(),
    )  # fmt: skip


@pytest.fixture
def perfect() -> tuple[np.ndarray, np.ndarray, Predictions]:
    """Return outputs, inputs, and predictors that know both what fires and how much it puts out, to the last bit."""
    rng = np.random.default_rng(5)
    fires = rng.random((N_TOKENS, N_NEURONS)) < np.linspace(0.6, 0.05, N_NEURONS)
    scale = rng.exponential(1, N_NEURONS).astype(np.float32)
    inputs = np.where(fires, 20, -5).astype(np.float32)
    outputs = np.where(fires, scale * softplus(inputs), 0).astype(np.float32)
    return outputs, inputs, told(N_NEURONS, scale=scale)


@pytest.mark.parametrize(
    "rule", ["exact", "threshold=20", "top-k=5", "teal=50%", "fisher,price=0.5", "flash-aware,price=0.5",
             "dip-ca=0.3", "chunk=0.3"],
)  # fmt: skip
@pytest.mark.parametrize("capacity", [0, 12])
def test_a_perfect_predictor_changes_nothing(
    perfect: tuple[np.ndarray, np.ndarray, Predictions], rule: str, capacity: int
) -> None:
    """What is used, what it costs and what it is worth are the same to the last bit."""
    outputs, inputs, predictions = perfect
    rng = np.random.default_rng(6)
    layout, tuning = layout_of(rng, {NAME: N_NEURONS}), known_of(rng, {NAME: N_NEURONS})
    tuning = replace(tuning, thresholds={NAME: 15.0})
    params = {"cache": "lru", "capacity_neurons": {NAME: capacity}} if capacity else {}
    blind, sighted = (at_work(rule, sight, layout, tuning, **params) for sight in (Noise(), predictions))
    assert (blind.uses_inputs, sighted.uses_inputs) == (False, True)
    for first in range(0, N_TOKENS, 7):
        rows = slice(first, first + 7)
        used = sighted.choose(outputs[rows], None, inputs[rows])
        np.testing.assert_array_equal(used, blind.choose(outputs[rows]))
    assert sighted.worth == blind.worth
    assert 0 < sighted.worth.n_chosen == sighted.worth.n_active - sighted.worth.n_dropped
    for one, other in zip(sighted.result(), blind.result(), strict=True):
        assert repr(one) == repr(other)


def test_what_is_predicted_wrongly() -> None:
    """A neuron that does not fire is read and enters DRAM; one that fires unforeseen is dropped, at its true worth."""
    extent = BlockExtent.packed(4096)
    layout = Layout("tested", {NAME: BlockLayout(NeuronPlacement.original(8), extent)})
    tuning = replace(Tuning.nothing(), importance={NAME: np.arange(1, 9, dtype=np.float32)})
    for rule in ("exact", "threshold=0.1", "flash-aware,price=0"):
        block = at_work(rule, told(8), layout, tuning, n_rows=2, cache="lru", capacity_neurons={NAME: 2})
        outputs, inputs = np.zeros((2, 8), np.float32), np.zeros((2, 8), np.float32)
        outputs[:, :2] = 2, 3
        inputs[:, [1, 2]] = 1
        used = block.choose(outputs, None, inputs)
        np.testing.assert_array_equal(used, [[False, True, True, False, False, False, False, False]] * 2)
        # Of each row, neurons 0 and 1 fire, at 1 * 2^2 and 2 * 3^2; neuron 0 is dropped.
        assert block.worth == WorthCount(44.0, 8.0, 4, 2, 4)
        result, served = block.result()
        token_us = served.flash_us
        assert (result.totals.n_active, result.totals.n_reads, result.totals.n_hits) == (4, 1, 2)
        assert token_us[0] > token_us[1] == 0


@pytest.mark.parametrize("rule", ["top-k=1", "cats=50%,sees=predictor", "partial-glu=0.125,sees=predictor"])
def test_rules_see_predicted_magnitudes(rule: str) -> None:
    """The largest prediction is used, though another neuron puts out more; without a gate, also for its rules."""
    layout = layout_of(np.random.default_rng(1), {NAME: 8})
    tuning = replace(Tuning.nothing(), thresholds={NAME: 5.0})
    block = at_work(rule, told(8), layout, tuning, Ffn(is_gated=False), n_rows=1)
    assert not block.uses_gate
    outputs, inputs = np.zeros((1, 8), np.float32), np.zeros((1, 8), np.float32)
    outputs[0, :3] = 9, 1, 4
    inputs[0, :3] = 1, 7, 2
    assert np.flatnonzero(block.choose(outputs, None, inputs)).tolist() == [1]


def test_recalls_have_thresholds_of_their_own() -> None:
    """A lower threshold reads more."""
    layout = layout_of(np.random.default_rng(1), {NAME: 8})
    inputs = np.full((1, 8), [0.6, 0.6, 0.3, 0.3, 0.3, 0, 0, 0], np.float32)
    for recall, n_read in ((0.95, 2), (0.99, 5)):
        block = at_work("exact", told(8, recall=recall), layout, Tuning.nothing(), n_rows=1)
        assert block.choose(np.zeros((1, 8), np.float32), None, inputs).sum() == n_read
    predictor = told(8).predictor
    assert Predictions.at(predictor, None).recall == 0.99
    highest = replace(predictor, note=replace(predictor.note, recalls=(0.9, 0.95)))
    assert Predictions.at(highest, None).recall == 0.95


def test_layouts_share_what_is_predicted() -> None:
    """A layout that serves what another one chose pays what it pays alone."""
    rng = np.random.default_rng(2)
    tuning = known_of(rng, {NAME: N_NEURONS})
    layouts = [layout_of(rng, {NAME: N_NEURONS}) for _ in range(2)]
    outputs = np.maximum(rng.standard_normal((N_TOKENS, N_NEURONS)), 0).astype(np.float32)
    inputs = rng.standard_normal((N_TOKENS, N_NEURONS)).astype(np.float32)
    params: dict[str, Any] = {"cache": "lru", "capacity_neurons": {NAME: 9}}
    for rule in ("exact", "top-k=5"):
        alone, shared = (
            [at_work(rule, told(N_NEURONS), layout, tuning, **params) for layout in layouts] for _ in range(2)
        )
        choice = SharedChoice(shared)
        assert choice.uses_inputs
        used = choice.choose(outputs, None, inputs)
        for block, other in zip(alone, shared, strict=True):
            np.testing.assert_array_equal(block.choose(outputs, None, inputs), used)
            assert block.worth == other.worth
            assert repr(block.result()) == repr(other.result())


@pytest.mark.parametrize(
    ("rule", "predictions", "ffn", "match"),
    [
        ("exact,sees=gate", told(8), Ffn(), "found a rule that reads weights to know what it looks at"),
        ("cats=50%", told(8), Ffn(is_gated=False), "Write sees=predictor, or leave --activity predicted out"),
        ("top-k=1", told(8, predicts="activity"), Ffn(), "found predictors of which neurons fire"),
        ("cats=50%,sees=predictor", told(8), Ffn(), r"found gates in layers\.0, of which predictors say nothing"),
        ("exact", told(9), Ffn(), r"layers\.0: found a predictor for 9 neurons; expected 8"),
        ("exact", Predictions(replace(told(8).predictor, blocks={}), 0.99), Ffn(), "found no predictor of its neurons"),
    ],
)  # fmt: skip
def test_what_cannot_be_seen(rule: str, predictions: Predictions, ffn: Ffn, match: str) -> None:
    """Refused before the first token."""
    layout = layout_of(np.random.default_rng(1), {NAME: 8})
    with pytest.raises(UsageError, match=match):
        at_work(rule, predictions, layout, replace(Tuning.nothing(), thresholds={NAME: 1.0}), ffn)


def test_inputs_of_another_width() -> None:
    """Predictors of another model whose blocks happen to have as many neurons."""
    block = at_work("exact", told(8), layout_of(np.random.default_rng(1), {NAME: 8}), Tuning.nothing(), n_rows=1)
    with pytest.raises(UsageError, match="found a predictor for inputs of width 8; expected 7"):
        block.choose(np.zeros((1, 8), np.float32), None, np.zeros((1, 7), np.float32))
