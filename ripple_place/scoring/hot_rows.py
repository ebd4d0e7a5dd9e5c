"""The hot rows of a plan in a simulation: what is resident, what is read ahead, and what of a trace is left."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.caches.segments import HotSegments
from ripple_place.flash.dense_hot import dense_hot
from ripple_place.scoring.layouts import read_layout
from ripple_place.systems.plan import NeuronPlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.arrays import AnyArray, BoolArray, Int32Array, Int64Array, UInt8Array
    from ripple_place.flash.layout import Layout
    from ripple_place.flash.results import LayoutResult
    from ripple_place.storedarray import StoredArray
    from ripple_place.trace.activation_trace import ActivationTrace

_CHUNK_ROWS = 1024


@dataclass(frozen=True, eq=False)
class HotRows:
    """What a plan computes densely.

    Attributes
    ----------
    segments : HotSegments
        The resident clusters, which a segmented cache keeps.
    read_ahead_neurons : mapping of str to int
        By block, hot neurons without room in DRAM: they are read for every row, in sequence.
    ahead : mapping of str to ndarray of shape (n_neurons,), bool
        By block, which they are.
    """

    segments: HotSegments
    read_ahead_neurons: Mapping[str, int]
    ahead: Mapping[str, BoolArray]

    @classmethod
    def of_plan(cls, plan: NeuronPlan, layout: Layout, batches: Sequence[int] = (1,)) -> HotRows:
        """Return the hot rows of a layout that was made by a plan: its first slots.

        Parameters
        ----------
        plan : NeuronPlan
            A batch size that was not planned is served by the largest planned one below, else by the smallest.
        layout : Layout
            Its blocks that the plan does not name have no hot rows.
        batches : sequence of int
            Sequences that run together, one batch size after the other.

        Raises
        ------
        UsageError
            If different rows are read ahead at two of the batch sizes.
        """
        placements = {name: block.placement for name, block in layout.blocks.items()}
        blocks = {name: plan.blocks[name] for name in placements if name in plan.blocks}
        resident = {
            batch: {name: block.hot[batch].n_resident for name, block in blocks.items()} for batch in plan.batch_sizes
        }
        # A common divisor: where blocks have clusters of different sizes, no row is in a cluster that is not its own.
        rows = math.gcd(*(block.cluster_rows for block in blocks.values())) or 1
        sizes = sorted({plan.batch_of(batch) for batch in batches})
        by_size = [{name: (block.hot[size].n_resident, block.hot[size].n_hot) for name, block in blocks.items()}
                   for size in sizes]  # fmt: skip
        if any(each != by_size[0] for each in by_size) and any(a != b for each in by_size for a, b in each.values()):
            raise UsageError(
                f"--batch {','.join(map(str, batches))}", found="batch sizes for which the plan reads other rows ahead",
                expected="the same rows for all steps", remedy="simulate one batch size at a time",
            )  # fmt: skip
        ahead = {}
        for name, (first, end) in by_size[0].items():
            slot_of = placements[name].slot_of
            ahead[name] = (slot_of >= first) & (slot_of < end)
        n_ahead = {name: int(np.count_nonzero(flags)) for name, flags in ahead.items()}
        return cls(HotSegments.by_slots(placements, resident, rows), n_ahead, ahead)

    def served(self, trace: ActivationTrace, batch_of_step: Int32Array | None = None) -> ActivationTrace:
        """Return what is asked for of the caches: what fires and the resident rows, without what is read ahead.

        Parameters
        ----------
        trace : ActivationTrace
        batch_of_step : ndarray of shape (n_tokens,), int32, optional
            Sequences of each step; None: 1.
        """
        blocks = dict(trace.blocks)
        for name, flags in self.ahead.items():
            if flags.any():
                block, keep = blocks[name], ~np.packbits(flags, bitorder="little")
                predicted = None if block.predicted is None else _masked(block.predicted, keep)
                active = _masked(block.active, keep)
                blocks[name] = replace(block, active=active, predicted=predicted, magnitudes=None)
        return dense_hot(replace(trace, blocks=blocks), self.segments, batch_of_step)

    def hit_ratio(
        self, result: LayoutResult, trace: ActivationTrace, reset_tokens: Sequence[int] = ()
    ) -> float | None:  # fmt: skip
        """Return the share of neurons that fire which DRAM held.

        Dense rows that do not fire are left out, and candidates that do not. What is read ahead was not in DRAM.

        Parameters
        ----------
        result : LayoutResult
            Of the simulation of `served`, single tokens.
        trace : ActivationTrace
            What fires.
        reset_tokens : sequence of int
            Ascending tokens before which the cache was emptied.
        """
        n_asked, n_hits = fired_accesses(result)
        n_idle, n_idle_read = self._count_idle(trace, np.asarray(reset_tokens, np.int64))
        n_ahead = sum(_count(trace.blocks[name].active, flags) for name, flags in self.ahead.items())
        n_fired = n_asked - n_idle + n_ahead
        return None if n_fired <= 0 else (n_hits - (n_idle - n_idle_read)) / n_fired

    def _count_idle(self, trace: ActivationTrace, resets: Int64Array) -> tuple[int, int]:
        """Return how often resident neurons are computed and do not fire, and how often they are read then.

        They are read for the first token that reaches their block, and for the first after the cache was emptied.
        """
        hot, first, n_idle, n_idle_read = self.segments.hot_neurons(1), 0, 0, 0
        for block in trace.blocks.values():
            flags = hot[first : first + block.n_neurons]
            n_hot = int(np.count_nonzero(flags))
            rows = resets if block.token_index is None else np.searchsorted(block.token_index, resets)
            read = np.unique(np.append(rows, 0))
            read = read[read < block.n_rows]
            n_idle += n_hot * block.n_rows - _count(block.active, flags)
            n_idle_read += n_hot * read.size - _count(np.asarray(block.active[:])[read], flags)
            first += block.n_neurons
        return n_idle, n_idle_read


def fired_accesses(result: LayoutResult) -> tuple[int, int]:
    """Return how many accesses are of neurons that fire, and how many of those DRAM held; candidates are left out."""
    gates = result.gate
    if gates is None:
        return result.totals.n_active, result.totals.n_hits
    return gates.n_fired, gates.n_fired - gates.n_rest


def hot_rows_of(
    names: Sequence[str], layouts: Sequence[Layout], trace: ActivationTrace, batches: Sequence[int]
) -> HotRows | None:
    """Return the hot rows of the first layout that was made by a plan; None if there is none.

    Parameters
    ----------
    names : sequence of str
        Of the layouts, as `ripple_place.scoring.layouts.read_layouts` takes them.
    layouts : sequence of Layout
        What they lead to.
    trace : ActivationTrace
    batches : sequence of int
        Sequences that run together.

    Raises
    ------
    UsageError
        As `HotRows.of_plan`.
    PlacementError
        If a plan is malformed.

    Notes
    -----
    All layouts are served with the same neurons in DRAM and read ahead; where those do not lie together, as in layouts
    of other origin, they are charged as if they did.
    """
    for name, layout in zip(names, layouts, strict=True):
        if (plan := NeuronPlan.of(name, read_layout(name, trace).placement)) is not None:
            return HotRows.of_plan(plan, layout, batches)
    return None


def _count(bits: UInt8Array | StoredArray, flags: BoolArray) -> int:
    """Return how often some neurons fire."""
    mask, firsts = np.packbits(flags, bitorder="little"), range(0, bits.shape[0], _CHUNK_ROWS)
    return sum(int(np.bitwise_count(_masked(bits[at : at + _CHUNK_ROWS], mask)).sum()) for at in firsts)


def _masked(bits: AnyArray | StoredArray, mask: UInt8Array) -> UInt8Array:
    masked: UInt8Array = np.asarray(bits) & mask
    return masked
