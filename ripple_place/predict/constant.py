"""A direction in which all inputs look the same, for formats that have matrices and no bias.

Behind a LayerNorm, ``x = gain * n + bias`` and the entries of n sum to 0: weights of ``1 / gain``, scaled, give 1 for
every token. They are found by least squares, from what the regression sums up anyway, so that no one has to look at
the model's norms. Behind an RMSNorm nothing is exactly constant, and the best direction is only near it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ripple_place.arrays import Float32Array, Float64Array
    from ripple_place.predict.examples import Examples
    from ripple_place.predict.regression import Standard

RIDGE = 1e-7
"""Penalty on the squared weights of standardised inputs, relative to their mean square: what sums in float32 leave of a
direction in which nothing varies."""


def constant_direction(examples: Examples, standard: Standard, square: Float64Array) -> Float32Array:
    """Return the weights v that minimise the mean of ``(v x - 1)^2``.

    Parameters
    ----------
    examples : Examples
    standard : Standard
        Of the examples.
    square : ndarray of shape (n_inputs, n_inputs), float64
        ``Z^T Z`` of their standardised inputs Z.

    Returns
    -------
    ndarray of shape (n_inputs,), float32
        Zeros if the inputs have a mean of 0.

    Notes
    -----
    With the mean m of the inputs in units of their spread, the normal matrix is ``Z^T Z / n_rows + m m^T``. The length
    of the solution, from which the penalty takes something, is fitted once more without it. Time O(n_inputs^3 +
    n_rows * n_inputs), memory O(n_inputs^2).
    """
    covariance = square / len(examples)
    diagonal = np.diag_indices_from(covariance)
    covariance[diagonal] += RIDGE * max(float(covariance[diagonal].mean()), 1e-12)
    mean = standard.mean.astype(np.float64) / standard.spread
    weights = np.linalg.solve(covariance, mean)
    # Sherman-Morrison: what m m^T adds to the matrix only scales the solution.
    direction = weights / (1 + mean @ weights) / standard.spread
    total = squares = 0.0
    for some in examples.chunks():
        values = examples.inputs(some) @ direction
        total, squares = total + float(values.sum()), squares + float(values @ values)
    found: Float32Array = (direction * (total / squares if squares else 0.0)).astype(np.float32)
    return found
