"""Batches: the union of sequences, against sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.trace.activation_trace import ActivationTrace
from ripple_place.trace.union import batch_steps, union_of_segments
from tests.trace_builders import block_of, random_activity, unpack


@given(
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=9), batch=st.integers(2, 4), seed=st.integers(0, 99),
)  # fmt: skip
def test_against_sets(lengths: list[int], batch: int, seed: int) -> None:
    """A neuron is in a row if it is in any of the rows at that place of the group's segments."""
    rng = np.random.default_rng(seed)
    n_tokens = sum(lengths)
    starts = np.cumsum([0, *lengths[:-1]])
    active = random_activity(rng, n_tokens, 11)
    index = np.flatnonzero(rng.random(n_tokens) < 0.5)
    routed = random_activity(rng, index.size, 11)
    trace = ActivationTrace(
        {"layers.0": block_of(active), "layers.0.experts.0": block_of(routed, index.tolist())}, n_tokens,
        starts.astype(np.int64), np.arange(n_tokens, dtype=np.int32), {"activity": "relu"},
    )  # fmt: skip
    n_groups = len(lengths) // batch
    if n_groups == 0:
        with pytest.raises(UsageError, match=rf"--union {batch}: found a trace of {len(lengths)} segments"):
            union_of_segments(trace, batch)
        return
    union = union_of_segments(trace, batch)
    rows, tokens, routed_rows, sizes = [], 0, [], []
    for group in range(n_groups):
        members = [group + k * n_groups for k in range(batch)]
        sizes.append(min(lengths[segment] for segment in members))
        for place in range(sizes[-1]):
            here = [int(starts[segment]) + place for segment in members]
            rows.append(set().union(*(np.flatnonzero(active[token]) for token in here)))
            reached = [np.flatnonzero(routed[list(index).index(token)]) for token in here if token in index]
            if reached:
                routed_rows.append((tokens, set().union(*reached)))
            tokens += 1
    assert union.n_tokens == tokens
    assert union.segment_starts.tolist() == np.cumsum([0, *sizes[:-1]]).tolist()
    assert [set(np.flatnonzero(row)) for row in unpack(union.blocks["layers.0"])] == rows
    expert = union.blocks["layers.0.experts.0"]
    assert expert.token_index is not None
    assert [(token, set(np.flatnonzero(row))) for token, row in zip(expert.token_index, unpack(expert), strict=True)] \
        == routed_rows  # fmt: skip
    assert union.metadata["activity"] == f"relu, union of {batch} sequences"
    assert union.tokens is None


def test_a_batch_of_one() -> None:
    """Is the trace itself."""
    trace = ActivationTrace({"layers.0": block_of(np.ones((2, 3)))}, 2, np.array([0]))
    assert union_of_segments(trace, 1) is trace


def test_a_union_is_not_joined_again() -> None:
    """A batch of two pairs is no batch of two: appending to a union, or naming one as source, would count wrongly."""
    trace = ActivationTrace({"layers.0": block_of(np.ones((8, 3)))}, 8, np.array([0, 2, 4, 6]))
    joined = union_of_segments(trace, 2)
    assert union_of_segments(joined, 1) is joined
    with pytest.raises(
        UsageError, match=r"--union 2: found sequences that were joined before \(activity unknown, union"
    ):
        union_of_segments(joined, 2)


def test_a_schedule_of_batch_sizes() -> None:
    """By hand: seven segments in stretches of 2, 2 and 3, served in pairs, one by one, and in pairs again."""
    lengths = [3, 2, 1, 2, 2, 4, 3]
    starts = np.cumsum([0, *lengths[:-1]])
    active = random_activity(np.random.default_rng(1), sum(lengths), 11)
    trace = ActivationTrace({"layers.0": block_of(active)}, sum(lengths), starts.astype(np.int64))
    steps, batches = batch_steps(trace, (2, 1, 2))
    pairs = [(0, 3), (1, 4), (5,), (6,), (7,), (8, 10), (9, 11)]  # tokens of each step
    assert [set(np.flatnonzero(row)) for row in unpack(steps.blocks["layers.0"])] == [
        set(np.flatnonzero(active[list(tokens)].any(axis=0))) for tokens in pairs
    ]
    assert batches.tolist() == [len(tokens) for tokens in pairs]
    assert steps.segment_starts.tolist() == [0, 2, 3, 5]
    assert steps.metadata["activity"] == "unknown, union of 2 and then 1 and then 2 sequences"
    alone, ones = batch_steps(trace, (1, 1))
    assert alone is trace
    assert set(ones.tolist()) == {1}
    with pytest.raises(UsageError, match=r"--batch 2,5: found stretch 2 of the trace: 4 segments; expected at least 5"):
        batch_steps(trace, (2, 5))
    with pytest.raises(UsageError, match=r"--batch 2: found sequences that were joined before"):
        batch_steps(steps, (2,))
