"""Rows copied to another place, against slices."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ripple_place.kernels.rows import copy_rows


@given(st.lists(st.integers(0, 4), max_size=8), st.integers(0, 2**32 - 1))
def test_rows_come_where_they_belong(lengths: list[int], seed: int) -> None:
    """Each with its own number added; what lies between is left alone."""
    rng = np.random.default_rng(seed)
    sizes = np.array(lengths, np.int64)
    source = rng.integers(0, 100, sizes.sum() + 3).astype(np.int32)
    starts = np.cumsum([0, *lengths[:-1]])[: sizes.size].astype(np.int64)
    order = rng.permutation(sizes.size)
    targets = np.zeros(sizes.size, np.int64)
    targets[order] = 2 + np.cumsum([0, *sizes[order][:-1]])[: sizes.size]
    offsets = rng.integers(0, 1000, sizes.size)
    target = np.full(source.size + 5, -1, np.int32)
    expected = target.copy()
    for start, goal, length, offset in zip(starts, targets, lengths, offsets, strict=True):
        expected[goal : goal + length] = source[start : start + length] + offset
    copy_rows(source, starts, target, targets, sizes, offsets)
    assert target.tolist() == expected.tolist()
