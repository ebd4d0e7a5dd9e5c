"""Vectors of bytes: what the compiled loops give is what the plain functions say, also at the ends of their range."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from ripple_place.kernels.byte_rows import N_LANES, insertion_saving, pair_saving, step_row


@njit
def _compiled_pair(left, right, start, end, reach):
    return pair_saving(left, right, start, end, reach)


@njit
def _compiled_insertion(left, right, head, tail, is_active, start, end, reach, length):
    return insertion_saving(left, right, head, tail, is_active, start, end, reach, length)


@njit
def _compiled_step(source, cap, target):
    step_row(source, cap, target)


@pytest.mark.parametrize("reach", [2, 7, 22, 254, 255])
@pytest.mark.parametrize("n_vectors", [1, 31, 32, 33, 100])
def test_savings_are_those_of_the_plain_functions(reach: int, n_vectors: int) -> None:
    """Distances up to 255 do not wrap, and sums do not overflow, however many tokens there are."""
    rng = np.random.default_rng(n_vectors)
    n_tokens = n_vectors * N_LANES
    left, right, head, tail = rng.integers(1, min(reach, 254), (4, n_tokens), endpoint=True).astype(np.uint8)
    is_active = rng.choice([0, 255], n_tokens).astype(np.uint8)
    for start, end in ((0, n_tokens), (n_tokens // 2 // N_LANES * N_LANES, n_tokens), (0, 0)):
        expected = sum(max(0, reach - int(a) - int(b)) for a, b in zip(left[start:end], right[start:end], strict=True))
        assert pair_saving(left, right, start, end, reach) == expected
        assert _compiled_pair(left, right, start, end, reach) == expected
        for length in (1, 4, 255):
            args = (left, right, head, tail, is_active, start, end, reach, length)
            assert _compiled_insertion(*args) == insertion_saving(*args)


def test_the_largest_sums_fit() -> None:
    """All bytes at their extremes."""
    least, none = np.zeros(4096, np.uint8), np.zeros(4096, np.uint8)
    args = (least, least, least, least, none, 0, 4096, 255, 0)
    assert _compiled_insertion(*args) == insertion_saving(*args) == 3 * 255 * 4096


@pytest.mark.parametrize("cap", [2, 7, 254])
def test_step_row(cap: int) -> None:
    """One further, up to the cap, in place or not."""
    source = np.resize(np.arange(1, 256, dtype=np.uint8), 2 * N_LANES)
    source = np.minimum(source, cap).astype(np.uint8)
    expected = [min(int(far) + 1, cap) for far in source]
    for step in (step_row, _compiled_step):
        target = np.zeros_like(source)
        step(source, cap, target)
        assert target.tolist() == expected
        in_place = source.copy()
        step(in_place, cap, in_place)
        assert in_place.tolist() == expected
