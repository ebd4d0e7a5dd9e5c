"""Order the blocks of a profile on the first part of its trace, for the rest of it to judge."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ripple_place.blocks import sorted_blocks
from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.ordering.flash_time import FlashTimeParams
from ripple_place.placing.block_report import BlockReport, known, why_helpless
from ripple_place.placing.cached_block import CachedBlock, held_out_row, rows_of
from ripple_place.placing.comparison import COMPARED
from ripple_place.placing.dram.place import PlainBlock
from ripple_place.placing.orderings import BlockSearch, order_bits, starts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import numpy.typing as npt

    from ripple_place.graph.profile import Profile
    from ripple_place.placing.dram.misses import MissOrderer
    from ripple_place.placing.params import ReorderParams
    from ripple_place.placing.search_clock import SearchClock
    from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
    from ripple_place.tracking import Track

    Int32Array = npt.NDArray[np.int32]

ORDERS_MISSES = ("flash-time", "path", "greedy", "frequency")
"""Orderings that look at activations: behind a cache they order its misses."""


def order_searched_blocks(
    profile: Profile,
    names: list[str],
    params: ReorderParams,
    bundle_bytes: Mapping[str, int],
    clock: SearchClock,
    track: Track,
) -> dict[str, tuple[PlainBlock, BlockReport]]:
    """Order all blocks on the first part of the trace, several at a time; results do not depend on how many."""
    tell = track.searches(len(names), f"ordering ({params.ordering})")

    def order(name: str) -> tuple[PlainBlock, BlockReport]:
        try:
            return _order_searched(profile, name, params, bundle_bytes, clock, partial(tell, name))
        finally:
            tell(name, 1.0, 0.0)

    if params.n_threads == 1 or len(names) == 1:
        return {name: order(name) for name in names}
    with ThreadPoolExecutor(params.n_threads) as pool:
        return dict(zip(names, pool.map(order, names), strict=True))


def _order_searched(
    profile: Profile,
    name: str,
    params: ReorderParams,
    bundle_bytes: Mapping[str, int],
    clock: SearchClock,
    tell: Callable[[float, float], object],
) -> tuple[PlainBlock, BlockReport]:
    """Order a block on the first part of the trace, in all the ways that are asked for; the last part judges them."""
    started = time.perf_counter()
    break_even_gap = break_even_gap_of(params, bundle_bytes.get(name))
    if break_even_gap is None:
        what = f"--ordering {params.ordering}" if params.ordering == "flash-time" else _asking_option(params)
        raise UsageError(
            what, found="nothing that says what a read costs",
            expected="a device and the size of a neuron's weights, or a break-even gap",
            remedy="add --bundle-bytes 4KiB with --device, or --break-even-gap 5; or order by greedy",
        )  # fmt: skip
    whole = trace_to_search(profile, name)
    trace, seed = whole.blocks[name], seed_of(profile, name, params)
    with clock.counting:
        block = CachedBlock.of(name, trace, held_out_row(whole, name), break_even_gap)
        searched = rows_of(trace, 0, block.n_searched)
        held_out = rows_of(trace, block.n_searched, trace.n_rows) if block.n_searched < trace.n_rows else None
        bits = NeuronBits.of_block(searched)
        orders = starts_of(bits, seed)
        orders |= {
            ordering: order_bits(bits, ordering, seed, params.effort)
            for ordering in sorted(_wanted(params) - orders.keys())
        }
    search_params = _search_params(params, break_even_gap, bundle_bytes.get(name), trace.n_neurons)
    search = BlockSearch(search_params, seed, clock, tell)
    report = BlockReport(None, None, 0.0)
    if params.ordering == "flash-time" or params.compare:
        result = search(searched, held_out, orders)
        orders["flash-time"] = result.order
        held = {key: known(value) for key, value in result.held_out.items()}
        before, after = held["original"], held[result.chosen]
        if held_out is None:
            before, after = result.cost["original"], result.cost[result.chosen]
        note = why_helpless(trace, before, after)
        report = BlockReport(
            known(result.cost["original"]), known(result.cost[result.chosen]), 0.0, held["original"],
            held[result.chosen], "neurons" if search_params.run_cost is None else "us", result.chosen, note,
        )  # fmt: skip
    seconds = time.perf_counter() - started
    search = BlockSearch(search_params, seed, clock)
    order_misses = _order_misses(params, search, seed) if params.ordering in ORDERS_MISSES else None
    return PlainBlock(block, orders, order_misses, seconds), replace(report, seconds=seconds)


def _search_params(
    params: ReorderParams, break_even_gap: float, bundle_bytes: int | None, n_neurons: int
) -> FlashTimeParams:
    """Return how a block is searched: judged by the device's own times where they are known, else by the line."""
    if params.device is None or bundle_bytes is None:
        return FlashTimeParams(break_even_gap, params.effort)
    run_cost_us = params.device.run_cost_us(bundle_bytes, n_neurons)
    return FlashTimeParams(break_even_gap, params.effort, run_cost=run_cost_us, gap=params.device.gap(bundle_bytes))


def _wanted(params: ReorderParams) -> set[str]:
    """Return the orderings, but for the search, that a run must compute on the searched part."""
    return {params.ordering, *(COMPARED if params.compare else ())} - {"flash-time"}


def trace_to_search(profile: Profile, name: str) -> ActivationTrace:
    """Return the profile's trace.

    Raises
    ------
    TraceFormatError
        If it has none.
    """
    if profile.trace is None:
        raise TraceFormatError(
            name, found="a profile without activation bits", expected="a trace to search on",
            remedy="profile a trace, or order by greedy",
        )  # fmt: skip
    return profile.trace


def _order_misses(params: ReorderParams, search: BlockSearch, seed: list[int]) -> MissOrderer:
    """Return what orders the misses of a cache by the ordering that is asked for."""
    if params.ordering == "flash-time":
        return search.order_misses

    def order_misses(searched: BlockTrace, held_out: BlockTrace | None, order: Int32Array, turn: int) -> Int32Array:
        return order_bits(NeuronBits.of_block(searched), params.ordering, seed, params.effort)

    return order_misses


def _asking_option(params: ReorderParams) -> str:
    if params.dram_budget is not None:
        return "--dram-budget"
    return "--copies 2" if params.copies == 2 else "--compare"


def break_even_gap_of(params: ReorderParams, bundle_bytes: int | None) -> float | None:
    """Return lambda as given, or of the device; None where neither says it."""
    if params.device is not None and bundle_bytes is not None:
        return params.device.break_even_gap(bundle_bytes)
    return params.break_even_gap


def seed_of(profile: Profile, name: str, params: ReorderParams) -> list[int]:
    """Return what a block's draws depend on: not on which other blocks are ordered."""
    return [params.seed, sorted_blocks(profile.blocks).index(name)]
