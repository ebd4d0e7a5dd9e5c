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
    from ripple_place.predict.regression import Standard

RIDGE = 1e-6
"""Penalty on the squared weights of standardised inputs, relative to their mean square."""


def constant_direction(standard: Standard, square: Float64Array, n_rows: int) -> Float32Array:
    """Return the weights v that minimise the mean of ``(v x - 1)^2``.

    Parameters
    ----------
    standard : Standard
        Of the rows.
    square : ndarray of shape (n_inputs, n_inputs), float64
        ``Z^T Z`` of the standardised inputs Z.
    n_rows : int

    Returns
    -------
    ndarray of shape (n_inputs,), float32
        Zeros if the inputs have a mean of 0.

    Notes
    -----
    With the mean m of the inputs in units of their spread, the normal matrix is ``Z^T Z / n_rows + m m^T``. Time
    O(n_inputs^3), memory O(n_inputs^2).
    """
    covariance = square / n_rows
    diagonal = np.diag_indices_from(covariance)
    covariance[diagonal] += RIDGE * max(float(covariance[diagonal].mean()), 1e-12)
    mean = standard.mean.astype(np.float64) / standard.spread
    weights = np.linalg.solve(covariance, mean)
    # Sherman-Morrison: what m m^T adds to the matrix only scales the solution.
    direction: Float32Array = (weights / (1 + mean @ weights) / standard.spread).astype(np.float32)
    return direction
