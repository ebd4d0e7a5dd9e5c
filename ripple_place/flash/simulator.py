"""The simulator: what it costs to serve an activation trace from a layout on a device.

For each token and block: the active neurons, in slot order, are requested from the DRAM cache one by one; reads are
planned on the misses, merged across small gaps, rounded out to pages, split at the device's maximum request, and
charged by size. Reads of different blocks never merge; a neuron in DRAM that lies inside a gap is read through.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import PlacementError, UsageError
from ripple_place.flash.caches.registry import find_policy
from ripple_place.flash.replay import replay_block
from ripple_place.flash.results import BlockResult, FlashTotals, LayoutResult, percentiles_us
from ripple_place.kernels.reads import N_TOTALS, NEURONS_READ, PAGES, READS, REQUESTS, charge_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from ripple_place.flash.device import DeviceProfile
    from ripple_place.flash.layout import BlockLayout, Layout
    from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace


@dataclass(frozen=True)
class SimulationParams:
    """How a simulated reader works.

    Parameters
    ----------
    cache : str
        DRAM cache policy (`ripple_place.flash.caches.registry.POLICIES`).
    capacity_neurons : mapping of str to int
        Neurons of each block that DRAM holds; a block that is not named has none.
    gap : int or mapping of str to int, optional
        Unwanted neurons between two wanted ones that are read through, for all blocks or by block; None takes the
        device's whole break-even gap for each block's bundles.
    n_threads : int
        Blocks simulated at a time. Results do not depend on it.

    Raises
    ------
    UsageError
        If a number is negative or the policy unknown.
    """

    cache: str = "none"
    capacity_neurons: Mapping[str, int] = field(default_factory=dict)
    gap: int | Mapping[str, int] | None = None
    n_threads: int = 1

    def __post_init__(self) -> None:
        find_policy(self.cache)
        gaps = [self.gap or 0] if self.gap is None or isinstance(self.gap, int) else self.gap.values()
        if min([*gaps, *self.capacity_neurons.values(), self.n_threads - 1]) < 0:
            raise UsageError(
                "simulation", found=f"gap {self.gap}, {self.n_threads} threads, or a negative capacity",
                expected="gaps and capacities of at least 0, one thread or more", remedy="correct the number",
            )  # fmt: skip

    def gap_of(self, name: str, layout: BlockLayout, device: DeviceProfile) -> int:
        """Return the gap of block `name`."""
        gap = self.gap if isinstance(self.gap, int) or self.gap is None else self.gap.get(name)
        return device.gap(layout.extent.bundle_bytes) if gap is None else gap


def simulate(
    trace: ActivationTrace, layout: Layout, device: DeviceProfile, params: SimulationParams | None = None
) -> LayoutResult:
    """Return what serving `trace` from `layout` on `device` costs.

    Parameters
    ----------
    trace : ActivationTrace
        All of its blocks are simulated; the cache starts empty and lives as long as the trace.
    layout : Layout
        Has each of the trace's blocks.
    device : DeviceProfile
    params : SimulationParams, optional
        Defaults to no DRAM cache and the device's own gap.

    Raises
    ------
    PlacementError
        If the layout lacks a block of the trace, or has another number of neurons there.
    UsageError
        If the cache cannot serve the placement.

    Notes
    -----
    Deterministic. Time is of the order of the active bits plus the trace's bytes. Memory does not grow with the
    trace but for one float64 a token and block.
    """
    params = params or SimulationParams()
    check_layout(trace, layout)

    def simulate_one(name: str) -> tuple[BlockResult, npt.NDArray[np.float64]]:
        return simulate_block(name, trace.blocks[name], layout.blocks[name], device, params, trace.n_tokens)

    blocks = {}
    token_us = np.zeros(trace.n_tokens)
    with ThreadPoolExecutor(params.n_threads) as pool:
        # In model order, so that times are added up in the same order whatever the number of threads.
        for name, (block, block_token_us) in zip(trace.blocks, pool.map(simulate_one, trace.blocks), strict=True):
            blocks[name] = block
            token_us += block_token_us
    return LayoutResult(layout.name, trace.n_tokens, blocks, token_us)


def check_layout(trace: ActivationTrace, layout: Layout) -> None:
    """Check that `layout` has every block of `trace`, with as many neurons.

    Raises
    ------
    PlacementError
        If not.
    """
    for name, block in trace.blocks.items():
        n_placed = layout.blocks[name].n_neurons if name in layout.blocks else None
        if n_placed != block.n_neurons:
            raise PlacementError(
                f"layout {layout.name}: {name}", found="no such block" if n_placed is None else f"{n_placed} neurons",
                expected=f"{block.n_neurons} neurons, as in the trace", remedy="give a layout of the trace's model",
            )  # fmt: skip


def simulate_block(
    name: str, trace: BlockTrace, layout: BlockLayout, device: DeviceProfile, params: SimulationParams, n_tokens: int
) -> tuple[BlockResult, npt.NDArray[np.float64]]:
    """Return what one block costs, and its flash time by token; parameters as for `simulate`."""
    extent, n_neurons = layout.extent, layout.n_neurons
    gap = params.gap_of(name, layout, device)
    capacity = params.capacity_neurons.get(name, 0)
    cache = find_policy(params.cache)(capacity, layout.placement)
    form_us, line_us = device.request_table_us(), device.request_table_us(device.line(extent.bundle_bytes))
    extent_bytes = np.array([extent.bundle_bytes, extent.stride_bytes, extent.base_offset_bytes], np.int64)
    scratch = np.empty((3, n_neurons), np.int32)
    totals, length_counts = np.zeros(N_TOTALS, np.int64), np.zeros(n_neurons + 1, np.int64)
    row_us, line_total_us = np.empty(trace.n_rows), np.zeros(1)
    n_active = n_hits = 0
    for chunk in replay_block(trace, layout.placement, cache):
        charge_tokens(
            chunk.slots, chunk.row_starts, chunk.is_hit, gap, extent_bytes, device.page_bytes, form_us, line_us,
            scratch[0], scratch[1], scratch[2], totals, length_counts,
            row_us[chunk.first_row : chunk.first_row + chunk.n_rows], line_total_us,
        )  # fmt: skip
        n_active += chunk.slots.size
        n_hits += int(np.count_nonzero(chunk.is_hit))
    token_us = row_us
    if trace.token_index is not None:
        token_us = np.zeros(n_tokens)
        token_us[trace.token_index] = row_us
    block_totals = FlashTotals(
        n_active=n_active,
        n_hits=n_hits,
        n_reads=int(totals[READS]),
        n_neurons_read=int(totals[NEURONS_READ]),
        n_requests=int(totals[REQUESTS]),
        bytes_read=int(totals[PAGES]) * device.page_bytes,
        bytes_requested=n_active * extent.bundle_bytes,
        bytes_active=(n_active - n_hits) * extent.bundle_bytes,
        read_length_counts=length_counts,
        flash_time_us=float(row_us.sum()),
        flash_time_linear_us=float(line_total_us[0]),
    )
    block = BlockResult(trace.n_rows, extent.bundle_bytes, gap, capacity, block_totals, percentiles_us(token_us))
    return block, token_us
