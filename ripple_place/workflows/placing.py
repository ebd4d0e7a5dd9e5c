"""Order the neurons of a profile's blocks, by whichever ordering was asked for."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array

from ripple_place import __version__
from ripple_place.blocks import sorted_blocks
from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.flash.device import whole_gap
from ripple_place.graph.coactivation import NeuronBits, neighbor_graph
from ripple_place.graph.profile import BlockProfile, Profile
from ripple_place.ordering.baselines import frequency_order, original_order, random_order
from ripple_place.ordering.flash_time import FlashTimeParams, flash_time_order
from ripple_place.ordering.granule import expand_order, granule_frequency, granule_trace
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.objective import reads_per_token
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.trace.activation_trace import BlockTrace

if TYPE_CHECKING:
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.workflows.reorder_params import ReorderParams
    from ripple_place.workflows.tracking import Track

HELD_OUT_SHARE = 1 / 8
"""Of the trace's segments (or tokens, where it has but one), the last: they judge what flash-time learned."""


@dataclass(frozen=True)
class BlockReport:
    """What became of one block, on the profile's own trace; None where it has none.

    Attributes
    ----------
    objective_before, objective : float or None
        Of the original and of the new order, in `unit`.
    held_out_before, held_out : float or None
        The same on the tokens that ``flash-time`` held out.
    unit : str
        ``reads`` per token, or ``neurons``: lambda x reads + neurons read per token.
    seconds : float
    chosen : str
        The ordering; where held-out tokens spoke against ``flash-time``, what was taken instead.
    """

    objective_before: float | None
    objective: float | None
    seconds: float
    held_out_before: float | None = None
    held_out: float | None = None
    unit: str = "reads"
    chosen: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the block's entry in ``reorder --json``."""
        return {
            "objective_before": self.objective_before,
            "objective": self.objective,
            "objective_unit": self.unit,
            "held_out_before": self.held_out_before,
            "held_out": self.held_out,
            "chosen": self.chosen,
            # Known to orderings that bound the path; the present ones do not.
            "lower_bound": None,
            "gap_to_bound": None,
            "seconds": self.seconds,
        }


def place_neurons(
    profile: Profile, names: list[str], params: ReorderParams, bundle_bytes: int | None, track: Track
) -> tuple[ModelPlacement, dict[str, BlockReport]]:
    """Order the neurons of the named blocks, or granules of them."""
    if params.granule > 1:
        return _place_granules(profile, names, params, bundle_bytes, track)
    blocks, reports = {}, {}
    break_even_gap = _break_even_gap(params, bundle_bytes)
    places = {name: place for place, name in enumerate(sorted_blocks(profile.blocks))}
    for name in track(names, f"ordering ({params.ordering})"):
        started = time.perf_counter()
        block = profile.blocks[name]
        seed = [params.seed, places[name]]
        if params.ordering == "flash-time":
            order, report = _order_by_flash_time(profile, name, break_even_gap, params.effort, seed)
        else:
            bits = NeuronBits.of_block(profile.trace.blocks[name]) if profile.trace else None
            order = _order_block(block, bits, profile.n_neighbors, params.ordering, seed)
            before = after = None
            if bits is not None:
                before, after = reads_per_token(bits, original_order(block.n_neurons)), reads_per_token(bits, order)
            report = BlockReport(before, after, 0.0, chosen=params.ordering)
        blocks[name] = NeuronPlacement(order, frequency=block.frequency)
        reports[name] = replace(report, seconds=time.perf_counter() - started)
    return ModelPlacement(blocks, _metadata(profile, params, bundle_bytes, break_even_gap)), reports


def _place_granules(
    profile: Profile, names: list[str], params: ReorderParams, bundle_bytes: int | None, track: Track
) -> tuple[ModelPlacement, dict[str, BlockReport]]:
    """Order granules as if each were a neuron; the reports count granules."""
    if profile.trace is None and params.ordering == "greedy":
        raise TraceFormatError(
            "--granule", found="a profile without activation bits", expected="a trace to see granules in",
            remedy="profile a trace, or order by frequency",
        )  # fmt: skip
    granule, coarse, traces = params.granule, dict(profile.blocks), {}
    for name in names:
        frequency = granule_frequency(profile.blocks[name].frequency, granule)
        graph = csr_array((frequency.size, frequency.size), dtype=np.int32)
        if profile.trace is not None:
            traces[name] = granule_trace(profile.trace.blocks[name], granule)
            graph = neighbor_graph(NeuronBits.of_block(traces[name]), profile.n_neighbors)
        coarse[name] = BlockProfile(frequency, graph)
    trace = profile.trace and replace(profile.trace, blocks=traces)
    granule_bytes = None if bundle_bytes is None else bundle_bytes * granule
    whole = replace(params, granule=1)
    placed, reports = place_neurons(Profile(coarse, profile.n_neighbors, trace), names, whole, granule_bytes, track)
    blocks = {}
    for name in names:
        block = profile.blocks[name]
        order = expand_order(placed.blocks[name].order, granule, block.n_neurons)
        blocks[name] = NeuronPlacement(order, frequency=block.frequency)
    metadata = _metadata(profile, params, bundle_bytes, _break_even_gap(params, bundle_bytes))
    return ModelPlacement(blocks, {**metadata, "granule": str(granule)}), reports


def _order_block(
    block: BlockProfile, bits: NeuronBits | None, n_neighbors: int, ordering: str, seed: list[int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    if ordering == "greedy":
        return greedy_path(bits, block.graph, n_neighbors=n_neighbors)
    if ordering == "frequency":
        return frequency_order(block.frequency)
    if ordering == "random":
        return random_order(block.n_neurons, np.random.default_rng(seed))
    return original_order(block.n_neurons)


def _break_even_gap(params: ReorderParams, bundle_bytes: int | None) -> float | None:
    """Return lambda as given, or of the device; None where neither says it."""
    if params.device is not None and bundle_bytes is not None:
        return params.device.break_even_gap(bundle_bytes)
    return params.break_even_gap


def _order_by_flash_time(
    profile: Profile, name: str, break_even_gap: float | None, effort: int, seed: list[int]
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int32]], BlockReport]:
    """Search a block's order on the first part of the trace; the last part judges it."""
    if break_even_gap is None:
        raise UsageError(
            "--ordering flash-time", found="nothing that says what a read costs",
            expected="a device and the size of a neuron's weights, or a break-even gap",
            remedy="add --bundle-bytes 4KiB with --device, or --break-even-gap 5; or order by greedy",
        )  # fmt: skip
    if profile.trace is None:
        raise TraceFormatError(
            name, found="a profile without activation bits", expected="a trace to search on",
            remedy="profile a trace, or order by greedy",
        )  # fmt: skip
    searched, held_out = _hold_out(profile.trace, name)
    bits = NeuronBits.of_block(searched)
    starts = {
        "greedy": greedy_path(bits),
        "frequency": frequency_order(bits.frequency()),
        "original": original_order(bits.n_neurons),
    }
    params = FlashTimeParams(break_even_gap, effort)
    result = flash_time_order(searched, held_out, starts, params, np.random.default_rng(seed))
    held = {key: None if math.isnan(value) else value for key, value in result.held_out.items()}
    report = BlockReport(
        result.cost["original"], result.cost[result.chosen], 0.0, held["original"], held[result.chosen], "neurons",
        result.chosen,
    )  # fmt: skip
    return result.order, report


def _hold_out(trace: ActivationTrace, name: str) -> tuple[BlockTrace, BlockTrace | None]:
    """Split a block's rows into those to search on and the last part, which judges; None if that is empty."""
    starts, block = trace.segment_starts, trace.blocks[name]
    n_held_out = max(1, round(HELD_OUT_SHARE * starts.size))
    first_token = int(starts[-n_held_out]) if starts.size > 1 else round((1 - HELD_OUT_SHARE) * trace.n_tokens)
    row = first_token if block.token_index is None else int(np.searchsorted(block.token_index, first_token))
    if row == 0 or row == block.n_rows:
        return block, None
    return BlockTrace(block.n_neurons, block.active[:row]), BlockTrace(block.n_neurons, block.active[row:])


def _metadata(
    profile: Profile, params: ReorderParams, bundle_bytes: int | None, break_even_gap: float | None
) -> dict[str, str]:
    """Return what a placement says of its origin; nothing that differs from run to run."""
    metadata = {"ordering": params.ordering, "seed": str(params.seed), "profile": profile.digest}
    metadata["tool_version"] = __version__
    if params.ordering == "flash-time":
        metadata["effort"] = str(params.effort)
    if bundle_bytes is not None:
        metadata["bundle_bytes"] = str(bundle_bytes)
    if params.device is not None:
        metadata["device"] = params.device.name
    if break_even_gap is not None:
        metadata |= {"break_even_gap": repr(break_even_gap), "gap": str(whole_gap(break_even_gap))}
    return metadata
