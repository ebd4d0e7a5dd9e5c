"""Execution order: a prompt layer by layer, then tokens one by one, each through all layers."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.experts.accesses import list_accesses, unit_bytes_of
from ripple_place.trace.activation_trace import DECODE, PREFILL, ActivationTrace, BlockTrace, Magnitudes
from tests.trace_builders import pack, trace_of

EXPERTS = {"unit": "expert"}


def block_of_uses(rows: list[list[int]], n_experts: int = 4, index: list[int] | None = None) -> BlockTrace:
    """Return a block whose rows name experts by rank: the first has the largest weight."""
    bits = np.zeros((len(rows), n_experts), bool)
    experts, weights, starts = [], [], [0]
    for row, used in enumerate(rows):
        bits[row, used] = True
        for expert in sorted(used):
            experts.append(expert)
            weights.append(1.0 - 0.1 * used.index(expert))
        starts.append(len(experts))
    magnitudes = Magnitudes(np.array(starts, np.int64), np.array(experts, np.int32), np.array(weights, np.float32))
    return BlockTrace(n_experts, pack(bits), None if index is None else np.array(index, np.int32), magnitudes)


def test_a_prompt_passes_layer_by_layer_and_tokens_one_by_one() -> None:
    """Two tokens of a prompt, of which the second does not reach layer 1, then two that are generated."""
    blocks = {
        "layers.0": block_of_uses([[2, 0], [1, 3], [0, 1], [3, 2]]),
        "layers.1": block_of_uses([[1, 2], [3, 0], [2, 1]], index=[0, 2, 3]),
    }
    phases = np.array([PREFILL, PREFILL, DECODE, DECODE], np.uint8)
    accesses = list_accesses(ActivationTrace(blocks, 4, np.array([0]), None, EXPERTS, phases=phases))
    assert accesses.items.tolist() == [2, 0, 1, 3, 5, 6, 0, 1, 7, 4, 3, 2, 6, 5]
    assert accesses.tokens.tolist() == [0, 0, 1, 1, 0, 0, 2, 2, 2, 2, 3, 3, 3, 3]
    assert accesses.layers.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1]
    assert accesses.is_decode.tolist() == [False] * 6 + [True] * 8
    assert accesses.steps.tolist() == [0] * 6 + [1] * 4 + [2] * 4
    assert accesses.first_item.tolist() == [0, 4, 8]


def test_prompts_of_two_turns_do_not_mix() -> None:
    """A segment begins a new batch."""
    blocks = {"layers.0": block_of_uses([[0], [1], [2]]), "layers.1": block_of_uses([[0], [1], [2]])}
    phases = np.full(3, PREFILL, np.uint8)
    trace = ActivationTrace(blocks, 3, np.array([0, 1]), None, EXPERTS, phases=phases)
    assert list_accesses(trace).items.tolist() == [0, 4, 1, 2, 5, 6]


def test_without_phases_and_weights_tokens_are_generated_and_experts_ascend() -> None:
    """What a plain trace says."""
    bits = np.array([[0, 1, 1], [1, 0, 1]], bool)
    trace = ActivationTrace({"layers.0": BlockTrace(3, pack(bits))}, 2, np.array([0]), None, EXPERTS)
    accesses = list_accesses(trace)
    assert accesses.items.tolist() == [1, 2, 0, 2]
    assert accesses.is_decode.all()


def test_neurons_are_no_experts() -> None:
    """Refused, with what to give instead."""
    with pytest.raises(UsageError, match="blocks of neurons"):
        list_accesses(trace_of(np.ones((2, 3), bool)))


def test_bytes_of_experts_are_those_that_the_trace_records() -> None:
    """None where it does not."""
    block = {"layers.0": block_of_uses([[0]])}
    assert unit_bytes_of(ActivationTrace(block, 1, np.array([0]), None, EXPERTS)) == {}
    sized = ActivationTrace(block, 1, np.array([0]), None, {**EXPERTS, "unit_bytes": '{"layers.0": 7}'})
    assert unit_bytes_of(sized) == {"layers.0": 7}
