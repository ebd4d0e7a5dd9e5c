"""The stage that gives each block a second copy, in an order made for what the first copy leaves fragmented."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.ordering.flash_time import FlashTimeParams
from ripple_place.ordering.second_copy import divide, second_order
from ripple_place.placing.copies import BlockCopies, CopiesReport, copy_bytes
from ripple_place.placing.dram.misses import MAX_ROUNDS
from ripple_place.trace.split_block import judging_tokens

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.placing.job import Job
    from ripple_place.placing.orderer import BlockOrderer
    from ripple_place.placing.placed import Placed
    from ripple_place.trace.split_block import SplitBlock


COPY_TURN = MAX_ROUNDS + 2
"""Turn of a block's draws, after those of its first order and of its refit."""


def add_second_copy(job: Job, placed: Placed) -> Placed:
    """Give every block a second order, made for what the rows searched read from flash, and judge what it is worth."""
    blocks, worth = {}, {}
    for name in job.track(job.names, "ordering second copies"):
        started = time.perf_counter()
        block, orderer = placed.blocks[name], placed.searched[name].orderer
        assert block.served is not None
        order = block.placement.order
        served = block.served.serve(order, block.placement.pinned, with_trace=True)
        missed = served.missed
        order_2 = second_order_of(missed, order, block.served.cost, orderer)
        worth[name] = _judge_copies(missed, served.judged_total, order, order_2, block.served.cost)
        placement = replace(block.placement, order_2=order_2)
        blocks[name] = replace(block, placement=placement).with_seconds(time.perf_counter() - started)
    n_tokens, held_out = judging_tokens(job.trace)
    n_neurons = {name: block.placement.n_neurons for name, block in blocks.items()}
    copies = CopiesReport(worth, n_tokens, held_out, copy_bytes(n_neurons, job.costs.bundle_bytes))
    return replace(placed, blocks=blocks, copies=copies)


def second_order_of(missed: SplitBlock, order: Int32Array, cost: ReadCost, orderer: BlockOrderer) -> Int32Array:
    """Return a second order for what a cache leaves to read of the rows searched.

    Parameters
    ----------
    missed : SplitBlock
        What misses; the number of copies does not change it.
    order : ndarray of shape (n_neurons,), int32
        Of the first copy.
    cost : ReadCost
    orderer : BlockOrderer
        Its effort and seed apply; the search is always by flash time.
    """
    rng = np.random.default_rng([*orderer.seed, COPY_TURN])
    return second_order(missed.searched, order, FlashTimeParams(cost.as_line(), orderer.effort), rng)


def _judge_copies(
    missed: SplitBlock, one: float, order: Int32Array, order_2: Int32Array, cost: ReadCost
) -> BlockCopies:
    """Return what the rows that judge cost from one copy and from two."""
    judging = missed.judging
    two = divide(judging, order, order_2, cost).cost * judging.n_rows if judging.n_rows else 0.0
    return BlockCopies(one, two, judging.n_rows)
