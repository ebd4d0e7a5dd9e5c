"""The largest entries of a row, against sorting."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.kernels.largest import mark_largest
from tests.reference.selection import largest


def marked(scores: list[float], k: int) -> list[bool]:
    """Return what the kernel marks; the array holds garbage before."""
    is_marked = np.full(len(scores), 9, np.uint8)
    before = np.array(scores, np.float64)
    mark_largest(before, k, is_marked)
    assert before.tolist() == scores, "the scores are not the kernel's to change"
    assert set(is_marked.tolist()) <= {0, 1}
    return is_marked.astype(bool).tolist()


few_values = st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1.0, 1e-300, 1e300])


@given(st.lists(st.one_of(few_values, st.floats(-1e3, 1e3)), max_size=30), st.integers(-3, 33))
@settings(max_examples=200, deadline=None)
def test_against_sorting(scores: list[float], k: int) -> None:
    """Any row, any k: ties, k below 1 and beyond the row."""
    assert marked(scores, k) == largest(scores, k)


@given(st.lists(few_values, min_size=1, max_size=40), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_exactly_k(scores: list[float], k: int) -> None:
    """However many entries equal the k-th."""
    assert sum(marked(scores, k)) == min(k, len(scores))


def test_by_hand() -> None:
    """Ties go to the first entry; zeros of both signs tie; infinity is a number."""
    assert marked([2.0, 3.0, 2.0, 2.0], 3) == [True, True, True, False]
    assert marked([-0.0, 0.0, -0.0], 1) == [True, False, False]
    assert marked([0.0, np.inf, np.inf, 1.0], 1) == [False, True, False, False]
    assert marked([], 0) == marked([], 3) == []


def test_a_slice_of_scratch() -> None:
    """Kernels hand over the beginning of longer arrays: what follows stays as it is."""
    scores, is_marked = np.arange(8.0), np.full(8, 9, np.uint8)
    mark_largest(scores[:3], 1, is_marked[:3])
    assert is_marked.tolist() == [0, 0, 1, 9, 9, 9, 9, 9]
