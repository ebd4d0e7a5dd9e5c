"""Low-rank predictors: two small matrices that tell from the input of an FFN which of its neurons will fire.

The shapes are those of Deja Vu (arXiv 2310.17157, section 4.1) and PowerInfer (arXiv 2312.12456, section 5.1), without
the activation function that PowerInfer has between the two: with a bias in its place, both are linear in the input.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.predict.params import place_of_recall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import AnyArray, BoolArray, Float32Array, Int32Array

REGRESSION, LOGISTIC, POISSON = METHODS = ("regression", "logistic", "poisson")
"""By which a predictor was fitted (`ripple_place.predict.fit`)."""
DEFAULT_RECALL = 0.99
MAX_SCORE = 30.0
"""Beyond it a score says no more; float32 holds ``exp(30)``."""


@dataclass(frozen=True, eq=False)
class BlockPredictor:
    """The predictor of one block: ``score = up (down x) + bias``; a neuron is predicted where it reaches a threshold.

    Attributes
    ----------
    down : ndarray of shape (rank, n_inputs), float16
        Multiplied with the input x of the FFN.
    up : ndarray of shape (n_neurons, rank), float16
    bias : ndarray of shape (n_neurons,), float32
    threshold : ndarray of shape (n_recalls,), float32
        The lowest score that is predicted to fire, for each recall of `PredictorNote.recalls`.
    scale : ndarray of shape (n_neurons,), float32, or None
        Where magnitudes are predicted: ``|h|`` is about ``scale * log(1 + exp(score))``.
    constant : ndarray of shape (n_inputs,), float32, or None
        Weights with which inputs give about 1 (`ripple_place.predict.constant`): formats without a bias need it, and
        nothing else does.
    """

    down: AnyArray
    up: AnyArray
    bias: Float32Array
    threshold: Float32Array
    scale: Float32Array | None = None
    constant: Float32Array | None = None

    @property
    def n_neurons(self) -> int:
        """Neurons of the block."""
        return self.bias.size

    @property
    def n_inputs(self) -> int:
        """Width of the input."""
        return int(self.down.shape[1])

    @property
    def rank(self) -> int:
        """Rows of `down`."""
        return int(self.down.shape[0])

    @property
    def n_bytes(self) -> int:
        """Bytes that a reader holds in DRAM to use it: no `constant`, and of the thresholds it needs one."""
        return self.down.nbytes + self.up.nbytes + self.bias.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def scores(self, x: AnyArray) -> Float32Array:
        """Return the scores of rows.

        Parameters
        ----------
        x : ndarray of shape (n_rows, n_inputs)

        Returns
        -------
        ndarray of shape (n_rows, n_neurons), float32

        Notes
        -----
        Time O(n_rows * rank * (n_inputs + n_neurons)), in float32.
        """
        hidden = np.asarray(x, np.float32) @ self.down.astype(np.float32).T
        scores = hidden @ self.up.astype(np.float32).T
        scores += self.bias
        return scores.astype(np.float32, copy=False)

    def fires(self, scores: Float32Array, place: int) -> BoolArray:
        """Return which neurons are predicted to fire, with the threshold of the recall at this place of the list."""
        fires: BoolArray = np.greater_equal(scores, self.threshold[place])
        return fires

    def magnitudes(self, scores: Float32Array) -> Float32Array:
        """Return the predicted absolute outputs, of the shape of `scores`; only where magnitudes are predicted."""
        assert self.scale is not None
        magnitudes: Float32Array = self.scale * softplus(scores)
        return magnitudes

    def in_order(self, order: Int32Array) -> BlockPredictor:
        """Return the predictor of neurons that lie in another order, ``order[slot]``."""
        scale = None if self.scale is None else self.scale[order]
        return replace(self, up=self.up[order], bias=self.bias[order], scale=scale)


def softplus(scores: Float32Array) -> Float32Array:
    """Return ``log(1 + exp(score))``, which grows from 0 to the score itself; float32."""
    grown: Float32Array = np.log1p(np.exp(np.clip(scores, -MAX_SCORE, MAX_SCORE)))
    return grown


@dataclass(frozen=True)
class PredictorNote:
    """How predictors were fitted.

    Attributes
    ----------
    predicts : str
        One of `ripple_place.predict.params.PREDICTS`.
    recalls : tuple of float
        Those that thresholds were set for, ascending.
    n_tokens : int
        Tokens of the text, those that thresholds were set on included.
    methods : mapping of str to str
        By block, what fitted best, one of `METHODS`.
    """

    predicts: str
    recalls: tuple[float, ...]
    n_tokens: int
    methods: Mapping[str, str] = field(default_factory=dict)

    @property
    def default_recall(self) -> float:
        """`DEFAULT_RECALL` where thresholds were set for it, else the highest of the recalls."""
        return DEFAULT_RECALL if DEFAULT_RECALL in self.recalls else self.recalls[-1]

    def place_of(self, recall: float) -> int:
        """Return the place of a recall among those that thresholds were set for.

        Raises
        ------
        UsageError
            If it is none of them.
        """
        return place_of_recall(recall, self.recalls)


@dataclass(frozen=True, eq=False)
class ModelPredictor:
    """The predictors of a model.

    Attributes
    ----------
    blocks : mapping of str to BlockPredictor
        In model order; blocks that no token reached, or whose input cannot be seen, have none.
    note : PredictorNote
    """

    blocks: Mapping[str, BlockPredictor]
    note: PredictorNote

    @property
    def n_bytes(self) -> int:
        """Bytes that a reader holds in DRAM."""
        return sum(block.n_bytes for block in self.blocks.values())

    def in_orders(self, orders: Mapping[str, Int32Array]) -> ModelPredictor:
        """Return the predictors of a model whose neurons lie in other orders, ``order[slot]`` by block."""
        return replace(self, blocks={name: block.in_order(orders[name]) for name, block in self.blocks.items()})
