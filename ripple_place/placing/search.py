"""The stage that makes orders on the first part of the trace, for the rest of it to judge."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ripple_place.ordering.activity import Activity
from ripple_place.ordering.original import original_order
from ripple_place.ordering.registry import ORDERINGS, compared_orderings
from ripple_place.placing.block_report import BlockReport, known, why_helpless
from ripple_place.placing.cached_block import CachedBlock
from ripple_place.placing.placed import PlacedBlock, SearchedBlock
from ripple_place.trace.split_block import SplitBlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.ordering.activity import Ordered
    from ripple_place.placing.job import Job
    from ripple_place.placing.placed import Placed


def search(job: Job, placed: Placed) -> Placed:
    """Order all blocks on the rows searched, several at a time; results do not depend on how many."""
    for name in job.names:
        job.cost_of(name)
    _ = job.trace  # Refused now, rather than by the first block.
    report_progress = job.track.searches(len(job.names), f"ordering ({job.ordering.name})")

    def search_one(name: str) -> SearchedBlock:
        try:
            return _search_block(job, name, partial(report_progress, name))
        finally:
            report_progress(name, 1.0, 0.0)

    if job.params.n_threads == 1 or len(job.names) == 1:
        return replace(placed, searched={name: search_one(name) for name in job.names})
    with ThreadPoolExecutor(job.params.n_threads) as pool:
        try:
            return replace(placed, searched=dict(zip(job.names, pool.map(search_one, job.names), strict=True)))
        except BaseException:
            job.clock.stop()  # The end of the run must not wait for the searches.
            raise


def _search_block(job: Job, name: str, report_progress: Callable[[float, float], object]) -> SearchedBlock:
    """Order a block in all the ways that are asked for: those that take no clock first, then those that search."""
    started = time.perf_counter()
    cost = job.cost_of(name)
    orderer = job.orderer_of(name, cost)
    asked = {job.ordering.name, *(compared_orderings() if job.params.compare else ())}
    with job.clock.counting:
        rows = SplitBlock.of_trace(job.trace, name)
        block = CachedBlock.of_rows(name, rows, cost)
        activity = Activity.of_rows(rows)
        orders = orderer.plain(activity)
        for other in sorted(asked - orders.keys()):
            if not ORDERINGS[other].is_searched:
                orders[other] = orderer.make(ORDERINGS[other], activity).order
    report = BlockReport(None, None, 0.0)
    for searched in sorted(other for other in asked if ORDERINGS[other].is_searched):
        starts = activity.with_starts(dict(orders))
        made = orderer.make(ORDERINGS[searched], starts, report_progress=report_progress)
        orders[searched] = made.order
        if searched == job.ordering.name:
            report = _report_of(made, rows, cost.unit)
    report = replace(report, seconds=time.perf_counter() - started)
    return SearchedBlock(block, orders, orderer, orderer.misses_by(job.ordering), report)


def _report_of(made: Ordered, rows: SplitBlock, unit: str) -> BlockReport:
    """Return what a search came to: its cost before and after, on the rows searched and on those held out."""
    cost_before, cost = made.cost["original"], made.cost[made.chosen]
    held_before, held = known(made.held_out["original"]), known(made.held_out[made.chosen])
    judged = (held_before, held) if rows.has_held_out else (cost_before, cost)
    return BlockReport(
        known(cost_before), known(cost), 0.0, held_before, held, unit, made.chosen, why_helpless(rows.block, *judged)
    )


def take_asked(job: Job, placed: Placed) -> Placed:
    """Take the order that was asked for, as it was made on the rows searched, so that the rows held out judge it."""
    name_of = job.ordering.name
    blocks = {}
    for name, searched in placed.searched.items():
        report = searched.report if job.ordering.is_searched else _judged_report(job, searched)
        placement = replace(job.learned_of(name), order=searched.orders[name_of])
        is_searched = job.ordering.is_searched and report.chosen == name_of
        blocks[name] = PlacedBlock(placement, report, searched.block, is_searched)
    return replace(placed, blocks=blocks)


def _judged_report(job: Job, searched: SearchedBlock) -> BlockReport:
    """Return what an order made without search costs on both parts of the rows."""
    block, ordering = searched.block, job.ordering
    original = block.serve(original_order(block.trace.n_neurons))
    served = block.serve(searched.orders[ordering.name])
    note = ""
    if ordering.sees_activity:
        note = why_helpless(block.trace, known(original.judged), known(served.judged))
    return BlockReport(
        known(original.searched), known(served.searched), searched.report.seconds,
        known(original.held_out), known(served.held_out), "neurons", ordering.name, note,
    )  # fmt: skip
