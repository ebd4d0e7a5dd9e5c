"""One block's trace behind a DRAM cache: what it misses in an order, what that costs, and what pinning would save."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.misses import Misses, replay_misses
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.placement import NeuronPlacement
from ripple_place.trace.activation_trace import BlockTrace

if TYPE_CHECKING:
    import numpy.typing as npt

    from ripple_place.flash.admission import Admission
    from ripple_place.trace.activation_trace import ActivationTrace

    Int32Array = npt.NDArray[np.int32]
    Int64Array = npt.NDArray[np.int64]
    Float64Array = npt.NDArray[np.float64]
    UInt8Array = npt.NDArray[np.uint8]

HELD_OUT_SHARE = 1 / 8
"""Of the trace's segments (or tokens, where it has but one), the last: they judge what was learned from the others."""


def held_out_token(trace: ActivationTrace) -> int:
    """Return the first token that is held out; the number of tokens where there is but one."""
    starts = trace.segment_starts
    n_held_out = max(1, round(HELD_OUT_SHARE * starts.size))
    return int(starts[-n_held_out]) if starts.size > 1 else round((1 - HELD_OUT_SHARE) * trace.n_tokens)


def held_out_row(trace: ActivationTrace, name: str) -> int:
    """Return the first row of a block that is held out; its number of rows where there are too few for that."""
    first_token, block = held_out_token(trace), trace.blocks[name]
    row = first_token if block.token_index is None else int(np.searchsorted(block.token_index, first_token))
    return block.n_rows if row == 0 else row


def rows_of(block: BlockTrace, start: int, stop: int) -> BlockTrace:
    """Return some rows of a block, as rows that stand for themselves."""
    return BlockTrace(block.n_neurons, block.active[start:stop])


@dataclass(frozen=True, eq=False)
class Served:
    """What serving a block's rows from flash costs, with what DRAM holds.

    Attributes
    ----------
    misses : Misses
    n_searched : int
        Rows before those held out.
    """

    misses: Misses
    n_searched: int

    @property
    def searched(self) -> float:
        """Mean cost of the rows that are searched; NaN without any."""
        return _mean(self.misses.row_cost[: self.n_searched])

    @property
    def held_out(self) -> float:
        """Mean cost of the rows held out; NaN without any."""
        return _mean(self.misses.row_cost[self.n_searched :])

    @property
    def judged(self) -> float:
        """What orders are compared by: the cost of the rows held out, of all where none are."""
        return self.searched if math.isnan(self.held_out) else self.held_out

    @property
    def searched_total(self) -> float:
        """`searched`, as a sum over rows."""
        return float(self.misses.row_cost[: self.n_searched].sum())

    @property
    def judged_total(self) -> float:
        """`judged`, as a sum over rows."""
        row_cost = self.misses.row_cost
        return float(row_cost[0 if self.n_searched == row_cost.size else self.n_searched :].sum())


@dataclass(frozen=True, eq=False)
class CachedBlock:
    """A block's trace, its DRAM cache, and what reads cost.

    Parameters
    ----------
    name : str
        What the draws of an admission rule depend on.
    trace : BlockTrace
    n_searched : int
        Rows before those held out; the cache is warm when these begin.
    break_even_gap : float
        lambda.
    learned : NeuronPlacement
        What is known of the neurons beforehand, such as firing counts, in any order: what a cache goes by.
    cache : str
        Policy.
    capacity : int
        Neurons that DRAM holds.
    admission : Admission, optional
        Which misses may enter the cache; default all.
    """

    name: str
    trace: BlockTrace
    n_searched: int
    break_even_gap: float
    learned: NeuronPlacement
    cache: str = "none"
    capacity: int = 0
    admission: Admission | None = None

    @classmethod
    def of(cls, name: str, trace: BlockTrace, n_searched: int, break_even_gap: float) -> CachedBlock:
        """Return a block without a cache, of which is known what the rows searched say."""
        frequency = NeuronBits.of_block(rows_of(trace, 0, n_searched)).frequency()
        learned = NeuronPlacement.original(trace.n_neurons, frequency)
        return cls(name, trace, n_searched, break_even_gap, learned)

    @property
    def frequency(self) -> Int64Array:
        """How often each neuron fires, as far as is known."""
        assert self.learned.frequency is not None
        return self.learned.frequency

    @property
    def n_judged(self) -> int:
        """Rows that orders are compared on: those held out, all where none are."""
        return self.trace.n_rows - self.n_searched or self.trace.n_rows

    def with_cache(self, cache: str, capacity: int) -> CachedBlock:
        """Return the same trace behind another cache."""
        return replace(self, cache=cache, capacity=capacity)

    def shortened(self, n_searched: int) -> CachedBlock:
        """Return the block with no more than its last `n_searched` rows before those held out."""
        first = max(0, self.n_searched - n_searched)
        trace = rows_of(self.trace, first, self.trace.n_rows)
        return replace(self, trace=trace, n_searched=self.n_searched - first)

    def serve(
        self,
        order: Int32Array,
        pinned: Int32Array | None = None,
        *,
        with_trace: bool = False,
        with_shares: bool = False,
    ) -> Served:
        """Replay the whole trace through the cache in an order, and charge its misses.

        Parameters
        ----------
        order : ndarray of shape (n_neurons,), int32
        pinned : ndarray of int32, optional
            Neurons kept in DRAM for good, where the policy keeps any; default its own choice.
        with_trace : bool
            Whether to return the misses as a trace, too.
        with_shares : bool
            Whether to return what each neuron adds to the cost of the rows searched.
        """
        placement = replace(self.learned, order=order, pinned=pinned)
        misses = replay_misses(
            self.trace, placement, self.cache, self.capacity, self.break_even_gap,
            name=self.name, admission=self.admission, with_trace=with_trace,
            share_rows=self.n_searched if with_shares else None,
        )  # fmt: skip
        return Served(misses, self.n_searched)


def _mean(values: Float64Array) -> float:
    return float(values.mean()) if values.size else math.nan
