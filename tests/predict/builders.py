"""Predictors drawn at random, profiles that have them, and inputs that a LayerNorm could have put out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.graph.profile import read_profile, write_profile
from ripple_place.predict.params import ACTIVITY, MAGNITUDE
from ripple_place.predict.predictor import LOGISTIC, BlockPredictor, ModelPredictor, PredictorNote
from tests.trace_builders import block_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ripple_place.trace.activation_trace import BlockTrace

SIZES = {"layers.0": 24, "layers.1": 24}
"""Blocks of the pico checkpoints."""


def predictor_of(
    sizes: Mapping[str, int] = SIZES, *, n_inputs: int = 8, rank: int = 3, predicts: str = ACTIVITY,
    recalls: Sequence[float] = (0.9, 0.99), with_constant: bool = True, seed: int = 0,
) -> ModelPredictor:  # fmt: skip
    """Return predictors of some blocks."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    blocks = {
        name: BlockPredictor(
            draw(rank, n_inputs).astype(np.float16), draw(n, rank).astype(np.float16), draw(n),
            np.sort(draw(len(recalls)))[::-1].copy(), np.abs(draw(n)) if predicts == MAGNITUDE else None,
            draw(n_inputs) if with_constant else None,
        )
        for name, n in sizes.items()
    }  # fmt: skip
    return ModelPredictor(blocks, PredictorNote(predicts, tuple(recalls), 300, dict.fromkeys(sizes, LOGISTIC)))


def add_predictor(profile: Path, predictor: ModelPredictor | None = None, to: Path | None = None) -> Path:
    """Put predictors into a profile, or into a copy of it; return its path."""
    to = to or profile
    write_profile(to, replace(read_profile(profile), predictor=predictor or predictor_of()))
    return to


def layer_norm_inputs(rng: np.random.Generator, n_rows: int, n_inputs: int) -> np.ndarray:
    """Return what a LayerNorm with gains and biases puts out for random states."""
    states = rng.standard_normal((n_rows, n_inputs))
    standardised = (states - states.mean(1, keepdims=True)) / states.std(1, keepdims=True)
    gain, bias = rng.uniform(0.5, 2, n_inputs), rng.normal(0, 0.1, n_inputs)
    return (standardised * gain + bias).astype(np.float32)


def firing_on(rng: np.random.Generator, x: np.ndarray, n_neurons: int, rank: int = 8) -> BlockTrace:
    """Return neurons that fire where a low-rank map of the inputs is large, about 7 % of the time."""
    weights = rng.standard_normal((x.shape[1], rank)) @ rng.standard_normal((rank, n_neurons))
    products = x @ weights
    return block_of(products > products.mean(axis=0) + 1.5 * products.std(axis=0))
