"""The stage that orders once more on all rows, those held out included, when everything has been judged.

More tokens place better; but none are left to say by how much, so the report keeps the figures from before.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ripple_place.ordering.activity import Activity
from ripple_place.placing.dram.misses import MAX_ROUNDS, order_what_misses
from ripple_place.placing.second_copy import second_order_of

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array
    from ripple_place.placing.job import Job
    from ripple_place.placing.placed import Placed, PlacedBlock, SearchedBlock

REFIT_TURN = MAX_ROUNDS + 1
"""Turn of a block's draws, after those of its rounds of misses."""


def refit(job: Job, placed: Placed) -> Placed:
    """Order every block again, and then the second copy of those that have one."""
    blocks = {}
    for name in job.track(job.names, "ordering on all rows"):
        started = time.perf_counter()
        block, searched = placed.blocks[name], placed.searched[name]
        order = _order_again(job, block, searched)
        placement = replace(block.placement, order=order)
        if placement.order_2 is not None:
            assert block.served is not None
            missed = block.served.unsplit().missed_rows(order, placement.pinned)
            order_2 = second_order_of(missed, order, block.served.cost, searched.orderer)
            placement = replace(placement, order_2=order_2)
        blocks[name] = replace(block, placement=placement).with_seconds(time.perf_counter() - started)
    return replace(placed, blocks=blocks)


def _order_again(job: Job, block: PlacedBlock, searched: SearchedBlock) -> Int32Array:
    """Return the order made on all rows. A search goes on; an order made without search stays where it was better."""
    order, pinned = block.placement.order, block.placement.pinned
    assert block.served is not None
    rows = block.served.unsplit()
    if job.params.dram_budget is None and not job.ordering.is_searched:
        return searched.orderer.make(job.ordering, Activity.of_rows(rows.rows)).order
    if not block.is_searched or searched.order_misses is None:
        return order
    if job.params.dram_budget is None:
        return searched.order_misses(rows.rows, order, REFIT_TURN)
    return order_what_misses(rows, order, pinned, searched.order_misses, REFIT_TURN)
