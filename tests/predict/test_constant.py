"""The direction in which all inputs look the same."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.predict.constant import RIDGE, constant_direction
from ripple_place.predict.examples import Examples
from ripple_place.predict.regression import Standard, input_square
from tests.predict.builders import firing_on, layer_norm_inputs


def examples_of(x: np.ndarray) -> Examples:
    """Return all rows of some inputs, and a few neurons that fire on them."""
    return Examples(x.astype(np.float32), firing_on(np.random.default_rng(0), x, 8), np.arange(len(x)))


def direction_of(x: np.ndarray) -> np.ndarray:
    """Return the direction that is fitted on all rows."""
    examples = examples_of(x)
    standard = Standard.of(examples)
    return constant_direction(examples, standard, input_square(examples, standard))


@pytest.mark.parametrize("n_inputs", [16, 64, 256])
def test_behind_a_layer_norm_it_is_exact(n_inputs: int) -> None:
    """The entries of the standardised state sum to 0; also on rows that were not fitted."""
    x = layer_norm_inputs(np.random.default_rng(1), 2000, n_inputs)
    direction = direction_of(x[:1000])
    assert direction.dtype == np.float32
    np.testing.assert_allclose(x[1000:] @ direction, 1, atol=2e-3)


def test_elsewhere_it_is_the_least_squares() -> None:
    """Of the normal equations as they are written down, with the penalty in the same units."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((500, 12)) * rng.uniform(0.1, 10, 12) + rng.standard_normal(12)
    x = x.astype(np.float32).astype(np.float64)
    spread = x.std(axis=0)
    normal = x.T @ x / len(x) + RIDGE * np.diag(spread**2)
    expected = np.linalg.solve(normal, x.mean(axis=0))
    np.testing.assert_allclose(direction_of(x), expected, rtol=1e-3, atol=1e-5)


def test_inputs_that_never_change() -> None:
    """One such input is enough."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((300, 6))
    x[:, 2] = 4.0
    np.testing.assert_allclose(x @ direction_of(x), 1, atol=1e-3)


def test_inputs_of_mean_zero_have_none() -> None:
    """Nothing can be made of them; no division by 0."""
    x = np.concatenate([np.eye(6), -np.eye(6)] * 20)
    np.testing.assert_array_equal(direction_of(x), np.zeros(6))
    np.testing.assert_array_equal(direction_of(np.zeros((10, 4))), np.zeros(4))
