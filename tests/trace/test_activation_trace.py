"""Traces in memory: what holds together, and every way it may not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ripple_place.errors import TraceFormatError
from ripple_place.trace import activation_trace
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace, Magnitudes
from tests.trace_builders import block_of, random_activity, trace_of, unpack


@pytest.mark.parametrize("n_neurons", [1, 7, 8, 9, 64, 65])
@pytest.mark.parametrize("n_rows", [0, 1, 5])
def test_bits_are_neurons(n_neurons: int, n_rows: int) -> None:
    """Neuron j of row t is bit j % 8 of byte [t, j // 8], whether or not neurons fill their bytes."""
    active = random_activity(np.random.default_rng(n_neurons), n_rows, n_neurons)
    block = block_of(active)
    assert (block.n_neurons, block.n_rows) == (n_neurons, n_rows)
    np.testing.assert_array_equal(unpack(block), active)
    for t, j in np.argwhere(active):
        assert block.active[t, j // 8] >> (j % 8) & 1


@pytest.mark.parametrize(
    ("n_neurons", "active", "token_index", "match"),
    [
        (0, np.zeros((2, 0)), None, r"active: found shape \[2, 0\]; expected \[n_rows, 0\] for 0 neurons"),
        (9, np.zeros((2, 1)), None, r"active: found shape \[2, 1\]; expected \[n_rows, 2\] for 9 neurons"),
        (8, np.zeros((2, 2)), None, r"active: found shape \[2, 2\]; expected \[n_rows, 1\]"),
        (8, np.zeros(8), None, r"active: found shape \[8\]"),
        (
            4,
            np.array([[16]]),
            None,
            "active: found bits set past neuron 3; expected zeros there. Pack .* bitorder=.little",
        ),
        (8, np.zeros((2, 1)), [0], r"token_index: found shape \[1\] or tokens out of order; expected 2 ascending"),
        (8, np.zeros((2, 1)), [1, 1], "token_index: found"),
        (8, np.zeros((2, 1)), [1, 0], "token_index: found"),
        (8, np.zeros((5, 1)), [0, 2**31 - 1, -(2**31), -1, 5], "token_index: found"),
    ],
)
def test_blocks_that_do_not_hold_together(
    n_neurons: int, active: np.ndarray, token_index: list[int] | None, match: str
) -> None:
    """Shapes, stray bits (big bit order shows itself so), and tokens out of order, also where int32 would wrap."""
    index = None if token_index is None else np.array(token_index, np.int32)
    with pytest.raises(TraceFormatError, match=match):
        BlockTrace(n_neurons, active.astype(np.uint8), index)


SIZED = np.array([[1, 0, 1, 0, 0, 0, 0, 0, 1], [0] * 9, [0, 1, 1, 0, 0, 0, 0, 0, 0]])
"""Active neurons of three tokens: 0, 2, 8; none; 1, 2."""


def sized_block(indptr: list[int], indices: list[int], values: list[float]) -> BlockTrace:
    """Return a block of `SIZED` with these magnitudes."""
    matrix = Magnitudes(np.array(indptr), np.array(indices, np.int32), np.array(values, np.float32))
    return BlockTrace(9, block_of(SIZED).active, None, matrix)


@pytest.mark.parametrize("n_checked", [1, 3, 100])
@pytest.mark.parametrize(
    ("indptr", "indices", "values", "match"),
    [
        ([0, 3, 3, 5], [0, 2, 9, 1, 2], [1, 2, 3, 4, 5], "magnitude.indices: found neuron 9 in row 0; expected neur"),
        ([0, 3, 3, 5], [0, 2, 8, 1, 99], [1, 2, 3, 4, 5], "found neuron 99 in row 2; expected neurons from 0 to 8"),
        ([0, 3, 3, 5], [0, 2, 8, -1, 2], [1, 2, 3, 4, 5], "found neuron -1 in row 2"),
        ([0, 3, 3, 5], [-(2**31), 2, 8, 1, 2], [1, 2, 3, 4, 5], "found neuron -2147483648 in row 0"),
        ([0, 3, 3, 5], [0, 2, 8, 2, 1], [1, 2, 3, 4, 5], "found neuron 1 out of order in row 2; expected ascending"),
        ([0, 3, 3, 5], [0, 0, 8, 1, 2], [1, 2, 3, 4, 5], "found neuron 0 out of order in row 0"),
        ([0, 3, 3, 5], [0, 2, 8, 1, 3], [1, 2, 3, 4, 5], "found neuron 3, which does not fire, in row 2; expected mag"),
        ([0, 3, 4, 5], [0, 2, 8, 1, 2], [1, 2, 3, 4, 5], "found neuron 1, which does not fire, in row 1"),
        ([0, 3, 3, 5], [0, 2, 8, 1, 2], [1, 2, np.nan, 4, 5], "magnitude.values: found a value of neuron 8 that is"),
        ([0, 3, 3, 5], [0, 2, 8, 1, 2], [1, 2, 3, 4, -np.inf], "found a value of neuron 2 that is NaN.* in row 2"),
        ([0, 3, 5], [0, 2, 8, 1, 2], [1, 2, 3, 4, 5], "magnitude.indptr: found 3 starts; expected 4"),
        ([0, 3, 2, 5], [0, 2, 8, 1, 2], [1, 2, 3, 4, 5], "magnitude: found"),
        ([0, 3, 3, 6], [0, 2, 8, 1, 2], [1, 2, 3, 4, 5], "magnitude: found"),
    ],
)  # fmt: skip
def test_magnitudes_that_are_not_those_of_the_bits(
    monkeypatch: pytest.MonkeyPatch, n_checked: int, indptr: list[int], indices: list[int], values: list[float],
    match: str,
) -> None:  # fmt: skip
    """An index out of range would be read out of an array; a magnitude of an idle neuron contradicts the trace."""
    monkeypatch.setattr(activation_trace, "_CHECKED_VALUES", n_checked)
    with pytest.raises(TraceFormatError, match=match):
        sized_block(indptr, indices, values)


@pytest.mark.parametrize("n_checked", [1, 3, 100])
def test_magnitudes_of_some_active_neurons(monkeypatch: pytest.MonkeyPatch, n_checked: int) -> None:
    """All that fire, or fewer: a magnitude may have been dropped, or rounded to zero."""
    monkeypatch.setattr(activation_trace, "_CHECKED_VALUES", n_checked)
    assert sized_block([0, 3, 3, 5], [0, 2, 8, 1, 2], [1, -2, 3, 4, 0]).magnitudes is not None
    assert sized_block([0, 1, 1, 2], [8, 1], [1, 2]).magnitudes is not None
    assert sized_block([0, 0, 0, 0], [], []).magnitudes is not None


def test_blocks_come_in_model_order() -> None:
    """Layer 10 after layer 9, however they were recorded."""
    block = block_of(np.ones((3, 2)))
    trace = ActivationTrace({"layers.10": block, "layers.9": block}, 3, np.array([0]))
    assert list(trace.blocks) == ["layers.9", "layers.10"]


def test_select() -> None:
    """Some blocks, with the tokens, segments and metadata of all."""
    block = block_of(np.ones((3, 2)))
    trace = ActivationTrace(
        {"layers.0": block, "layers.1": block}, 3, np.array([0, 2]), np.array([5, 6, 7], np.int32), {"model": "m"}
    )
    part = trace.select(["layers.1"])
    assert list(part.blocks) == ["layers.1"]
    assert (part.n_tokens, part.segment_starts.tolist(), part.metadata) == (3, [0, 2], {"model": "m"})
    assert part.tokens is trace.tokens


def test_experts_see_some_tokens() -> None:
    """A block may have a row for some tokens only, for the last of them, or for none."""
    experts = {
        "layers.0.experts.0": block_of(np.ones((2, 3)), [1, 4]),
        "layers.0.experts.1": block_of(np.ones((0, 3)), []),
    }
    assert ActivationTrace(experts, 5, np.array([0])).n_tokens == 5


ROWS = {"layers.0": block_of(np.ones((3, 2)))}
EXPERT = {"layers.0.experts.0": block_of(np.ones((2, 3)), [1, 4])}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"blocks": {}}, "trace: found 0 blocks, 3 tokens; expected at least one of each"),
        ({"n_tokens": 0}, "trace: found 1 blocks, 0 tokens"),
        ({"n_tokens": 4}, "layers.0: found 3 rows; expected tokens below 4. Record all blocks on the same tokens"),
        ({"n_tokens": 2}, "layers.0: found 3 rows"),
        ({"blocks": EXPERT, "n_tokens": 4}, "layers.0.experts.0: found 2 rows; expected tokens below 4"),
        ({"blocks": {"layers.0": block_of(np.ones((1, 2)), [-1])}}, "layers.0: found 1 rows"),
        ({"segment_starts": np.empty(0, np.int64)}, r"segment_starts: found \[\]; expected ascending tokens from 0"),
        ({"segment_starts": np.array([1])}, r"segment_starts: found \[1\]"),
        ({"segment_starts": np.array([0, 3])}, r"segment_starts: found \[0, 3\]; .* below 3"),
        ({"segment_starts": np.array([0, 2, 1])}, "segment_starts: found"),
        ({"segment_starts": np.array([0, 0])}, "segment_starts: found"),
        ({"segment_starts": np.array([0, 2**63 - 1, -(2**63), -1, 2])}, "segment_starts: found"),
        ({"segment_starts": np.zeros((1, 1), np.int64)}, "segment_starts: found"),
        ({"tokens": np.zeros(4, np.int32)}, r"tokens: found shape \[4\]; expected \[3\]"),
    ],
)
def test_traces_that_do_not_hold_together(changes: dict[str, Any], match: str) -> None:
    """No blocks, no tokens, rows that are no tokens, segments that are no partition: each by name."""
    with pytest.raises(TraceFormatError, match=match):
        ActivationTrace(**{"blocks": ROWS, "n_tokens": 3, "segment_starts": np.array([0])} | changes)


def test_builder() -> None:
    """The tests' own builder makes what it says."""
    trace = trace_of(np.eye(3), np.ones((3, 9)))
    assert [block.n_neurons for block in trace.blocks.values()] == [3, 9]
