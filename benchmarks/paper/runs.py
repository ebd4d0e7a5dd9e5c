"""Simulated runs in a line: masks to traces, orders to layouts, and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.admission import Admission
from ripple_place.flash.device.profile import DeviceProfile
from ripple_place.flash.layout import Layout
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.flash.results import LayoutResult

PAGE_BYTES = 4096


def independent_trace(
    active_share: float, n_tokens: int, n_blocks: int, n_neurons: int, rng: np.random.Generator
) -> ActivationTrace:
    """Return a trace in which every neuron fires independently of all else."""
    blocks = {}
    for block in range(n_blocks):
        active = rng.random((n_tokens, n_neurons), np.float32) < active_share
        blocks[f"layers.{block}"] = BlockTrace(n_neurons, np.packbits(active, axis=1, bitorder="little"))
    return ActivationTrace(blocks, n_tokens, np.zeros(1, np.int64))


def trace_of(masks: np.ndarray) -> ActivationTrace:
    """Return the trace of one block with the given boolean mask of each token."""
    packed = np.packbits(masks, axis=1, bitorder="little")
    return ActivationTrace({"layers.0": BlockTrace(masks.shape[1], packed)}, len(masks), np.zeros(1, np.int64))


def run(
    trace: ActivationTrace,
    device: DeviceProfile,
    bundle_bytes: int,
    *,
    orders: Mapping[str, np.ndarray] | None = None,
    gap: int | None = 0,
    cache: str = "none",
    cache_share: float = 0.0,
    admission: str = "all",
) -> LayoutResult:
    """Simulate a trace on one layout of packed bundles; checkpoint order where no orders are given."""
    placements = {
        name: NeuronPlacement.original(block.n_neurons) if orders is None else NeuronPlacement(orders[name])
        for name, block in trace.blocks.items()
    }
    capacity = {name: int(cache_share * block.n_neurons) for name, block in trace.blocks.items()}
    layout = Layout.from_placement("layout", ModelPlacement(placements), bundle_bytes)
    params = SimulationParams(
        cache=cache, capacity_neurons=capacity, gap=gap, admission=Admission.parse(admission), n_threads=2
    )
    return simulate(trace, layout, device, params)


def table_device(size_bytes: Sequence[int], latency_us: Sequence[float], source: str) -> DeviceProfile:
    """Return a device of the table form with the page and the longest request of the shipped phones."""
    sources = dict.fromkeys(("page_bytes", "max_request_bytes", "latency_us"), source)
    return DeviceProfile(
        "fitted", source, PAGE_BYTES, 512 * 1024, "table", tuple(map(int, size_bytes)), tuple(map(float, latency_us)),
        sources=sources,
    )  # fmt: skip


def line_device(
    overhead_us: float, bandwidth_bytes_per_s: float, source: str, max_request_bytes: int = 2**26
) -> DeviceProfile:
    """Return a device of the linear form; its longest request is so long that no read is split, unless said."""
    sources = dict.fromkeys(("page_bytes", "max_request_bytes", "overhead_us", "bandwidth_bytes_per_s"), source)
    return DeviceProfile(
        "line", source, PAGE_BYTES, max_request_bytes, "linear", overhead_us=overhead_us,
        bandwidth_bytes_per_s=bandwidth_bytes_per_s, sources=sources,
    )  # fmt: skip
