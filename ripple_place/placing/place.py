"""Order the neurons of a profile's blocks, by whichever ordering was asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ripple_place import __version__
from ripple_place.errors import UsageError
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.ordering.baselines import original_order
from ripple_place.ordering.flash_time import FlashTimeParams
from ripple_place.ordering.granule import expand_order
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.objective import reads_per_token
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.placing.block_report import BlockReport, known, why_helpless
from ripple_place.placing.cached_block import held_out_token
from ripple_place.placing.comparison import combine, compare_orders
from ripple_place.placing.dram.misses import MAX_ROUNDS, REFIT_TURN, Candidate, refit
from ripple_place.placing.dram.place import PlainBlock, check_budget, place_for_dram
from ripple_place.placing.dram.recorded import DEFAULT_CACHE
from ripple_place.placing.granules import coarse_profile
from ripple_place.placing.orderings import BlockSearch, order_bits, order_block, search_path
from ripple_place.placing.search import break_even_gap_of, order_searched_blocks, seed_of, trace_to_search
from ripple_place.placing.search_clock import SearchClock, stop_on_interrupt
from ripple_place.placing.second_copy import CopiesReport, copy_block, copy_bytes, copy_refitted
from ripple_place.units import whole_gap

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from ripple_place.graph.profile import Profile
    from ripple_place.placing.comparison import OrderingComparison
    from ripple_place.placing.dram.place import DramReport
    from ripple_place.placing.params import ReorderParams
    from ripple_place.placing.second_copy import BlockCopies
    from ripple_place.tracking import Track

    Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Placed:
    """What `place_neurons` made.

    Attributes
    ----------
    placement : ModelPlacement
    reports : mapping of str to BlockReport
    dram : DramReport or None
        How a DRAM budget was used.
    comparison : OrderingComparison or None
        What orderings cost on tokens held out, where they were made without those.
    cut_short : str or None
        What ended a search before its effort was spent; see `SearchClock`.
    copies : CopiesReport or None
        What a second copy is worth, where one was asked for.
    """

    placement: ModelPlacement
    reports: Mapping[str, BlockReport]
    dram: DramReport | None = None
    comparison: OrderingComparison | None = None
    cut_short: str | None = None
    copies: CopiesReport | None = None


def place_neurons(
    profile: Profile, names: list[str], params: ReorderParams, bundle_bytes: Mapping[str, int], track: Track
) -> Placed:
    """Order the neurons of the named blocks.

    Parameters
    ----------
    profile : Profile
    names : list of str
        Blocks, in model order.
    params : ReorderParams
    bundle_bytes : mapping of str to int
        Of the named blocks; empty where they are unknown.
    track : Track

    Raises
    ------
    UsageError
        If the ordering or the budget needs to know what a read costs, or a neuron's bytes, and nothing says it.
    TraceFormatError
        If it needs activation bits, and the profile has none.
    """
    if params.granule > 1:
        return place_granules(profile, names, params, bundle_bytes, track)
    check_budget(params.dram_budget, bundle_bytes)
    if not _is_judged(params):
        blocks, reports = _place_on_whole_trace(profile, names, params, track)
        return Placed(ModelPlacement(blocks, _metadata(profile, params, bundle_bytes)), reports)

    with stop_on_interrupt() as interrupt:
        clock = _clock_of(params, len(names), interrupt)
        searched = order_searched_blocks(profile, names, params, bundle_bytes, clock, track)
        return _finish(profile, names, params, bundle_bytes, searched, clock, track)


def _clock_of(params: ReorderParams, n_blocks: int, interrupt: threading.Event) -> SearchClock:
    """Return what shares out the time limit over all searches that a run may make."""
    rounds = (params.ordering == "flash-time" or params.compare) + MAX_ROUNDS * (params.dram_budget is not None)
    return SearchClock((rounds + params.refit) * n_blocks, params.n_threads, params.time_limit_s, interrupt)


def _finish(
    profile: Profile,
    names: list[str],
    params: ReorderParams,
    bundle_bytes: Mapping[str, int],
    searched: Mapping[str, tuple[PlainBlock, BlockReport]],
    clock: SearchClock,
    track: Track,
) -> Placed:
    """Compare what was ordered on the first part of the trace, place it for DRAM if asked for, and record it."""
    dram = None
    metadata = _metadata(profile, params, bundle_bytes)
    plain = {name: block for name, (block, _) in searched.items()}
    assert profile.trace is not None
    n_tokens = profile.trace.n_tokens - held_out_token(profile.trace) or profile.trace.n_tokens
    costs = [
        compare_orders(plain[name].block, plain[name].orders, params.device, bundle_bytes.get(name))
        for name in track(names, "comparing orderings")
    ]
    unit = "neurons" if params.device is None or not bundle_bytes else "us"
    comparison = combine(costs, unit, n_tokens, held_out=n_tokens < profile.trace.n_tokens)
    if params.dram_budget is not None:
        asked = {name: _asked_for(block, params) for name, block in plain.items()}
        learned = {name: _placement(profile, name, original_order(profile.blocks[name].n_neurons)) for name in names}
        blocks, reports, dram = place_for_dram(
            asked,
            params.dram_budget,
            params.cache or DEFAULT_CACHE,
            bundle_bytes,
            learned,
            n_tokens,
            track,
            with_refit=params.refit and params.copies == 1,
        )
        metadata |= dram.recorded.to_metadata()
    elif params.copies == 2 and params.ordering != "flash-time":
        # Unlike a single copy, made without the tokens that judge, as those must judge both.
        reports = {name: _judged_report(block, params.ordering) for name, block in plain.items()}
        blocks = {name: _placement(profile, name, block.orders[params.ordering]) for name, block in plain.items()}
    elif params.copies == 2:
        reports = {name: report for name, (_, report) in searched.items()}
        blocks = {name: _placement(profile, name, block.orders["flash-time"]) for name, block in plain.items()}
    elif params.ordering == "flash-time":
        reports = {name: report for name, (_, report) in searched.items()}
        blocks = {name: _placement(profile, name, _final_order(plain[name], reports[name], params)) for name in names}
    else:
        blocks, reports = _place_on_whole_trace(profile, names, params, track)
    if clock.cut_short is not None:
        metadata["cut_short"] = clock.cut_short
    copies = None
    if params.copies == 2:
        worth = {}
        for name in track(names, "ordering second copies"):
            blocks[name], reports[name], worth[name] = _with_second_copy(
                profile, name, plain[name], blocks[name], reports[name], dram, params
            )
        extra_bytes = copy_bytes({name: blocks[name].n_neurons for name in names}, bundle_bytes)
        copies = CopiesReport(worth, n_tokens, comparison.held_out, extra_bytes)
    return Placed(ModelPlacement(blocks, metadata), reports, dram, comparison, clock.cut_short, copies)


def place_granules(
    profile: Profile, names: list[str], params: ReorderParams, bundle_bytes: Mapping[str, int], track: Track
) -> Placed:
    """Order granules as if each were a neuron; the reports count granules. Raises as `place_neurons`."""
    if params.dram_budget is not None or params.copies == 2:
        raise UsageError(
            "--granule", found="--dram-budget or --copies 2 as well", expected="one of the two",
            remedy="leave one out: caches and second copies are of neurons, not granules",
        )  # fmt: skip
    coarse = coarse_profile(profile, names, params.granule)
    coarse_bytes = {name: size * params.granule for name, size in bundle_bytes.items()}
    placed = place_neurons(coarse, names, replace(params, granule=1), coarse_bytes, track)
    blocks = {
        name: _placement(
            profile, name, expand_order(placed.placement.blocks[name].order, params.granule, block.n_neurons)
        )
        for name, block in profile.blocks.items()
        if name in names
    }
    metadata = {**_metadata(profile, params, bundle_bytes), "granule": str(params.granule)}
    return replace(placed, placement=ModelPlacement(blocks, metadata))


def _is_judged(params: ReorderParams) -> bool:
    """Return whether orders are made on a part of the trace, for the rest to judge them."""
    return params.ordering == "flash-time" or params.dram_budget is not None or params.compare or params.copies == 2


def _placement(profile: Profile, name: str, order: Int32Array) -> NeuronPlacement:
    return NeuronPlacement(order, frequency=profile.blocks[name].frequency)


def _place_on_whole_trace(
    profile: Profile, names: list[str], params: ReorderParams, track: Track
) -> tuple[dict[str, NeuronPlacement], dict[str, BlockReport]]:
    """Order by a method that has nothing to choose, on all that the profile knows."""
    blocks, reports = {}, {}
    for name in track(names, f"ordering ({params.ordering})"):
        started = time.perf_counter()
        block, trace = profile.blocks[name], profile.trace
        bits = NeuronBits.of_block(trace.blocks[name]) if trace else None
        seed = seed_of(profile, name, params)
        report = BlockReport(None, None, 0.0, chosen=params.ordering)
        if params.ordering == "path":
            trace_to_search(profile, name)
            assert bits is not None
            path = search_path(bits, greedy_path(bits), seed, params.effort)
            order = path.order
            report = replace(report, lower_bound=path.lower_bound, gap_to_bound=path.gap_to_bound)
        else:
            order = order_block(block, bits, params.ordering, seed)
        if bits is not None and trace is not None:
            before = reads_per_token(bits, original_order(block.n_neurons))
            after = reads_per_token(bits, order)
            note = ""
            if params.ordering not in ("original", "random"):
                note = why_helpless(trace.blocks[name], before, after)
            report = replace(report, objective_before=before, objective=after, note=note)
        blocks[name] = _placement(profile, name, order)
        reports[name] = replace(report, seconds=time.perf_counter() - started)
    return blocks, reports


def _final_order(plain: PlainBlock, report: BlockReport, params: ReorderParams) -> Int32Array:
    """Return what ``flash-time`` gives without a cache; what it found, searched on over the whole trace if wanted."""
    order = plain.orders["flash-time"]
    if not params.refit or plain.order_misses is None or report.chosen != "flash-time":
        return order
    return plain.order_misses(plain.block.trace, None, order, REFIT_TURN)


def _judged_report(plain: PlainBlock, ordering: str) -> BlockReport:
    """Return what an ordering without search costs a block that it knows but the rows held out of."""
    block = plain.block
    original, served = block.serve(original_order(block.trace.n_neurons)), block.serve(plain.orders[ordering])
    note = ""
    if ordering not in ("original", "random"):
        note = why_helpless(block.trace, known(original.judged), known(served.judged))
    return BlockReport(
        known(original.searched), known(served.searched), plain.seconds,
        known(original.held_out), known(served.held_out), "neurons", ordering, note,
    )  # fmt: skip


def _with_second_copy(
    profile: Profile,
    name: str,
    plain: PlainBlock,
    placement: NeuronPlacement,
    report: BlockReport,
    dram: DramReport | None,
    params: ReorderParams,
) -> tuple[NeuronPlacement, BlockReport, BlockCopies]:
    """Return the placement with a second order, and what that is worth; then both orders made anew if wanted."""
    started = time.perf_counter()
    seed, block = seed_of(profile, name, params), plain.block
    if dram is not None:
        learned = _placement(profile, name, placement.order)
        block = replace(block, learned=learned)
        block = block.with_cache(dram.recorded.cache, dram.recorded.capacity_neurons[name])
    search = BlockSearch(FlashTimeParams(block.break_even_gap, params.effort), seed)
    order_2, worth = copy_block(block, placement.order, placement.pinned, search)
    order = placement.order
    if params.refit:
        if dram is not None:
            best = Candidate(report.chosen, order, placement.pinned, block.serve(order, placement.pinned))
            order = order if plain.order_misses is None else refit(block, best, plain.order_misses)
        elif params.ordering == "flash-time":
            order = _final_order(plain, report, params)
        else:
            order = order_bits(NeuronBits.of_block(block.trace), params.ordering, seed, params.effort)
        order_2 = copy_refitted(block, order, placement.pinned, search)
    seconds = report.seconds + time.perf_counter() - started
    return replace(placement, order=order, order_2=order_2), replace(report, seconds=seconds), worth


def _asked_for(plain: PlainBlock, params: ReorderParams) -> PlainBlock:
    """Return the block with the orders that may serve as a result: all for ``flash-time``, else the one asked for."""
    if params.ordering == "flash-time":
        return plain
    return replace(plain, orders={params.ordering: plain.orders[params.ordering]})


def _metadata(profile: Profile, params: ReorderParams, bundle_bytes: Mapping[str, int]) -> dict[str, str]:
    """Return what a placement says of its origin; nothing that differs from run to run."""
    metadata = {"ordering": params.ordering, "seed": str(params.seed), "profile": profile.digest}
    metadata["tool_version"] = __version__
    if params.ordering in ("flash-time", "path"):
        metadata["effort"] = str(params.effort)
    if params.refit:
        metadata["refit"] = "true"
    if params.copies == 2:
        metadata |= {"copies": "2", "effort": str(params.effort)}
    sizes = set(bundle_bytes.values())
    one_size = sizes.pop() if len(sizes) == 1 else None
    if one_size is not None:
        metadata["bundle_bytes"] = str(one_size)
    if params.device is not None:
        metadata["device"] = params.device.name
    break_even_gap = break_even_gap_of(params, one_size)
    if break_even_gap is not None:
        metadata |= {"break_even_gap": repr(break_even_gap), "gap": str(whole_gap(break_even_gap))}
    return metadata
