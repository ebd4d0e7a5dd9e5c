"""Which rows predictors are fitted on, and which are held out."""

from __future__ import annotations

import numpy as np

from ripple_place.predict.examples import split_examples
from ripple_place.trace.activation_trace import BlockTrace
from tests.predict.planted import block_with_magnitudes


def test_the_last_eighth_of_each_segment_is_held_out() -> None:
    """Segments of 16 and 24 tokens hold out their last 2 and 3."""
    block = BlockTrace(8, np.zeros((40, 1), np.uint8))
    fitted, held_out = split_examples(np.zeros((40, 3), np.float32), block, np.array([0, 16]), 40)
    assert held_out.rows.tolist() == [14, 15, 37, 38, 39]
    assert sorted([*fitted.rows, *held_out.rows]) == list(range(40))


def test_rows_of_an_expert_go_by_their_tokens() -> None:
    """Row i is of token ``token_index[i]``: only those in the last eighth of the text are held out."""
    block = BlockTrace(8, np.zeros((4, 1), np.uint8), np.array([1, 5, 14, 15], np.int32))
    fitted, held_out = split_examples(np.zeros((4, 3), np.float32), block, np.array([0]), 16)
    assert (fitted.rows.tolist(), held_out.rows.tolist()) == ([0, 1], [2, 3])


def test_one_row_is_both() -> None:
    """Nothing better can be had of so short a text."""
    block = BlockTrace(8, np.zeros((1, 1), np.uint8))
    fitted, held_out = split_examples(np.zeros((1, 3), np.float32), block, np.array([0]), 1)
    assert fitted.rows.tolist() == held_out.rows.tolist() == [0]


def test_rows_are_read_by_place() -> None:
    """Inputs, bits and absolute outputs of the same rows."""
    outputs = np.array([[0, -2, 0], [1, 0, 0], [0, 0, 3], [0, 4, -5]], np.float32)
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    fitted, _ = split_examples(x, block_with_magnitudes(outputs), np.array([0]), 4)
    some = np.array([0, 2])
    assert fitted.inputs(some).tolist() == x[[0, 2]].tolist()
    assert fitted.fires(some).tolist() == (outputs[[0, 2]] != 0).tolist()
    assert fitted.outputs(some).tolist() == np.abs(outputs[[0, 2]]).tolist()
