"""Predictors in PowerInfer's form: two matrices with a ReLU between them, and one threshold for the whole model.

Ours are ``up (down x) + bias``, each block with a threshold of its own. Because ``relu(a) - relu(-a) = a``, rows of
``down`` and of ``-down`` beside columns of ``up`` and of ``-up`` give the same scores. What a neuron's bias exceeds its
threshold by is the column of a hidden unit that is about 1 for every token (`ripple_place.predict.constant`), and of
two more with what float16 leaves of it. A neuron is then predicted where its score reaches 0.

References
----------
Y. Song et al., "PowerInfer", arXiv 2312.12456, section 5.1; Tiiny-AI/PowerInfer, convert.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UnsupportedError

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray
    from ripple_place.predict.predictor import BlockPredictor, ModelPredictor

SPARSE_THRESHOLD = 0.0
_RANK_MULTIPLE = 32
"""ggml quantises that many numbers of a row together; rows of zeros fill the rank up and change nothing."""
_LARGEST_OFFSET = 1e4
"""More than any score reaches; the threshold of a block of which nothing fired is larger still."""
_LARGEST_HALF = 6e4
_LAYER = re.compile(r"layers\.(0|[1-9]\d*)")


def powerinfer_layers(predictor: ModelPredictor) -> dict[int, BlockPredictor]:
    """Return the predictors by layer.

    Raises
    ------
    UnsupportedError
        If a block is not the FFN of a whole layer, or the predictors do not say what inputs have in common.
    """
    layers = {}
    for name, block in predictor.blocks.items():
        match = _LAYER.fullmatch(name)
        if match is None:
            raise UnsupportedError(
                f"--powerinfer: {name}", found="a block that is not the only FFN of its layer",
                expected="dense layers: PowerInfer has one predictor for each layer",
                remedy="leave --powerinfer out; `ripple-place reorder` writes these predictors beside the model",
            )  # fmt: skip
        if block.constant is None:
            raise UnsupportedError(
                f"--powerinfer: {name}", found="a predictor without the tensor `constant`",
                expected="one, in place of the biases that PowerInfer does not have",
                remedy="fit the predictors again with `ripple-place profile --predictor`",
            )  # fmt: skip
        layers[int(match[1])] = block
    return layers


def powerinfer_place(predictor: ModelPredictor) -> int:
    """Return the place of the recall whose threshold is taken: `PredictorNote.default_recall`."""
    return predictor.note.place_of(predictor.note.default_recall)


def powerinfer_matrices(block: BlockPredictor, place: int) -> tuple[AnyArray, AnyArray]:
    """Return ``fc1`` and ``fc2`` of a block: a neuron is predicted where ``fc2 relu(fc1 x)`` is at least 0.

    Parameters
    ----------
    block : BlockPredictor
        With `constant`.
    place : int
        Of the recall whose threshold is taken.

    Returns
    -------
    tuple of ndarray of shapes (R, n_inputs) and (n_neurons, R), float16
        R is ``2 * rank + 3``, rounded up to a multiple of 32.
    """
    assert block.constant is not None
    threshold = block.threshold[place].astype(np.float64)
    offset = np.clip(block.bias - threshold, -_LARGEST_OFFSET, _LARGEST_OFFSET)
    # What one factor has more the other has less: both of about the same size, so that both fit float16.
    balance = np.sqrt(max(np.abs(offset).max(), 1e-30) / max(float(np.abs(block.constant).max()), 1e-30))
    constant, column = block.constant * balance, _half(offset / balance)[:, None]
    rest = _half(constant - _half(constant))
    rows = [block.down, -block.down, _half(constant)[None], rest[None], -rest[None]]
    columns = [block.up, -block.up, column, column, -column]
    n_padded = -(2 * block.rank + 3) % _RANK_MULTIPLE
    fc1 = np.concatenate([*rows, np.zeros((n_padded, block.n_inputs))]).astype(np.float16)
    fc2 = np.concatenate([*columns, np.zeros((block.n_neurons, n_padded))], axis=1).astype(np.float16)
    return fc1, fc2


def _half(array: AnyArray) -> AnyArray:
    """Return an array in float16, without infinities."""
    half: AnyArray = np.clip(array, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16)
    return half
