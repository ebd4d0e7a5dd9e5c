"""Predictors in PowerInfer's form decide as ours do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import UnsupportedError
from ripple_place.predict.examples import split_examples
from ripple_place.predict.fit import fit_predictor
from ripple_place.predict.judging import NEVER
from ripple_place.predict.params import PredictorParams
from ripple_place.predict.powerinfer import powerinfer_layers, powerinfer_matrices, powerinfer_place
from tests.predict.builders import firing_on, layer_norm_inputs, predictor_of

if TYPE_CHECKING:
    from ripple_place.predict.predictor import BlockPredictor


def decisions(block: BlockPredictor, place: int, x: np.ndarray) -> np.ndarray:
    """Return what PowerInfer predicts, computed as it is written down."""
    fc1, fc2 = (matrix.astype(np.float32) for matrix in powerinfer_matrices(block, place))
    fires: np.ndarray = np.maximum(x @ fc1.T, 0) @ fc2.T >= 0
    return fires


@pytest.mark.parametrize("place", [0, 1, 2])
def test_they_decide_alike(place: int) -> None:
    """On rows that were held out, of inputs that a LayerNorm put out; float16 moves a few scores over the threshold."""
    rng = np.random.default_rng(0)
    x = layer_norm_inputs(rng, 1200, 32)
    fitted, held_out = split_examples(x, firing_on(rng, x, 96), np.array([0, 600]), 1200)
    block = fit_predictor(fitted, held_out, PredictorParams(12)).predictor
    some = held_out.inputs(np.arange(len(held_out)))
    native = block.fires(block.scores(some), place)
    assert 0.01 < native.mean() < 0.6
    assert (decisions(block, place, some) == native).mean() > 0.995


def test_the_form() -> None:
    """Float16, finite, of a rank that ggml can quantise; rows beyond the hidden units are zeros."""
    block = predictor_of().blocks["layers.0"]
    fc1, fc2 = powerinfer_matrices(block, 1)
    assert (fc1.shape, fc2.shape) == ((32, 8), (24, 32))
    assert (fc1.dtype, fc2.dtype) == (np.float16, np.float16)
    assert not fc1[9:].any()
    assert not fc2[:, 9:].any()
    np.testing.assert_array_equal(fc1[:3], block.down)
    np.testing.assert_array_equal(fc2[:, 3:6], -block.up)


def test_where_nothing_fired_nothing_is_predicted() -> None:
    """The threshold of such a block is the largest float32, which float16 cannot hold."""
    block = replace(predictor_of().blocks["layers.0"], constant=np.full(8, 0.125, np.float32))
    block = replace(block, threshold=np.full(2, NEVER, np.float32))
    x = np.ones((1, 8), np.float32)
    fc1, fc2 = powerinfer_matrices(block, 0)
    assert np.isfinite(fc1).all()
    assert np.isfinite(fc2).all()
    assert not decisions(block, 0, x).any()


def test_inputs_without_anything_in_common() -> None:
    """A constant of zeros is no division by 0."""
    block = replace(predictor_of().blocks["layers.0"], constant=np.zeros(8, np.float32))
    assert all(np.isfinite(matrix).all() for matrix in powerinfer_matrices(block, 0))


def test_layers_and_the_recall() -> None:
    """By number; the threshold of 0.99 where there is one, else that of the highest recall."""
    predictor = predictor_of({"layers.2": 24, "layers.10": 24})
    assert list(powerinfer_layers(predictor)) == [2, 10]
    places = [powerinfer_place(predictor_of(recalls=recalls)) for recalls in ((0.95, 0.99, 0.999), (0.9, 0.95), (0.5,))]
    assert places == [1, 1, 0]


@pytest.mark.parametrize("name", ["layers.3.experts.5", "layers.3.shared_expert", "encoder.layers.3", "layers.03"])
def test_other_blocks_have_no_file(name: str) -> None:
    """PowerInfer knows one FFN a layer."""
    with pytest.raises(UnsupportedError, match=f"{name}: found a block that is not the only FFN"):
        powerinfer_layers(predictor_of({name: 24}))


def test_predictors_without_a_constant() -> None:
    """Fitted by a version that did not look for it."""
    with pytest.raises(UnsupportedError, match="without the tensor `constant`"):
        powerinfer_layers(predictor_of(with_constant=False))
