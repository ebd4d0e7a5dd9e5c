"""The hot rows of a plan in a simulation: what is resident, what is read ahead, and what of a trace is left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.caches.segments import HotSegments
from ripple_place.flash.dense_hot import dense_hot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import BoolArray, UInt8Array
    from ripple_place.flash.layout import Layout
    from ripple_place.flash.results import FlashTotals
    from ripple_place.storedarray import StoredArray
    from ripple_place.systems.plan import NeuronPlan
    from ripple_place.trace.activation_trace import ActivationTrace


@dataclass(frozen=True, eq=False)
class HotRows:
    """What a plan computes densely for single tokens.

    Attributes
    ----------
    segments : HotSegments
        The resident clusters, which a segmented cache keeps.
    read_ahead_neurons : mapping of str to int
        By block, hot neurons without room in DRAM: they are read for every token, in sequence.
    ahead : mapping of str to ndarray of shape (n_neurons,), bool
        By block, which they are.
    """

    segments: HotSegments
    read_ahead_neurons: Mapping[str, int]
    ahead: Mapping[str, BoolArray]

    @classmethod
    def of_plan(cls, plan: NeuronPlan, layout: Layout) -> HotRows:
        """Return the hot rows of a layout that was made by a plan: its first slots."""
        placements = {name: layout.blocks[name].placement for name in plan.blocks}
        resident = {
            batch: {name: block.hot[batch].n_resident for name, block in plan.blocks.items()}
            for batch in plan.batch_sizes
        }
        rows = min(block.cluster_rows for block in plan.blocks.values())
        first = plan.batch_sizes[0]
        ahead = {}
        for name, block in plan.blocks.items():
            slot_of = placements[name].slot_of
            ahead[name] = (slot_of >= block.hot[first].n_resident) & (slot_of < block.hot[first].n_hot)
        n_ahead = {name: int(np.count_nonzero(flags)) for name, flags in ahead.items()}
        return cls(HotSegments.by_slots(placements, resident, rows), n_ahead, ahead)

    @property
    def n_resident(self) -> int:
        """Neurons that are resident for single tokens."""
        return int(np.count_nonzero(self.segments.hot_neurons(1)))

    def served(self, trace: ActivationTrace) -> ActivationTrace:
        """Return what is asked for of the caches: what fires and the resident rows, without what is read ahead."""
        blocks = dict(trace.blocks)
        for name, flags in self.ahead.items():
            if flags.any():
                block, keep = blocks[name], ~np.packbits(flags, bitorder="little")
                predicted = None if block.predicted is None else _masked(block.predicted, keep)
                active = _masked(block.active, keep)
                blocks[name] = replace(block, active=active, predicted=predicted, magnitudes=None)
        return dense_hot(replace(trace, blocks=blocks), self.segments)

    def hit_ratio(self, totals: FlashTotals, n_rows: int, n_fired: int) -> float | None:
        """Return the share of neurons that fire which DRAM held, dense rows that do not fire left out.

        Parameters
        ----------
        totals : FlashTotals
            Of the simulation of `served`.
        n_rows : int
            Tokens.
        n_fired : int
            Resident neurons that fire, over all tokens.
        """
        idle = self.n_resident * n_rows - n_fired
        n_asked = totals.n_active - idle
        return None if n_asked <= 0 else max(0.0, (totals.n_hits - idle) / n_asked)

    def count_fired(self, trace: ActivationTrace) -> int:
        """Return how often resident neurons fire in a trace."""
        hot, first, n_fired = self.segments.hot_neurons(1), 0, 0
        for block in trace.blocks.values():
            mask = np.packbits(hot[first : first + block.n_neurons], bitorder="little")
            n_fired += int(np.bitwise_count(_masked(block.active, mask)).sum())
            first += block.n_neurons
        return n_fired


def _masked(bits: UInt8Array | StoredArray, mask: UInt8Array) -> UInt8Array:
    masked: UInt8Array = np.asarray(bits) & mask
    return masked
