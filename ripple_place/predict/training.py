"""Epochs over the examples: a low-rank map is made to tell the chance that a neuron fires, or how much it puts out.

Linear regression on bits spends its rank on neurons that fire often. Maximum likelihood does better: over `regression`,
it halves what is read in vain (docs/predictors.md).
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from ripple_place.predict.predictor import MAX_SCORE
from ripple_place.predict.regression import LowRank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from ripple_place.arrays import BoolArray, Float32Array, Int64Array
    from ripple_place.predict.examples import Examples
    from ripple_place.predict.regression import Standard

    Residual: TypeAlias = Callable[[Float32Array, Float32Array | BoolArray], Float32Array]

BATCH_ROWS = 256
N_STEPS = 600
"""Batches seen in all, by however many epochs that takes."""
FEWEST_EPOCHS = 3
LEARNING_RATE = 0.05
"""At the beginning; it falls along a cosine to 0."""
BIAS_RATE = 10.0
"""Times as fast: as scores become sharper, biases have a long way to go."""
_MOMENTUM, _SQUARES, _EPSILON = 0.9, 0.99, 1e-8
NEURONS_AT_A_TIME = 1024
"""A thread's share of a batch. Their number does not depend on that of threads, so that sums do not either."""


def logistic_residual(scores: Float32Array, fires: Float32Array | BoolArray) -> Float32Array:
    """Return the gradient of the logistic loss by the scores, which are overwritten: ``sigmoid(score) - fires``."""
    np.clip(scores, -MAX_SCORE, MAX_SCORE, out=scores)
    np.negative(scores, out=scores)
    np.exp(scores, out=scores)
    scores += 1
    np.reciprocal(scores, out=scores)
    scores -= fires
    return scores


def poisson_residual(scores: Float32Array, outputs: Float32Array | BoolArray) -> Float32Array:
    """Return the gradient by the scores of a Poisson loss whose mean is ``m = log(1 + exp(score))``.

    The loss is ``m - output log m``: an error counts relative to what is expected, so that the small outputs, which
    decide what is worth a read, are not drowned by the large ones.
    """
    np.clip(scores, -MAX_SCORE, MAX_SCORE, out=scores)
    grown = np.exp(scores)
    mean = np.log1p(grown)
    np.maximum(mean, 1e-6, out=mean)
    np.subtract(mean, outputs, out=scores)
    scores *= grown / ((1 + grown) * mean)
    return scores


def trained(
    start: LowRank, examples: Examples, standard: Standard, targets: Callable[[Int64Array], Float32Array | BoolArray],
    residual: Residual, *, seed: int, n_threads: int,
) -> LowRank:  # fmt: skip
    """Return the map after training it.

    Parameters
    ----------
    start : LowRank
        Of standardised inputs.
    examples : Examples
    standard : Standard
    targets : callable
        Takes places of rows as `Examples.fires` does; returns shape (n, n_neurons).
    residual : callable
        `logistic_residual` or `poisson_residual`.
    seed : int
        Of the order in which rows are seen.
    n_threads : int
        The result does not depend on it.

    Notes
    -----
    Adam [1]_ on all three arrays. Time for each of at least `N_STEPS` steps O(BATCH_ROWS * rank * (n_inputs +
    n_neurons)); memory of three times the map and a batch.

    References
    ----------
    .. [1] D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", arXiv 1412.6980, algorithm 1.
    """
    n_rows = len(examples)
    batch_rows = min(BATCH_ROWS, n_rows)
    n_batches = n_rows // batch_rows
    n_epochs = max(FEWEST_EPOCHS, math.ceil(N_STEPS / n_batches))
    down = _Weights(start.down.copy())
    parts = [
        (_Weights(start.up[first : first + NEURONS_AT_A_TIME].copy()),
         _Weights(start.bias[first : first + NEURONS_AT_A_TIME].copy()))
        for first in range(0, start.bias.size, NEURONS_AT_A_TIME)
    ]  # fmt: skip
    random = np.random.default_rng(seed)
    # Threads of ours take shares of fixed sizes. Those of the library would cut products up by how many there are.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(n_threads) as pool:
        for step, some in enumerate(_batches(random, n_rows, batch_rows, n_epochs), 1):
            rate = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / (n_epochs * n_batches)))
            x, wanted = standard(examples.inputs(some)), targets(some)
            hidden = x @ down.values.T

            def step_part(place: int, hidden: Float32Array = hidden, wanted: Float32Array | BoolArray = wanted,
                          rate: float = rate, step: int = step) -> Float32Array:  # fmt: skip
                up, bias = parts[place]
                first = place * NEURONS_AT_A_TIME
                scores = hidden @ up.values.T
                scores += bias.values
                error = residual(scores, wanted[:, first : first + NEURONS_AT_A_TIME])
                error /= len(hidden)
                passed_on: Float32Array = error @ up.values
                up.step(error.T @ hidden, rate, step)
                bias.step(error.sum(axis=0), rate * BIAS_RATE, step)
                return passed_on

            passed_on = sum(pool.map(step_part, range(len(parts))))
            down.step(passed_on.T @ x, rate, step)  # type: ignore[union-attr]
    return LowRank(
        down.values, np.concatenate([up.values for up, _ in parts]), np.concatenate([b.values for _, b in parts])
    )


def _batches(random: np.random.Generator, n_rows: int, batch_rows: int, n_epochs: int) -> Iterator[Int64Array]:
    """Yield places of rows, each at most once an epoch; ascending within a batch, since they may lie in a file."""
    for _ in range(n_epochs):
        places = random.permutation(n_rows)
        for first in range(0, n_rows - batch_rows + 1, batch_rows):
            yield np.sort(places[first : first + batch_rows])


@dataclass(eq=False)
class _Weights:
    """An array under training, with Adam's moments."""

    values: Float32Array
    _mean: Float32Array = field(init=False)
    _square: Float32Array = field(init=False)

    def __post_init__(self) -> None:
        self._mean, self._square = np.zeros_like(self.values), np.zeros_like(self.values)

    def step(self, gradient: Float32Array, rate: float, step: int) -> None:
        """Take one step; `step` counts from 1."""
        self._mean *= _MOMENTUM
        self._mean += (1 - _MOMENTUM) * gradient
        self._square *= _SQUARES
        self._square += (1 - _SQUARES) * gradient * gradient
        spread = np.sqrt(self._square / np.float32(1 - _SQUARES**step))
        spread += np.float32(_EPSILON)
        self.values -= np.float32(rate / (1 - _MOMENTUM**step)) * self._mean / spread
