"""One block's trace behind a DRAM cache: what it misses in an order, what that costs, and what pinning would save."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ripple_place.flash.misses import Misses, replay_misses
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.placement import NeuronPlacement

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array, Int32Array, Int64Array
    from ripple_place.flash.admission import Admission
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.trace.activation_trace import BlockTrace
    from ripple_place.trace.split_block import SplitBlock


@dataclass(frozen=True, eq=False)
class Served:
    """What serving a block's rows from flash costs, with what DRAM holds.

    Attributes
    ----------
    misses : Misses
    rows : SplitBlock
        The rows that were served.
    """

    misses: Misses
    rows: SplitBlock

    @property
    def missed(self) -> SplitBlock:
        """What missed, as rows of their own, split like those that were served; known if it was asked for."""
        assert self.misses.trace is not None
        return self.rows.with_block(self.misses.trace)

    @property
    def searched(self) -> float:
        """Mean cost of the rows searched; NaN without any."""
        return _mean(self.misses.row_cost[: self.rows.n_searched])

    @property
    def held_out(self) -> float:
        """Mean cost of the rows held out; NaN without any."""
        return _mean(self.misses.row_cost[self.rows.n_searched :])

    @property
    def judged(self) -> float:
        """Mean cost of the rows that judge; NaN without any."""
        return _mean(self.rows.judging_of(self.misses.row_cost))

    @property
    def searched_total(self) -> float:
        """`searched`, as a sum over rows."""
        return float(self.misses.row_cost[: self.rows.n_searched].sum())

    @property
    def judged_total(self) -> float:
        """`judged`, as a sum over rows."""
        return float(self.rows.judging_of(self.misses.row_cost).sum())


@dataclass(frozen=True, eq=False)
class CachedBlock:
    """A block's trace, its DRAM cache, and what reads cost.

    Parameters
    ----------
    name : str
        What the draws of an admission rule depend on.
    rows : SplitBlock
        The cache is warm when the rows held out begin.
    cost : ReadCost
        Misses are charged by its lambda, in neurons.
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
    rows: SplitBlock
    cost: ReadCost
    learned: NeuronPlacement
    cache: str = "none"
    capacity: int = 0
    admission: Admission | None = None

    @classmethod
    def of_rows(cls, name: str, rows: SplitBlock, cost: ReadCost) -> CachedBlock:
        """Return a block without a cache, with frequencies from the rows searched."""
        frequency = NeuronBits.of_block(rows.searched).frequency()
        return cls(name, rows, cost, NeuronPlacement.original(rows.n_neurons, frequency))

    @property
    def trace(self) -> BlockTrace:
        """All rows."""
        return self.rows.block

    @property
    def frequency(self) -> Int64Array:
        """How often each neuron fires, as far as is known."""
        assert self.learned.frequency is not None
        return self.learned.frequency

    def with_cache(self, cache: str, capacity: int) -> CachedBlock:
        """Return the same trace behind another cache."""
        return replace(self, cache=cache, capacity=capacity)

    def shortened(self, n_searched: int) -> CachedBlock:
        """Return the block with no more than its last `n_searched` rows before those held out."""
        return replace(self, rows=self.rows.latest(n_searched))

    def unsplit(self) -> CachedBlock:
        """Return the block with all its rows to search, none held out."""
        return replace(self, rows=type(self.rows).unsplit(self.trace))

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
            self.trace, placement, self.cache, self.capacity, self.cost,
            name=self.name, admission=self.admission, with_trace=with_trace,
            share_rows=self.rows.n_searched if with_shares else None,
        )  # fmt: skip
        return Served(misses, self.rows)

    def missed_rows(self, order: Int32Array, pinned: Int32Array | None) -> SplitBlock:
        """Return what the cache misses in an order, as rows of their own, split like the block's."""
        return self.serve(order, pinned, with_trace=True).missed


def _mean(values: Float64Array) -> float:
    return float(values.mean()) if values.size else math.nan
