"""The stage that orders on all that the profile knows: for orderings that have nothing to choose."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.ordering.activity import Activity
from ripple_place.ordering.objective import reads_per_token
from ripple_place.ordering.original import original_order
from ripple_place.placing.block_report import BlockReport, why_helpless
from ripple_place.placing.placed import PlacedBlock
from ripple_place.trace.split_block import SplitBlock

if TYPE_CHECKING:
    from ripple_place.placing.job import Job
    from ripple_place.placing.placed import Placed


def order_all_rows(job: Job, placed: Placed) -> Placed:
    """Order each block on all its rows, and report the reads of a token before and after."""
    if job.ordering.takes_effort:
        _ = job.trace  # Imported counts are refused before the first block is ordered.
    blocks = {name: _order_block(job, name) for name in job.track(job.names, f"ordering ({job.ordering.name})")}
    return replace(placed, blocks=blocks)


def _order_block(job: Job, name: str) -> PlacedBlock:
    started = time.perf_counter()
    learned, trace = job.profile.blocks[name], job.profile.trace
    rows = None if trace is None else SplitBlock.unsplit(trace.blocks[name])
    bits = None if rows is None else NeuronBits.of_block(rows.block)
    activity = Activity(learned.frequency, rows, bits, learned.graph)
    made = job.orderer_of(name, None).make(job.ordering, activity)
    report = BlockReport(
        None, None, 0.0, chosen=job.ordering.name, lower_bound=made.lower_bound, gap_to_bound=made.gap_to_bound
    )
    if bits is not None and rows is not None:
        before = reads_per_token(bits, original_order(learned.n_neurons))
        after = reads_per_token(bits, made.order)
        note = why_helpless(rows.block, before, after) if job.ordering.sees_activity else ""
        report = replace(report, objective_before=before, objective=after, note=note)
    placement = replace(job.learned_of(name), order=made.order)
    return PlacedBlock(placement, replace(report, seconds=time.perf_counter() - started))
