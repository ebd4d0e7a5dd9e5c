"""The assumptions of a simulation, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.pages.rule_assumptions import rule_assumptions
from ripple_place.units import format_bytes, format_time_us

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.pages.report import Report


def assumptions(report: Report) -> list[str]:
    """Return, as sentences, what the numbers rest on."""
    device = report.device
    return [
        _latency(device),
        _compute(report.params),
        *_batches(report.params),
        f"Reads are rounded out to pages of {format_bytes(device.page_bytes)} and split at "
        f"{format_bytes(device.max_request_bytes)}; reads of different blocks never merge.",
        _gaps(report),
        _cache(report),
        *([] if report.predicted is None else [report.predicted.sentences]),
        *_gates(report.params),
        *rule_assumptions(report),
        "Effective bandwidth counts only the bytes of active neurons that were read from flash.",
        *(f"{key}: {source}." for key, source in device.sources.items()),
    ]


def _latency(device: DeviceProfile) -> str:
    together = (
        "of requests over IOPS and bytes over bandwidth, the larger counts."
        if not device.times_add_up
        else "the times of a token's requests add up."
    )
    return f"Device {device.name}: latency in {device.form} form, read {device.describe()}; {together}"


def _compute(params: SimulationParams) -> str:
    reading = "Flash time is reading alone."
    if params.compute is None:
        return reading
    if params.compute.pipeline is not None:
        pipeline = params.compute.pipeline
        return (
            f"A layer is computed by {pipeline.n_threads} threads in clusters, {pipeline.n_resident_clusters} of "
            f"neurons in DRAM and {pipeline.n_missed_clusters} of neurons that one I/O thread reads meanwhile; "
            f"barriers: {pipeline.barriers}. {reading}"
        )
    return (
        f"A layer takes {format_time_us(params.compute.us_per_layer)} to compute; reading overlaps with it as in "
        f"the mode {params.compute.overlap}. {reading}"
    )


def _gates(params: SimulationParams) -> list[str]:
    if params.gate_first is None:
        return []
    return [
        f"Gates are looked at first ({params.gate_first}), then up and down rows of what fires; pictures show "
        "the reads of the latter."
    ]


def _batches(params: SimulationParams) -> list[str]:
    if params.batch_of_step is None:
        return []
    numbers = sorted(set(params.batch_of_step.tolist()), reverse=True)
    return [
        f"The tokens of {' or '.join(map(str, numbers))} sequences are served in one step; a token takes the step's "
        "time over that number. The picture of a token shows a step."
    ]


def _gaps(report: Report) -> str:
    if report.device.is_mapped:
        return "The file is memory-mapped: each page fault fetches what the kernel reads ahead."
    gaps = sorted({block.gap for block in report.results[0].blocks.values() if block.gap is not None})
    if not gaps and report.params.planner == "fixed":
        return "Gates and the rest of bundles are read through gaps up to the break-even gap of each."
    if not gaps:
        return f"Which gaps are read through is decided token by token: {report.params.planner} planner."
    return f"Gaps of up to {' to '.join(map(str, sorted({gaps[0], gaps[-1]})))} unwanted neurons are read through."


def _cache(report: Report) -> str:
    cache, pool, blocks = report.params.cache, report.params.pool_neurons, report.results[0].blocks.values()
    if pool is None:
        dram_bytes = sum((block.capacity_neurons or 0) * block.bundle_bytes for block in blocks)
    else:
        dram_bytes = pool * next(iter(blocks)).bundle_bytes
    if dram_bytes and cache != "none":
        shared = "" if pool is None else ", one pool of all blocks"
        return f"DRAM cache: {cache}, {format_bytes(dram_bytes)} in all{shared}, empty at first."
    return f"DRAM cache: {cache}."
