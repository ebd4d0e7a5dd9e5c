"""Predictors in an output: of its blocks, and, with the profile at hand, those of the profile in the new order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors import safe_open

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import ADDITIONS, PREDICTORS_FILE
from ripple_place.checkpoint.output.additions import Addition, predictors_file
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.output.plan import RewritePlan, plan_rewrite
from ripple_place.checkpoint.proof.predictors import PREDICTED
from ripple_place.checkpoint.proof.verify import ADDED, verify
from ripple_place.checkpoint.rewrite import execute, needed_bytes
from ripple_place.errors import CheckpointError, TraceFormatError, UsageError, VerificationError
from ripple_place.placement import ModelPlacement
from ripple_place.predict.files import predictors_bytes, predictors_content, read_predictors
from tests.builders import adjust_manifest, random_placement
from tests.predict.builders import predictor_of

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.predict.predictor import ModelPredictor


def plan(source: Path, out: Path, predictor: ModelPredictor | None) -> RewritePlan:
    """Plan a rewrite in which the first layer moves and the second stays, with predictors."""
    model = describe_ffn(Checkpoint.open(source))
    placed = random_placement(model)
    first = ModelPlacement({"layers.0": placed.blocks["layers.0"]}, placed.metadata)
    planned = plan_rewrite(model, first, out)
    return planned if predictor is None else replace(planned, additions=predictors_file(predictor, planned.orders))


@pytest.fixture
def out(pico_opt: Path, tmp_path: Path) -> Path:
    """Return an output with predictors."""
    execute(plan(pico_opt, tmp_path / "out", predictor_of()))
    return tmp_path / "out"


def test_they_follow_the_neurons(pico_opt: Path, out: Path) -> None:
    """Rows of the moved block are permuted, those of the other are not; the stock reader opens the file."""
    orders = plan(pico_opt, out.with_name("again"), None).orders
    assert orders["layers.0"].tolist() != orders["layers.1"].tolist() == list(range(24))
    assert (out / PREDICTORS_FILE).read_bytes() == predictors_content(predictor_of().in_orders(orders))
    found = read_predictors(out / PREDICTORS_FILE, CheckpointError)
    x = np.random.default_rng(2).standard_normal((5, 8))
    for name, block in predictor_of().blocks.items():
        np.testing.assert_array_equal(found.blocks[name].scores(x), block.scores(x)[:, orders[name]])
    with safe_open(out / PREDICTORS_FILE, "numpy") as file:
        assert file.get_tensor("layers.1.predictor.up").shape == (24, 3)
    document = read_manifest(out).document
    assert document["additions"] == {PREDICTORS_FILE: ADDITIONS[PREDICTORS_FILE]}


def test_they_are_proved(pico_opt: Path, out: Path) -> None:
    """By the profile's only if that is given; anything else is declared."""
    assert PREDICTED not in verify(pico_opt, out).checks
    checks = verify(pico_opt, out, predictor=predictor_of()).checks
    assert (checks[PREDICTED], checks[ADDED]) == (2, 1)


def test_their_space_is_planned(pico_opt: Path, tmp_path: Path) -> None:
    """A disk without room for them is refused before the first byte."""
    without, having = plan(pico_opt, tmp_path / "out", None), plan(pico_opt, tmp_path / "out", predictor_of())
    assert needed_bytes(having) >= needed_bytes(without) + predictors_bytes(predictor_of())


def test_others_than_the_profiles(pico_opt: Path, out: Path) -> None:
    """Other values, and the right ones in another order, with a manifest that agrees."""
    with pytest.raises(VerificationError, match=r"predictors\.safetensors: found other predictors"):
        verify(pico_opt, out, predictor=predictor_of(seed=1))
    for content in (predictors_content(predictor_of()), (out / PREDICTORS_FILE).read_bytes() + b" "):
        (out / PREDICTORS_FILE).write_bytes(content)
        adjust_manifest(out)
        with pytest.raises(VerificationError, match=r"predictors\.safetensors"):
            verify(pico_opt, out, predictor=predictor_of())


@pytest.mark.parametrize(
    ("predictor", "message"),
    [
        (predictor_of({"layers.0": 24, "layers.2": 24}), "layers.2.*found predictors of it; expected a block that"),
        (predictor_of({"layers.0": 23}), "layers.0.*found predictors of 23 neurons from 8 inputs; expected 24 neurons"),
        (predictor_of(n_inputs=9), "layers.0.*found predictors of 24 neurons from 9 inputs"),
    ],
)
def test_of_another_model(pico_opt: Path, out: Path, predictor: ModelPredictor, message: str) -> None:
    """In the output that is damage, in the profile it is the wrong profile."""
    with pytest.raises(TraceFormatError, match=message):
        verify(pico_opt, out, predictor=predictor)
    (out / PREDICTORS_FILE).write_bytes(predictors_content(predictor))
    adjust_manifest(out)
    with pytest.raises(VerificationError, match=message):
        verify(pico_opt, out)


def test_no_predictors_to_prove(pico_opt: Path, tmp_path: Path) -> None:
    """An output that was written without."""
    execute(plan(pico_opt, tmp_path / "out", None))
    with pytest.raises(UsageError, match="found no predictors in"):
        verify(pico_opt, tmp_path / "out", predictor=predictor_of())


def test_a_malformed_file(pico_opt: Path, tmp_path: Path) -> None:
    """It is found while the output is written, before it appears."""
    planned = plan(pico_opt, tmp_path / "out", None)
    broken = Addition.of_bytes(predictors_content(predictor_of()).replace(b"predictors/1", b"predictors/0"))
    with pytest.raises(VerificationError, match="format"):
        execute(replace(planned, additions={PREDICTORS_FILE: broken}))
    assert not (tmp_path / "out").exists()
