"""Batch statistics: what a reader must fetch when several sequences are served at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace

if TYPE_CHECKING:
    from ripple_place.arrays import Int64Array, UInt8Array
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
    if batch_size == 1:
        return trace
    activity = trace.metadata.get("activity", "unknown")
    if _MARK in activity:
        raise UsageError(
            f"--union {batch_size}", found=f"sequences that were joined before (activity {activity})",
            expected="single ones", remedy="profile all single sequences in one run, to a new profile",
        )  # fmt: skip
    n_segments = trace.segment_starts.size
    if n_segments < batch_size:
        raise UsageError(
            f"--union {batch_size}", found=f"a trace of {n_segments} segments", expected=f"at least {batch_size}",
            remedy="record more, or shorter, segments (--max-tokens, --segment-length), or give more traces",
        )  # fmt: skip
    n_groups = n_segments // batch_size
    ends = np.append(trace.segment_starts[1:], trace.n_tokens)
    lengths = ends - trace.segment_starts
    members = np.arange(n_groups * batch_size).reshape(batch_size, n_groups)
    sizes = lengths[members].min(axis=0)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    # Where each token of the trace goes; -1: nowhere.
    row_of = np.full(trace.n_tokens, -1, np.int64)
    for group in range(n_groups):
        for segment in members[:, group]:
            first = int(trace.segment_starts[segment])
            row_of[first : first + sizes[group]] = np.arange(starts[group], starts[group + 1])
    return ActivationTrace(
        {name: _union(block, row_of, int(starts[-1])) for name, block in trace.blocks.items()},
        int(starts[-1]), starts[:-1].astype(np.int64), None,
        {**trace.metadata, "activity": f"{activity}{_MARK}{batch_size} sequences"},
    )  # fmt: skip


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
