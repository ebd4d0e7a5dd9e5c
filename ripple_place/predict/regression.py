"""Reduced-rank regression: the best linear predictor of a rank, in closed form.

Inputs are standardised, targets centred and divided by what is typical of a neuron, so that rare neurons count as much
as frequent ones.

References
----------
A. J. Izenman, "Reduced-rank regression for the multivariate linear model", J. Multivariate Analysis 5 (1975): with
``X^T X = L L^T``, the best map of rank r goes through the r leading left singular vectors of ``L^-1 X^T Y``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.arrays import BoolArray, Float32Array, Float64Array, Int64Array
    from ripple_place.predict.examples import Examples

RIDGE = 1e-3
"""Penalty on the squared weights, relative to the mean of the diagonal in the normal equations."""
_LEAST_SPREAD = 1e-3
"""Of an input, relative to the root mean square of all: below it, an input counts as constant."""


@dataclass(frozen=True, eq=False)
class Standard:
    """How inputs are standardised: ``(x - mean) / spread``.

    Attributes
    ----------
    mean, spread : ndarray of shape (n_inputs,), float32
    """

    mean: Float32Array
    spread: Float32Array

    @classmethod
    def of(cls, examples: Examples) -> Standard:
        """Return mean and standard deviation over the rows, in two passes."""
        n_inputs = examples.x.shape[1]
        total, squares = np.zeros(n_inputs), np.zeros(n_inputs)
        for some in examples.chunks():
            total += examples.inputs(some).sum(axis=0, dtype=np.float64)
        mean = total / len(examples)
        for some in examples.chunks():
            squares += ((examples.inputs(some) - mean) ** 2).sum(axis=0)
        spread = np.sqrt(squares / len(examples))
        floor = _LEAST_SPREAD * np.sqrt((spread**2).mean()) or 1.0
        return cls(mean.astype(np.float32), np.maximum(spread, floor).astype(np.float32))

    def __call__(self, x: Float32Array) -> Float32Array:
        """Return inputs standardised."""
        return (x - self.mean) / self.spread


@dataclass(frozen=True, eq=False)
class LowRank:
    """A map of standardised inputs: ``up (down x) + bias``; attributes as of `BlockPredictor`, all in float32."""

    down: Float32Array
    up: Float32Array
    bias: Float32Array

    def of_raw_inputs(self, standard: Standard) -> LowRank:
        """Return the same map of inputs as they come."""
        down = self.down / standard.spread
        shift = self.up.astype(np.float64) @ (down.astype(np.float64) @ standard.mean)
        return LowRank(down, self.up, (self.bias - shift).astype(np.float32))


def input_square(examples: Examples, standard: Standard) -> Float64Array:
    """Return ``X^T X`` of the standardised inputs; shape (n_inputs, n_inputs)."""
    n_inputs = examples.x.shape[1]
    square = np.zeros((n_inputs, n_inputs))
    for some in examples.chunks():
        x = standard(examples.inputs(some))
        square += x.T @ x
    return square


def reduced_rank_regression(
    examples: Examples, standard: Standard, rank: int, targets: Callable[[Int64Array], Float32Array | BoolArray],
    mean: Float64Array, typical: Float64Array, square: Float64Array | None = None,
) -> LowRank:  # fmt: skip
    """Return the best map of standardised inputs to ``(target - mean) / typical``.

    Parameters
    ----------
    examples : Examples
    standard : Standard
    rank : int
        At most that of the inputs.
    targets : callable
        Takes places of rows as `Examples.fires` does; returns shape (n, n_neurons).
    mean, typical : ndarray of shape (n_neurons,), float64
        The mean of the targets over the examples, and how much they vary.
    square : ndarray of shape (n_inputs, n_inputs), float64, optional
        `input_square`, where it is known.

    Returns
    -------
    LowRank
        With a bias of 0, and columns of `up` as long as rows of `down`.

    Notes
    -----
    Time O(n_rows * n_inputs * (n_inputs + n_neurons) + n_inputs^3), memory O(n_inputs * (n_inputs + n_neurons)).
    """
    n_inputs, n_neurons = examples.x.shape[1], mean.size
    square = input_square(examples, standard) if square is None else square.copy()
    product = np.zeros((n_inputs, n_neurons), np.float32)
    scaled_mean, factor = (mean / typical).astype(np.float32), (1 / typical).astype(np.float32)
    for some in examples.chunks():
        x = standard(examples.inputs(some))
        product += x.T @ (targets(some) * factor - scaled_mean)
    square[np.diag_indices(n_inputs)] += RIDGE * max(float(np.trace(square)) / n_inputs, 1e-12)
    lower = np.linalg.cholesky(square)
    whitened = np.linalg.solve(lower, product.astype(np.float64))
    _, vectors = np.linalg.eigh(whitened @ whitened.T)
    leading = vectors[:, ::-1][:, :rank]
    # The sign of an eigenvector is free: the largest entry is made positive, so that it does not depend on the library.
    leading = leading * np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(leading.shape[1])])
    down, up = np.linalg.solve(lower.T, leading).T, whitened.T @ leading
    balance = np.sqrt(np.linalg.norm(up, axis=0) / np.maximum(np.linalg.norm(down, axis=1), 1e-30))
    balance = np.maximum(balance, 1e-6)
    return LowRank(
        (down * balance[:, None]).astype(np.float32), (up / balance).astype(np.float32), np.zeros(n_neurons, np.float32)
    )
