"""The factor by which a token's errors matter more than another's."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.trace.sensitivity import sensitivity_features, sensitivity_of


def test_features() -> None:
    """1, the logarithm of the length, and the direction with a mean square of 1."""
    rows = np.random.default_rng(0).normal(size=(5, 7)) * 10
    features = sensitivity_features(rows)
    assert features.shape == (5, 9)
    np.testing.assert_array_equal(features[:, 0], 1)
    np.testing.assert_allclose(np.exp(features[:, 1]), np.sqrt((rows**2).sum(1)))
    np.testing.assert_allclose((features[:, 2:] ** 2).mean(1), 1)
    np.testing.assert_allclose(features[:, 2:] * rows[:, :1], rows * features[:, 2:3])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sensitivity(dtype: type) -> None:
    """It is exp(0.5 w . features), in float32, whatever the dtype of the states."""
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(5, 7)).astype(dtype), rng.normal(size=9).astype(np.float32)
    s = sensitivity_of(weights, rows)
    assert s.dtype == np.float32
    np.testing.assert_allclose(s, np.exp(0.5 * sensitivity_features(rows) @ weights), rtol=1e-6)


def test_extremes() -> None:
    """A row of zeros, or weights beyond what float32 holds, give finite numbers; no rows give none."""
    rows = np.array([[0.0, 0.0], [1e30, 1e30]])
    for weights in ([0, 1, 1, 1], [0, 1e6, 0, 0], [0, -1e6, 0, 0]):
        assert np.isfinite(sensitivity_of(np.array(weights, np.float32), rows)).all()
    assert sensitivity_of(np.ones(4, np.float32), np.empty((0, 2))).shape == (0,)
