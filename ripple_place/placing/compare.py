"""The stage that compares orderings on tokens that none of them has seen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ripple_place.placing.comparison import combine, compare_orders
from ripple_place.trace.split_block import judging_tokens

if TYPE_CHECKING:
    from ripple_place.placing.job import Job
    from ripple_place.placing.placed import Placed


def compare(job: Job, placed: Placed) -> Placed:
    """Compare the orders that were made on the rows searched, by what the rows held out cost in each."""
    costs = [
        compare_orders(placed.searched[name].block, placed.searched[name].orders)
        for name in job.track(job.names, "comparing orderings")
    ]
    n_tokens, held_out = judging_tokens(job.trace)
    return replace(placed, comparison=combine(costs, job.costs.unit, n_tokens, held_out=held_out))
