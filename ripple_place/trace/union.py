"""Batch statistics: what a reader must fetch when several sequences are served at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.arrays import Int32Array, Int64Array, UInt8Array
    from ripple_place.storedarray import StoredArray

_MARK = ", union of "
"""In a trace's `activity`: its rows are of several sequences each."""


def rule_before_union(activity: str) -> str:
    """Return the rule of single sequences, where a trace's rows are of one or of several."""
    return activity.partition(_MARK)[0]


def union_of_segments(trace: ActivationTrace, batch_size: int) -> ActivationTrace:
    """Return the trace of `batch_size` sequences that run together: a neuron is active if any of them needs it.

    Parameters
    ----------
    trace : ActivationTrace
    batch_size : int
        B, at least 1. With G = n_segments // B, sequence k of group g is segment g + k G, so that the texts of a group
        lie far apart; segments left over are dropped. Row p of a group is the union of position p of its segments, as
        far as the shortest of them goes.

    Returns
    -------
    ActivationTrace
        One segment for each group. Where not every token reaches a block, neither need every row: a row is there if
        any of its tokens was. Predictions are joined as what fires is. Token ids and magnitudes mean nothing here and
        are left out.

    Raises
    ------
    UsageError
        If the trace has fewer segments than `batch_size`, or is a union already, in whole or in part.

    Notes
    -----
    Costs as much memory as the trace's bits, those of predictions included, divided by B.
    """
    return trace if batch_size == 1 else batch_steps(trace, (batch_size,), option="--union")[0]


def batch_steps(
    trace: ActivationTrace, batches: Sequence[int], *, option: str = "--batch"
) -> tuple[ActivationTrace, Int32Array]:
    """Return the steps in which the segments of a trace are served, some sequences at once in each.

    Parameters
    ----------
    trace : ActivationTrace
    batches : sequence of int
        Batch sizes, each at least 1. The trace's segments are divided into as many stretches, equal to within one, and
        the segments of each stretch are served in groups of its batch size, as `union_of_segments` joins them.
    option : str
        That gave the sizes, for messages.

    Returns
    -------
    steps : ActivationTrace
        Its tokens are the steps.
    batch_of_step : ndarray of shape (n_steps,), int32
        Sequences of each step.

    Raises
    ------
    UsageError
        If a stretch has fewer segments than its batch size, or the trace's rows are of several sequences already.

    Notes
    -----
    Costs as much memory as the bits of the steps.
    """
    if set(batches) == {1}:
        return trace, np.ones(trace.n_tokens, np.int32)
    text = f"{option} {','.join(map(str, batches))}"
    activity = trace.metadata.get("activity", "unknown")
    if _MARK in activity:
        raise UsageError(
            text, found=f"sequences that were joined before (activity {activity})",
            expected="single ones", remedy="profile all single sequences in one run, to a new profile",
        )  # fmt: skip
    n_segments = trace.segment_starts.size
    groups: list[Int64Array] = []
    for place, batch in enumerate(batches):
        first, stop = (n_segments * edge // len(batches) for edge in (place, place + 1))
        if stop - first < batch:
            part = "a trace" if len(batches) == 1 else f"stretch {place + 1} of the trace:"
            joined = "of " if len(batches) == 1 else ""
            raise UsageError(
                text, found=f"{part} {joined}{stop - first} segments", expected=f"at least {batch}",
                remedy="record more, or shorter, segments (--max-tokens, --segment-length), or give more traces",
            )  # fmt: skip
        n_groups = (stop - first) // batch
        groups += [first + group + n_groups * np.arange(batch) for group in range(n_groups)]
    ends = np.append(trace.segment_starts[1:], trace.n_tokens)
    lengths = ends - trace.segment_starts
    sizes = np.array([lengths[group].min() for group in groups], np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    # Where each token of the trace goes; -1: nowhere.
    row_of = np.full(trace.n_tokens, -1, np.int64)
    for group, start, size in zip(groups, starts, sizes, strict=False):
        for segment in group:
            first = int(trace.segment_starts[segment])
            row_of[first : first + size] = np.arange(start, start + size)
    numbers = " and then ".join(map(str, batches))
    steps = ActivationTrace(
        {name: _union(block, row_of, int(starts[-1])) for name, block in trace.blocks.items()},
        int(starts[-1]), starts[:-1].astype(np.int64), None,
        {**trace.metadata, "activity": f"{activity}{_MARK}{numbers} sequences"},
    )  # fmt: skip
    return steps, np.repeat([group.size for group in groups], sizes).astype(np.int32)


def _union(block: BlockTrace, row_of: Int64Array, n_rows: int) -> BlockTrace:
    rows = row_of if block.token_index is None else row_of[block.token_index]
    reached = np.zeros(n_rows, bool)
    reached[rows[rows >= 0]] = True
    place = np.cumsum(reached) - 1
    # Rows of one segment go to different places, and there are few segments: one vectorised step for each stretch.
    cuts = np.flatnonzero(np.diff(rows) <= 0) + 1

    def joined(bits: UInt8Array | StoredArray) -> UInt8Array:
        union = np.zeros((int(reached.sum()), bits.shape[1]), np.uint8)
        for first, end in zip([0, *cuts], [*cuts, rows.size], strict=True):
            kept = np.flatnonzero(rows[first:end] >= 0) + first
            union[place[rows[kept]]] |= np.asarray(bits[first:end])[kept - first]
        return union

    index = None if block.token_index is None else np.flatnonzero(reached).astype(np.int32)
    predicted = None if block.predicted is None else joined(block.predicted)
    return BlockTrace(block.n_neurons, joined(block.active), index, predicted=predicted)
