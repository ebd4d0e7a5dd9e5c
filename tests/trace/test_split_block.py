"""Rows in two parts: what is held out, what judges, and where there is nothing to hold out."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.trace.activation_trace import ActivationTrace
from ripple_place.trace.split_block import SplitBlock, held_out_token, judging_tokens
from tests.trace_builders import block_of, random_activity, unpack


@pytest.mark.parametrize(
    ("n_tokens", "starts", "first"),
    [(80, [0], 70), (80, [0, 10, 50], 50), (80, list(range(0, 80, 5)), 70), (1, [0], 1), (2, [0], 2)],
)
def test_the_last_segments_are_held_out(n_tokens: int, starts: list[int], first: int) -> None:
    """An eighth of the segments; of a single one, of its tokens; nothing where there are too few."""
    active = np.ones((n_tokens, 3), bool)
    trace = ActivationTrace({"layers.0": block_of(active)}, n_tokens, np.array(starts))
    assert held_out_token(trace) == first
    assert SplitBlock.of_trace(trace, "layers.0").n_searched == first


def test_rows_of_an_expert() -> None:
    """Rows are held out by their tokens; an expert that saw none of the others is searched as a whole."""
    for tokens, row in (([0, 5, 69, 70, 79], 3), ([71, 75], 2), ([0, 1], 2)):
        block = block_of(np.ones((len(tokens), 3), bool), token_index=tokens)
        trace = ActivationTrace({"layers.0": block}, 80, np.array([0]))
        assert SplitBlock.of_trace(trace, "layers.0").n_searched == row


def test_the_parts_are_the_rows() -> None:
    """The rows searched and the rows held out, in order; the latter judge, and values of rows are cut alike."""
    active = random_activity(np.random.default_rng(0), 40, 30, 0.3)
    rows = SplitBlock(block_of(active), 30)
    assert rows.held_out is not None
    np.testing.assert_array_equal(unpack(rows.searched), active[:30])
    np.testing.assert_array_equal(unpack(rows.held_out), active[30:])
    np.testing.assert_array_equal(unpack(rows.judging), active[30:])
    assert rows.judging_of(np.arange(40)).tolist() == list(range(30, 40))
    assert (rows.has_held_out, rows.n_judging, rows.first_judging) == (True, 10, 30)
    other = rows.with_block(block_of(~active))
    np.testing.assert_array_equal(unpack(other.searched), ~active[:30])


def test_without_rows_held_out_all_judge() -> None:
    """One definition of "all, where none is held out"."""
    active = random_activity(np.random.default_rng(1), 12, 9, 0.3)
    rows = SplitBlock.unsplit(block_of(active))
    assert rows.held_out is None
    np.testing.assert_array_equal(unpack(rows.judging), active)
    assert (rows.has_held_out, rows.n_judging, rows.first_judging) == (False, 12, 0)
    assert rows.judging_of(np.arange(12)).size == 12


def test_the_latest_rows() -> None:
    """Fewer rows to search, the last ones; all that are held out."""
    active = random_activity(np.random.default_rng(2), 40, 30, 0.3)
    rows = SplitBlock(block_of(active), 30).latest(12)
    np.testing.assert_array_equal(unpack(rows.block), active[18:])
    assert (rows.n_searched, rows.n_judging) == (12, 10)
    assert SplitBlock(block_of(active), 30).latest(99).n_searched == 30
    assert SplitBlock(block_of(active), 30).latest(0).searched.n_rows == 0


@pytest.mark.parametrize(("n_tokens", "expected"), [(80, (10, True)), (1, (1, False)), (2, (2, False))])
def test_tokens_that_judge(n_tokens: int, expected: tuple[int, bool]) -> None:
    """Those held out, or all of a trace too short to hold any out."""
    trace = ActivationTrace({"layers.0": block_of(np.ones((n_tokens, 3), bool))}, n_tokens, np.array([0]))
    assert judging_tokens(trace) == expected
