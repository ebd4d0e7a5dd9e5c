"""How much a token matters, estimated from the state that its FFN reads: a factor on what dropping its neurons costs.

Errors at one token raise the loss more than at another. A linear model of the logarithm, fitted while a model was
profiled (`ripple_place.capture.sensitivity`), tells which, from what is at hand before the FFN runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray, Float32Array, Float64Array

MAX_EXPONENT = 80
"""Beyond it the sensitivity is cut off: float32 ends at ``exp(88)``."""


def sensitivity_features(x: AnyArray) -> Float64Array:
    """Return what the linear model sees of a state: 1, the logarithm of its length, and its direction.

    Parameters
    ----------
    x : ndarray of shape (n_rows, d), any float dtype
        A state for each row.

    Returns
    -------
    ndarray of shape (n_rows, d + 2), float64
        ``1``, ``log |x|`` and ``x / |x| * sqrt(d)``, whose elements have a mean square of 1. A row of zeros counts as
        one of the smallest length that float32 has.
    """
    rows = np.asarray(x, np.float64)
    length = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.concatenate([np.ones_like(length), np.log(length), rows / length * np.sqrt(rows.shape[1])], axis=1)


def sensitivity_of(weights: Float32Array, x: AnyArray) -> Float32Array:
    """Return the sensitivity of tokens, ``s(x) = exp(0.5 * (weights . features(x)))``.

    The cost of dropping neuron i for a token, in nats, is about ``s(x) * importance[i] * h[i]**2``.

    Parameters
    ----------
    weights : ndarray of shape (d + 2,), float32
        ``{block}.sensitivity`` of a profile; its scale is such that the mean over the text it was fitted on is 1.
    x : ndarray of shape (n_rows, d), any float dtype
        What enters the FFN's up projection; the profile names its module.

    Returns
    -------
    ndarray of shape (n_rows,), float32
        Positive, without unit.

    Notes
    -----
    Time and memory O(n_rows * d).

    Examples
    --------
    >>> sensitivity_of(np.array([0, 2, 0, 0], np.float32), np.array([[3.0, 4.0], [0.6, 0.8]]))
    array([5., 1.], dtype=float32)
    """
    exponent = 0.5 * (sensitivity_features(x) @ np.asarray(weights, np.float64))
    return np.exp(np.clip(exponent, -MAX_EXPONENT, MAX_EXPONENT)).astype(np.float32)
