"""The path objective: on the trace, it is the number of reads, counted one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.ordering.objective import reads_per_token
from tests.trace_builders import bits_of, planted_chain, random_activity


def count_reads(active: np.ndarray, order: np.ndarray) -> int:
    """Return the runs of active slots over all tokens, slot by slot."""
    n_reads = 0
    for row in active[:, order]:
        before = False
        for now in row:
            n_reads += now and not before
            before = now
    return n_reads


@given(st.integers(1, 70), st.integers(1, 70), st.floats(0, 1), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_equal_to_counting_runs(n_rows: int, n_neurons: int, share: float, seed: int) -> None:
    """Sum f(i) - sum f(order[k], order[k+1]) is the number of runs, whatever the order; the same backwards."""
    rng = np.random.default_rng(seed)
    active = random_activity(rng, n_rows, n_neurons, share)
    order = rng.permutation(n_neurons).astype(np.int32)
    bits = bits_of(active)
    assert reads_per_token(bits, order) == pytest.approx(count_reads(active, order) / n_rows)
    assert reads_per_token(bits, order[::-1]) == reads_per_token(bits, order)


def test_four_neurons_by_hand() -> None:
    """{0, 2}, {}, {0, 1, 3} in order 0 1 2 3: two reads, none, two. In order 2 0 1 3: one, none, one."""
    bits = bits_of(np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]]))
    assert reads_per_token(bits, np.array([0, 1, 2, 3], np.int32)) == 4 / 3
    assert reads_per_token(bits, np.array([2, 0, 1, 3], np.int32)) == 2 / 3


def test_no_tokens() -> None:
    """An expert that no token reached costs nothing."""
    assert reads_per_token(bits_of(np.zeros((0, 5))), np.arange(5, dtype=np.int32)) == 0


def test_hidden_chain() -> None:
    """In the hidden order every token is one read; in any order it is one or two."""
    active, order = planted_chain(np.random.default_rng(0), 40, 100)
    assert reads_per_token(bits_of(active), order.astype(np.int32)) == 1
    assert 1 < reads_per_token(bits_of(active), np.arange(40, dtype=np.int32)) <= 2
