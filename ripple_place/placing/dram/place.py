"""The stage that places for a DRAM budget: split it over the blocks, then order what each block's cache leaves."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ripple_place.flash.caches.belady import Belady
from ripple_place.flash.caches.mask_first import MaskFirstCache
from ripple_place.flash.caches.none import NoCache
from ripple_place.flash.caches.registry import POLICIES
from ripple_place.ordering.original import original_order
from ripple_place.ordering.registry import AUTO
from ripple_place.placing.block_report import BlockReport, known, why_helpless
from ripple_place.placing.dram.misses import MAX_ROUNDS, order_behind_cache
from ripple_place.placing.dram.split import CostCurve, budget_bytes_of, curve_capacities, split_by_gain, split_evenly
from ripple_place.placing.dram_report import DramReport
from ripple_place.placing.placed import PlacedBlock
from ripple_place.placing.recorded_dram import DEFAULT_CACHE, RecordedDram
from ripple_place.trace.split_block import judging_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.placing.job import Job
    from ripple_place.placing.placed import Placed, SearchedBlock


MEASURED_ROWS = 8192
"""Rows before those held out that the split and the policies are compared on, or that warm their caches: some thousand
fill any cache, and a split needs no more."""
MAX_SEARCHES = MAX_ROUNDS
"""Searches of a block at most."""


def place_behind_cache(job: Job, placed: Placed) -> Placed:
    """Choose policy and split of the DRAM budget, and order each block for the cache in front of it.

    Notes
    -----
    The split by gain and the even one are compared in the plain orders, as are the policies; then each block is
    ordered by itself (`ripple_place.placing.dram.misses.order_behind_cache`). Deterministic.
    """
    budget = job.params.dram_budget
    assert budget is not None
    blocks = {name: _as_asked(job, searched) for name, searched in placed.searched.items()}
    dram = _Dram(job, blocks)
    even = split_evenly(budget, dram.n_neurons, dram.weights)
    cache, cost_by_cache = job.params.cache or DEFAULT_CACHE, {}
    if cache == AUTO:
        cost_by_cache = {
            policy: dram.cost_per_token(policy, even) for policy in job.track(_candidates(), "comparing policies")
        }
        cache = min(cost_by_cache, key=lambda policy: (cost_by_cache[policy], policy))
    curves = {name: _curve(blocks[name], cache) for name in job.track(job.names, "measuring DRAM")}
    budget_bytes = budget_bytes_of(budget, dram.n_neurons, dram.weights)
    splits = {"gain": split_by_gain(budget_bytes, curves, dram.weights), "even": even}
    cost_by_split = {name: dram.cost_per_token(cache, split) for name, split in splits.items()}
    split = min(splits, key=lambda name: (cost_by_split[name], name == "gain"))
    recorded = RecordedDram(
        cache,
        splits[split],
        budget if isinstance(budget, float) else None,
        budget_bytes if job.costs.bundle_bytes else None,
    )
    report = DramReport(recorded, split, cost_by_split, cost_by_cache)
    placed_blocks = {
        name: _place_block(job, name, blocks[name], recorded) for name in job.track(job.names, "ordering for DRAM")
    }
    return replace(placed, blocks=placed_blocks, dram=report)


class _Dram:
    """The blocks that share the DRAM, in the orders that were made without regard to it.

    Parameters
    ----------
    job : Job
    blocks : mapping of str to SearchedBlock
        With the orders that may serve as a result.
    """

    def __init__(self, job: Job, blocks: Mapping[str, SearchedBlock]) -> None:
        self.blocks = blocks
        self.n_neurons = {name: searched.block.rows.n_neurons for name, searched in blocks.items()}
        # Where sizes are unknown, bundles are taken to be equally long everywhere.
        self.weights = dict(job.costs.bundle_bytes) or dict.fromkeys(self.n_neurons, 1)
        self.n_tokens = judging_tokens(job.trace)[0]

    def cost_per_token(self, cache: str, capacity: Mapping[str, int]) -> float:
        """Return the cost of all blocks together in their best plain orders, in bundles of mean length."""
        total = sum(_least(self.blocks[name], cache, capacity[name]) * self.weights[name] for name in self.blocks)
        return total * len(self.weights) / sum(self.weights.values()) / self.n_tokens


def _least(searched: SearchedBlock, cache: str, capacity: int) -> float:
    """Return what the best plain order costs behind a cache, over all rows that judge."""
    cached = searched.block.shortened(MEASURED_ROWS).with_cache(cache, capacity)
    return min(cached.serve(order).judged_total for order in searched.orders.values())


def _as_asked(job: Job, searched: SearchedBlock) -> SearchedBlock:
    """Return the block with the orders that may serve as a result: all for a search, else the one asked for."""
    if job.ordering.is_searched:
        return searched
    return replace(searched, orders={job.ordering.name: searched.orders[job.ordering.name]})


def _candidates() -> list[str]:
    """Return the policies to compare: those that an engine could run, without the mask-first ones, to save time."""
    left_out = {NoCache.policy, Belady.policy}
    return [name for name in POLICIES if name not in left_out and not name.startswith(MaskFirstCache.prefix)]


def _curve(searched: SearchedBlock, cache: str) -> CostCurve:
    """Measure what a block costs on the rows searched by what DRAM holds of it, in its best plain order.

    Measured on the last of them, and scaled to all: blocks that fewer tokens reach must not seem as busy as others.
    """
    block = searched.block.shortened(MEASURED_ROWS)
    order = min(searched.orders.values(), key=lambda order: block.serve(order).judged_total)
    capacities = curve_capacities(block.rows.n_neurons)
    scale = searched.block.rows.n_searched / max(1, block.rows.n_searched)
    costs = [scale * block.with_cache(cache, capacity).serve(order).searched_total for capacity in capacities]
    return CostCurve(capacities, tuple(costs))


def _place_block(job: Job, name: str, searched: SearchedBlock, recorded: RecordedDram) -> PlacedBlock:
    """Place one block behind its cache."""
    started = time.perf_counter()
    block = searched.block.with_cache(recorded.cache, recorded.capacity_neurons[name])
    best, tried = order_behind_cache(block, searched.orders, searched.order_misses)
    original = block.serve(original_order(block.rows.n_neurons))
    before, after = original.judged, best.served.judged
    report = BlockReport(
        known(original.searched), known(best.served.searched), searched.report.seconds,
        known(original.held_out), known(best.served.held_out), "neurons", best.name,
        why_helpless(block.trace, known(before), known(after)),
        block.capacity, None if best.pinned is None else best.pinned.size,
        tuple(candidate.tried for candidate in tried),
    )  # fmt: skip
    learned = job.learned_of(name)
    placement = replace(learned, order=best.order, pinned=best.pinned)
    # What is served goes by all that the profile knows, as the engine will.
    placed = PlacedBlock(placement, report, replace(block, learned=learned), best.is_searched)
    return placed.with_seconds(time.perf_counter() - started)
