"""One simulation of experts: a trace through a cache, and what its misses cost on each layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import EXPERT, select_layers
from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.experts.accesses import check_experts, list_accesses, unit_bytes_of
from ripple_place.experts.budget import capacities
from ripple_place.experts.layouts import read_expert_layout
from ripple_place.experts.prefetch import HOTTEST
from ripple_place.experts.reading import read_groups, split_sizes
from ripple_place.experts.results import ExpertReads, ExpertResult, ExpertScores, PrefillCost
from ripple_place.experts.serving import Memory, serve
from ripple_place.experts.timing import SERIAL, TokenTiming
from ripple_place.flash.device.conditions import under
from ripple_place.flash.device.files import load_device
from ripple_place.graph.profile import read_profile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.arrays import Float64Array, Int32Array, Int64Array
    from ripple_place.experts.reading import ExpertLayout
    from ripple_place.experts.serve_params import ServeParams
    from ripple_place.experts.serving import Served
    from ripple_place.flash.device.conditions import ConditionedDevice
    from ripple_place.trace.activation_trace import ActivationTrace

SHORT_TRACE_TOKENS = 64
"""Traces of fewer generated tokens are warned of."""
_BY_FREQUENCY = ("pinned", "pinned+lru")


def score_experts(trace: ActivationTrace, params: ServeParams, traces: Sequence[str] = ()) -> ExpertScores:
    """Replay a trace of experts, and charge its misses on each layout.

    Parameters
    ----------
    trace : ActivationTrace
        Of experts.
    params : ServeParams
    traces : sequence of str
        Names of the trace's files.

    Raises
    ------
    UsageError
        If the unit is another one, nothing says how long experts are, or a device, layer or layout is unknown.
    TraceFormatError, PlacementError, DeviceConfigError
        If a file is malformed or of another model.
    OSError
        If a file cannot be read.
    """
    check_experts(trace)
    trace = trace.select(select_layers(trace.blocks, params.layers))
    unit_bytes = _unit_bytes(trace, params.expert_bytes)
    accesses = list_accesses(trace, params.prefill_chunk)
    n_experts = np.diff(accesses.first_item)
    layer_bytes = np.array(list(unit_bytes.values()), np.int64)
    sizes = np.repeat(layer_bytes, n_experts)
    device = under(load_device(str(params.device)), params.conditions, int((n_experts * layer_bytes).sum()))
    layouts = [read_expert_layout(name, trace) for name in params.layouts]
    frequency = _frequency(trace, params.profile, accesses.items, accesses.n_items)
    room = capacities(
        params.dram_budget or 0, n_experts.tolist(), layer_bytes.tolist(), is_pool=params.dram_pool
    )  # fmt: skip
    memory = Memory(
        params.policy, room, sizes, frequency, _read_us(device, sizes), params.admits_prefill,
        tuple(trace.segment_starts.tolist()) if params.reset_at_segments else (),
    )  # fmt: skip
    served = serve(accesses, memory, trace.segment_starts, params.prefetch, with_bound=params.bound)
    timing = _timing(params, len(trace.blocks))
    splits = split_sizes(device) if params.request_bytes is None else [_request_bytes(device, params.request_bytes)]
    results = tuple(
        min(
            (_result(layout, device, served, sizes, timing, split, params) for split in splits),
            key=lambda result: (float(result.flash_us.sum()), float(result.prefill.reads.time_us.sum())),
        )
        for layout in layouts
    )
    n_decode = int(np.unique(accesses.tokens[accesses.is_decode]).size)
    return ExpertScores(
        device, params, tuple(traces), trace.n_tokens, trace.n_tokens - n_decode, unit_bytes, room, results,
        tuple(_warnings(device, params, n_decode)),
    )  # fmt: skip


def _unit_bytes(trace: ActivationTrace, given: int | None) -> dict[str, int]:
    """Return the bytes of an expert by layer."""
    if given is not None:
        return dict.fromkeys(trace.blocks, given)
    recorded = unit_bytes_of(trace)
    if any(not 0 < recorded.get(name, 0) <= 2**30 for name in trace.blocks):
        raise UsageError(
            "--bundle-bytes", found="a trace that does not say how long experts are", expected="the bytes of one",
            remedy="add --bundle-bytes with the bytes of gate, up and down of an expert, such as 3MiB",
        )  # fmt: skip
    return {name: recorded[name] for name in trace.blocks}


def _frequency(trace: ActivationTrace, profile: Path | str | None, items: Int32Array, n_items: int) -> Int64Array:
    """Return how often each expert was used, in a profile or in the trace itself."""
    if profile is None:
        return np.bincount(items, minlength=n_items).astype(np.int64)
    read = read_profile(profile)
    parts = []
    for name, block in trace.blocks.items():
        counts = read.blocks[name].frequency if name in read.blocks else None
        if read.unit != EXPERT or counts is None or counts.size != block.n_neurons:
            raise TraceFormatError(
                profile, found=f"no {block.n_neurons} experts of {name} among its {read.unit}s",
                expected="counts of the experts that the trace has", remedy="give a profile of the same model's routes",
            )  # fmt: skip
        parts.append(np.asarray(counts, np.int64))
    return np.concatenate(parts)


def _read_us(device: ConditionedDevice, sizes: Int64Array) -> Float64Array:
    """Return the time of reading each expert in one piece, at the depth of the profile."""
    table_us = device.request_table_us()
    n_full, n_rest = np.divmod(-(-sizes // device.page_bytes), table_us.size - 1)
    return np.asarray(n_full * table_us[-1] + table_us[n_rest], np.float64)


def _request_bytes(device: ConditionedDevice, wanted: int) -> int:
    """Return the size at which reads are split.

    Raises
    ------
    UsageError
        If it is no whole number of pages, or above the device's largest request.
    """
    if wanted % device.page_bytes or not 0 < wanted <= device.max_request_bytes:
        raise UsageError(
            f"--request-bytes {wanted}", found=f"device {device.name}, of pages of {device.page_bytes} bytes",
            expected=f"whole pages, at most {device.max_request_bytes} bytes",
            remedy=f"give a size such as {device.max_request_bytes}, or leave --request-bytes out",
        )  # fmt: skip
    return wanted


def _timing(params: ServeParams, n_layers: int) -> TokenTiming | None:
    """Return what computing costs; None if that is unknown."""
    per_layer = params.compute_us_per_layer
    if params.compute_us_per_token is not None:
        per_layer = params.compute_us_per_token / n_layers
    return None if per_layer is None else TokenTiming(per_layer, params.overlap or SERIAL)


def _result(
    layout: ExpertLayout, device: ConditionedDevice, served: Served, sizes: Int64Array, timing: TokenTiming | None,
    request_bytes: int, params: ServeParams,
) -> ExpertResult:  # fmt: skip
    """Return what one layout costs."""
    accesses = served.accesses
    missed = ~served.is_hit & ~served.is_ahead
    decode, prompt = missed & accesses.is_decode, missed & ~accesses.is_decode
    n_layers = len(accesses.blocks)
    generated, chunks = (np.unique(accesses.steps[of]) for of in (accesses.is_decode, ~accesses.is_decode))

    def reads(places: Int64Array, items: Int32Array, steps: Int64Array) -> ExpertReads:
        """Return the reads of items for the steps and layers of the accesses at `places`."""
        shape = steps.size, n_layers
        layers = accesses.layers[places].astype(np.int64)
        groups = np.searchsorted(steps, accesses.steps[places]) * shape[1] + layers
        slots = _slots(layout, accesses.blocks, layers, items - accesses.first_item[layers])
        totals = read_groups(layout, device, groups, slots, sizes[items], shape[0] * shape[1], request_bytes)
        return ExpertReads(*(each.reshape(shape) for each in vars(totals).values()))

    per_token_us = params.prefill_compute_us_per_token
    prefill = PrefillCost(
        reads(np.flatnonzero(prompt), accesses.items[prompt], chunks), accesses.step_tokens[chunks],
        np.bincount(np.searchsorted(chunks, accesses.steps[~accesses.is_decode]), minlength=chunks.size),
        None if per_token_us is None else per_token_us / n_layers, params.overlap or SERIAL,
    )  # fmt: skip
    return ExpertResult(
        layout.name, served, sizes, reads(np.flatnonzero(decode), accesses.items[decode], generated),
        reads(served.ahead.before, served.ahead.items, generated), int(sizes[accesses.items[prompt]].sum()), prefill,
        timing, request_bytes,
    )  # fmt: skip


def _slots(layout: ExpertLayout, blocks: tuple[str, ...], layers: Int64Array, experts: Int64Array) -> Int64Array:
    """Return where experts lie among those of their layers."""
    slots = np.asarray(experts, np.int64).copy()
    for place, name in enumerate(blocks):
        if name in layout.slot_of:
            here = layers == place
            slots[here] = layout.slot_of[name][experts[here]]
    return slots


def _warnings(device: ConditionedDevice, params: ServeParams, n_decode: int) -> list[str]:
    """Return how the numbers may mislead."""
    warnings = [*([device.warning] if device.warning else []), *device.condition_warnings]
    asks_frequency = params.policy in _BY_FREQUENCY or (params.prefetch and params.prefetch.kind == HOTTEST)
    if asks_frequency and params.profile is None:
        warnings.append(
            "what is hot was counted on the trace itself, which no engine can do: give --profile of other routes"
        )
    if n_decode < SHORT_TRACE_TOKENS:
        warnings.append(f"{n_decode} generated tokens are few: hits and percentiles of so few say little of the model")
    return warnings
