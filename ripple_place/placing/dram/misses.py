"""Order a block for the DRAM cache in front of it: what is left to read, in the order that reads it fastest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.ordering.registry import ORDERINGS
from ripple_place.placement import slots_of
from ripple_place.placing.block_report import Tried, known
from ripple_place.placing.dram.pinning import hottest_pinned, improve_pinned, pins

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import BoolArray, Int32Array
    from ripple_place.placing.cached_block import CachedBlock, Served
    from ripple_place.placing.orderer import MissOrderer


MAX_ROUNDS = 4
"""Alternations of order and misses at most; on opt-relu the second gains 0.1 %, the third nothing."""
ROUND = "misses"
"""With the turn, the name of an order of what misses."""
LEAST_GAIN = 0.001
"""Of the cost held out, by which a round must lower it for another to follow."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """An order, what is pinned with it, what serving the block then costs, and whether the order was searched for."""

    name: str
    order: Int32Array
    pinned: Int32Array | None
    served: Served
    is_searched: bool

    @property
    def tried(self) -> Tried:
        """What the report says of it."""
        return Tried(self.name, known(self.served.searched), known(self.served.held_out))


def order_behind_cache(
    block: CachedBlock, plain: Mapping[str, Int32Array], order_misses: MissOrderer | None
) -> tuple[Candidate, tuple[Candidate, ...]]:
    """Return the best placement of a block behind its cache, and all that were tried, in turn.

    Parameters
    ----------
    block : CachedBlock
    plain : mapping of str to ndarray of shape (n_neurons,), int32
        Orders made without regard to the cache; none of them is better, behind it, than what is returned.
    order_misses : MissOrderer or None
        None leaves it at the plain orders.

    Notes
    -----
    From the best plain order on, in turn: what pins exchanges its neurons for more valuable ones
    (`ripple_place.placing.dram.pinning.improve_pinned`); the trace is replayed, and what misses is ordered; the cache,
    whose misses depend on the order where its policy looks at the layout, is replayed again; and so on while the cost
    of the tokens held out falls. Those tokens find the cache as the searched ones left it. Neurons that never miss lie
    behind all others, where no read goes through them. Deterministic.
    """
    default = hottest_pinned(block) if pins(block.cache) else None
    tried = [
        Candidate(name, order, default, block.serve(order, default), ORDERINGS[name].is_searched)
        for name, order in plain.items()
    ]
    best = min(tried, key=lambda candidate: candidate.served.judged_total)
    if default is not None:
        worthy = improve_pinned(block, best.order, default)
        served = block.serve(best.order, worthy)
        tried.append(replace(best, name=f"{best.name}, pinned by worth", pinned=worthy, served=served))
        best = min(best, tried[-1], key=lambda candidate: candidate.served.judged_total)
    order, pinned, start = best.order, best.pinned, best.order
    if order_misses is None:
        return best, tuple(tried)
    for turn in range(1, MAX_ROUNDS + 1):
        if pinned is not None and turn > 1:
            pinned = improve_pinned(block, put_back(order, pinned, start), pinned)
        order = order_what_misses(block, order, pinned, order_misses, turn)
        tried.append(Candidate(f"{ROUND} {turn}", order, pinned, block.serve(order, pinned), is_searched=True))
        before, after = best.served.judged_total, tried[-1].served.judged_total
        if after < before:
            best = tried[-1]
        if after >= (1 - LEAST_GAIN) * before:
            break
    return best, tuple(tried)


def order_what_misses(
    block: CachedBlock, order: Int32Array, pinned: Int32Array | None, order_misses: MissOrderer, turn: int
) -> Int32Array:
    """Return an order made for what the rows searched miss in the present one."""
    missed = block.missed_rows(order, pinned)
    is_read = NeuronBits.of_block(missed.searched).frequency() > 0
    return silent_last(order_misses(missed, silent_last(order, is_read), turn), is_read)


def put_back(order: Int32Array, pinned: Int32Array, model: Int32Array) -> Int32Array:
    """Return the order with the pinned neurons where they would be read: each behind its predecessor in `model`.

    >>> put_back(np.array([4, 2, 0, 1, 3]), np.array([1, 3]), np.array([0, 1, 3, 2, 4]))
    array([4, 2, 0, 1, 3])
    >>> put_back(np.array([4, 2, 0, 1, 3]), np.array([1, 3]), np.array([1, 0, 2, 3, 4]))
    array([1, 4, 2, 3, 0])
    """
    is_pinned = np.zeros(order.size, bool)
    is_pinned[pinned] = True
    # A pinned neuron goes by the place of the last neuron before it in `model` that is not pinned, -1 without one.
    anchor = np.maximum.accumulate(np.where(is_pinned[model], -1, np.arange(order.size)))
    key = np.where(anchor >= 0, slots_of(order)[model[anchor]], -1)
    return model[np.argsort(key, kind="stable")]


def silent_last(order: Int32Array, is_read: BoolArray) -> Int32Array:
    """Return the order with the neurons that are never read behind all others, which draw together.

    No distance between neurons that are read grows, so neither does the cost.

    >>> silent_last(np.array([3, 0, 2, 1]), np.array([True, True, False, True]))
    array([3, 0, 1, 2])
    """
    return np.concatenate([order[is_read[order]], order[~is_read[order]]])
