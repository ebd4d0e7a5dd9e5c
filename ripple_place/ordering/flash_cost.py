"""What an order is judged by: the flash time of a token's reads, exactly, on the tokens of a trace."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.kernels import read_lengths as kernels

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array, Int64Array
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.trace.activation_trace import BlockTrace


class FlashCost:
    """The expected flash time of a token, by the order in which a block's neurons lie.

    A token's active neurons are read in runs, gaps of up to `gap` unwanted neurons being read through; a run costs by
    its length. Equal to what the simulator charges without cache where bundles are whole pages: there is one
    definition, and ``flash-time`` is judged by it.

    Parameters
    ----------
    block : BlockTrace
    cost : ReadCost
        What a read costs by its length, and the gap that is read through.
    """

    def __init__(self, block: BlockTrace, cost: ReadCost) -> None:
        self.bits = NeuronBits.of_block(block)
        self.n_rows = block.n_rows
        self.run_cost, self.gap = cost.run_cost(block.n_neurons), cost.gap
        self.indptr = np.concatenate([[0], np.cumsum(self.bits.frequency())])
        self.tokens = np.empty(int(self.indptr[-1]), np.int32)
        kernels.list_tokens(self.bits.words, self.bits.n_neurons, self.indptr, self.tokens)

    def read_lengths(self, order: Int32Array) -> Int64Array:
        """Return how many reads have each length, in neurons, over all tokens; shape (n_neurons + 1,), int64."""
        counts = np.zeros(order.size + 1, np.int64)
        first_slot, last_slot = np.full((2, self.n_rows), -1, np.int64)
        kernels.count_read_lengths(order, self.indptr, self.tokens, self.gap, first_slot, last_slot, counts)
        return counts

    def __call__(self, order: Int32Array) -> float:
        """Return the cost of an order per token; NaN without tokens. Costs O(n_active)."""
        if self.n_rows == 0:
            return math.nan
        return float(self.read_lengths(order) @ self.run_cost) / self.n_rows

    def reads(self, order: Int32Array) -> float:
        """Return the reads per token; NaN without tokens."""
        return float(self.read_lengths(order).sum()) / self.n_rows if self.n_rows else math.nan
