"""The column gather against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.kernels.gather import gather_columns


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (64, 40), (5, 0), (0, 5)])
def test_gather_columns(dtype: str, shape: tuple[int, int]) -> None:
    """Every element lands where numpy puts it, whatever its width, in degenerate matrices too."""
    rng = np.random.default_rng(0)
    source = rng.integers(0, 255, shape).astype(dtype)
    order = rng.permutation(shape[1]).astype(np.uint32)
    out = np.zeros_like(source)
    gather_columns(source, order, out)
    np.testing.assert_array_equal(out, source[:, order])


def test_gather_some_columns() -> None:
    """The order may name fewer columns than there are, or one twice."""
    source = np.arange(12, dtype=np.uint16).reshape(3, 4)
    out = np.zeros((3, 2), np.uint16)
    gather_columns(source, np.array([3, 3], np.uint32), out)
    np.testing.assert_array_equal(out, source[:, [3, 3]])
