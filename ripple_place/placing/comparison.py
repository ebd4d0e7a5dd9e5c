"""What orderings cost without DRAM and with the hottest neurons in it, and what they gain beyond hot-cold order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.flash.caches.pinned import Pinned
from ripple_place.flash.hot_cold import gain_over_hot_cold, hottest_neurons
from ripple_place.flash.layout import BlockExtent, BlockLayout
from ripple_place.flash.simulator import SimulationParams, simulate_block
from ripple_place.ordering.registry import compared_orderings
from ripple_place.placement import NeuronPlacement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ripple_place.arrays import Float64Array, Int32Array
    from ripple_place.placing.cached_block import CachedBlock


DRAM_SHARES = (0.0, 0.05, 0.1, 0.2)
"""Of each block's neurons, the hottest, pinned."""


@dataclass(frozen=True)
class OrderingComparison:
    """What orderings cost a token, all blocks together, on tokens that none of them has seen.

    Attributes
    ----------
    cost_per_token : mapping of str to tuple of float
        By ordering, one cost for each of `dram_shares`.
    unit : str
        ``us``, flash time on the device; or ``neurons``, lambda x reads + neurons read.
    n_tokens : int
        Tokens that judged.
    held_out : bool
        False if the trace is too short to hold any out: then they are those that were searched.
    dram_shares : tuple of float
        Of each block's neurons, the hottest, pinned.
    """

    cost_per_token: Mapping[str, tuple[float, ...]]
    unit: str
    n_tokens: int
    held_out: bool
    dram_shares: tuple[float, ...] = DRAM_SHARES

    def to_json(self) -> dict[str, Any]:
        """Return the ``orderings`` entry of ``reorder --json``."""
        return {
            "unit": self.unit,
            "n_tokens": self.n_tokens,
            "held_out": self.held_out,
            "dram_shares": list(self.dram_shares),
            "cost_per_token": {name: list(costs) for name, costs in self.cost_per_token.items()},
        }

    @property
    def beyond_hot_cold(self) -> tuple[float, ...]:
        """What frequency order costs over the best of the others, for each of `dram_shares`; 1 without others."""
        hot_cold = self.cost_per_token["frequency"]
        others = [costs for name, costs in self.cost_per_token.items() if name not in ("original", "frequency")]
        best = [min(costs) for costs in zip(*others, strict=True)] if others else hot_cold
        return tuple(1.0 if gain is None else gain for gain in gain_over_hot_cold(hot_cold, best))


def compare_orders(
    block: CachedBlock, orders: Mapping[str, Int32Array], dram_shares: Sequence[float] = DRAM_SHARES
) -> dict[str, Float64Array]:
    """Return what each order costs on a block's judging rows, in all, for each of `dram_shares`.

    Parameters
    ----------
    block : CachedBlock
        Its rows, cost of reads, and frequencies; what is pinned goes by the frequencies.
    orders : mapping of str to ndarray of shape (n_neurons,), int32
        Those that have a row in the comparison are compared.
    dram_shares : sequence of float
        Of the block's neurons, the hottest, pinned.

    Notes
    -----
    Where costs are times, the simulator gives them; else they are lambda x reads + neurons read.
    """
    judging, cost = block.rows.judging, block.cost
    # What is pinned does not depend on what was read before: the rows searched need not be replayed.
    judged = block.shortened(0) if block.rows.has_held_out else block
    totals = {}
    for name in compared_orderings():
        if name not in orders:
            continue
        placement = NeuronPlacement(orders[name], frequency=block.frequency)
        costs = []
        for share in dram_shares:
            capacity = hottest_neurons(share, judging.n_neurons)
            if not cost.is_time:
                costs.append(judged.with_cache(Pinned.policy, capacity).serve(orders[name]).judged_total)
                continue
            assert cost.device is not None
            assert cost.bundle_bytes is not None
            layout = BlockLayout(placement, BlockExtent.packed(cost.bundle_bytes))
            params = SimulationParams(Pinned.policy, {block.name: capacity})
            result, _ = simulate_block(block.name, judging, layout, cost.device, params, max(1, judging.n_rows))
            costs.append(result.totals.flash_time_us)
        totals[name] = np.array(costs)
    return totals


def combine(
    blocks: Iterable[Mapping[str, Float64Array]], unit: str, n_tokens: int, *, held_out: bool,
    dram_shares: Sequence[float] = DRAM_SHARES,
) -> OrderingComparison:  # fmt: skip
    """Return the comparison over all blocks: the orderings that every block has."""
    blocks = list(blocks)
    names = [name for name in compared_orderings() if all(name in block for block in blocks)]
    costs = {name: tuple((np.sum([b[name] for b in blocks], axis=0) / n_tokens).tolist()) for name in names}
    return OrderingComparison(costs, unit, n_tokens, held_out, tuple(dram_shares))
