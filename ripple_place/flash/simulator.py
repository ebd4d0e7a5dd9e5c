"""The simulator: what it costs to serve an activation trace from a layout on a device.

For each token and block: the active neurons, in slot order, are requested from the DRAM cache one by one; reads are
planned on the misses, merged across small gaps, rounded out to pages, split at the device's maximum request, and
charged by size. Reads of different blocks never merge; a neuron in DRAM that lies inside a gap is read through.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import PlacementError, UsageError
from ripple_place.flash.admission import Admission
from ripple_place.flash.block_reader import BlockReader
from ripple_place.flash.block_tally import BlockTally, RowTokens
from ripple_place.flash.caches.belady import Belady
from ripple_place.flash.caches.registry import find_policy
from ripple_place.flash.candidates import candidates_of, count_unpredicted
from ripple_place.flash.gate_reader import GateReader
from ripple_place.flash.planners.registry import find_planner
from ripple_place.flash.read_cost import ReadCost
from ripple_place.flash.replay import replay_block
from ripple_place.flash.results import BlockResult, LayoutResult
from ripple_place.flash.token_time import TokenClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.arrays import Float64Array
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.gate_first import GateFirst
    from ripple_place.flash.layout import BlockLayout, Layout
    from ripple_place.flash.replay import Chunk
    from ripple_place.flash.token_time import ComputeParams
    from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace


@dataclass(frozen=True)
class SimulationParams:
    """How a simulated reader works.

    Parameters
    ----------
    cache : str
        DRAM cache policy (`ripple_place.flash.caches.registry.find_policy`).
    capacity_neurons : mapping of str to int
        Neurons of each block that DRAM holds; a block that is not named has none.
    gap : int, mapping of str to int or str, optional
        Unwanted neurons between two wanted ones that are read through, for all blocks or by block; None takes the
        device's whole break-even gap for each block's bundles. Or ``adaptive`` or ``optimal``: a planner that decides
        token by token (`ripple_place.flash.planners.registry`).
    compute : ComputeParams, optional
        What computing a layer costs; without it, only reading is timed.
    n_threads : int
        Blocks simulated at a time. Results do not depend on it.
    admission : Admission
        Which misses may enter the cache.
    reset_tokens : tuple of int
        Ascending tokens before which the cache is emptied, such as the first of each text segment.
    with_bound : bool
        Whether to count the hits of Belady's replacement at the same capacity beside those of a cache.
    gate_first : GateFirst, optional
        How gates say what fires, in the blocks whose layout has a form; without, what fires is read as a whole. Drawn
        candidates (`ripple_place.flash.candidates`) must stand in the trace.

    Raises
    ------
    UsageError
        If a number is negative or the policy unknown.
    """

    cache: str = "none"
    capacity_neurons: Mapping[str, int] = field(default_factory=dict)
    gap: int | Mapping[str, int] | str | None = None
    n_threads: int = 1
    compute: ComputeParams | None = None
    admission: Admission = field(default_factory=Admission)
    reset_tokens: tuple[int, ...] = ()
    with_bound: bool = False
    gate_first: GateFirst | None = None

    def __post_init__(self) -> None:
        find_policy(self.cache)
        find_planner(self.planner)
        if self.gap is None or isinstance(self.gap, int | str):
            gaps = [self.gap] if isinstance(self.gap, int) else []
        else:
            gaps = list(self.gap.values())
        if min([*gaps, *self.capacity_neurons.values(), self.n_threads - 1]) < 0:
            raise UsageError(
                "simulation", found=f"gap {self.gap}, {self.n_threads} threads, or a negative capacity",
                expected="gaps and capacities of at least 0, one thread or more", remedy="correct the number",
            )  # fmt: skip

    @property
    def planner(self) -> str:
        """Name of the read planner."""
        return self.gap if isinstance(self.gap, str) else "fixed"

    def gap_of(self, name: str, layout: BlockLayout, device: DeviceProfile) -> int:
        """Return the gap of block `name`; for a planner that decides token by token, the device's."""
        gap = None if self.gap is None or isinstance(self.gap, str) else self.gap
        if gap is not None and not isinstance(gap, int):
            gap = gap.get(name)
        return device.gap(layout.extent.bundle_bytes) if gap is None else gap

    def reader_of(self, name: str, layout: BlockLayout, device: DeviceProfile) -> BlockReader | GateReader:
        """Return what reads block `name`.

        Raises
        ------
        UsageError
            If the planner, or reading gates first, does not go with the layout or the device.
        """
        gap = self.gap_of(name, layout, device)
        if layout.form is None or (self.gate_first is None and not layout.is_apart):
            return BlockReader(layout, device, self.planner, gap)
        return GateReader(layout, device, self.planner, gap, self.gate_first, is_given=self.gap_is_given(name))

    def gap_is_given(self, name: str) -> bool:
        """Return whether the gap of block `name` is a number that was asked for."""
        return isinstance(self.gap, int) or (isinstance(self.gap, Mapping) and name in self.gap)

    def has_bound(self, name: str) -> bool:
        """Return whether the hits of the best replacement are counted in block `name`."""
        return self.with_bound and self.cache != "none" and self.capacity_neurons.get(name, 0) > 0

    def replay(self, name: str, trace: BlockTrace, layout: BlockLayout, device: DeviceProfile) -> Iterator[Chunk]:
        """Yield the accesses of block `name`, a chunk of rows at a time, and what of them was in DRAM.

        Raises
        ------
        UsageError
            If the cache cannot serve the placement.
        """
        capacity, placement = self.capacity_neurons.get(name, 0), layout.placement
        reads = ReadCost.on_device(device, layout.extent.bundle_bytes, self.gap_of(name, layout, device))
        cache = find_policy(self.cache)(capacity, placement, reads)
        bound = Belady(capacity, placement) if self.has_bound(name) else None
        tokens = np.asarray(self.reset_tokens, np.int64)
        rows = tokens if trace.token_index is None else np.unique(np.searchsorted(trace.token_index, tokens))
        asked, fired = candidates_of(trace, None if layout.form is None else self.gate_first)
        return replay_block(
            asked, placement, cache, name=name, admission=self.admission, reset_rows=rows.tolist(), bound=bound,
            fired=fired,
        )  # fmt: skip


def simulate(
    trace: ActivationTrace, layout: Layout, device: DeviceProfile, params: SimulationParams | None = None
) -> LayoutResult:
    """Return what serving `trace` from `layout` on `device` costs.

    Parameters
    ----------
    trace : ActivationTrace
        All of its blocks are simulated; the cache starts empty and lives as long as the trace, or until the next of
        `params.reset_tokens`.
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
    trace but for one float64 a token and block, and for what replacement that knows the future needs
    (`ripple_place.flash.replay.replay_block`).
    """
    params = params or SimulationParams()
    check_layout(trace, layout)

    stop = threading.Event()

    def simulate_one(name: str) -> tuple[BlockResult, Float64Array]:
        return simulate_block(name, trace.blocks[name], layout.blocks[name], device, params, trace.n_tokens, stop)

    blocks = {}
    token_us = np.zeros(trace.n_tokens)
    clock = None if params.compute is None else TokenClock(params.compute, trace.n_tokens)
    with ThreadPoolExecutor(params.n_threads) as pool:
        try:
            # In model order, so that times are added up in the same order whatever the number of threads.
            for name, (block, block_token_us) in zip(trace.blocks, pool.map(simulate_one, trace.blocks), strict=True):
                blocks[name] = block
                token_us += block_token_us
                if clock is not None:
                    clock.add(name, block_token_us)
        except BaseException:
            stop.set()  # The end of the run must not wait for the blocks under way.
            raise
    token_time = None if clock is None else clock.finish()
    return LayoutResult(layout.name, trace.n_tokens, blocks, token_us, token_time)


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
    name: str,
    trace: BlockTrace,
    layout: BlockLayout,
    device: DeviceProfile,
    params: SimulationParams,
    n_tokens: int,
    stop: threading.Event | None = None,
) -> tuple[BlockResult, Float64Array]:
    """Return what one block costs, and its flash time by token; parameters as for `simulate`.

    Raises
    ------
    CancelledError
        Once `stop` is set: nobody waits for the result any more.
    """
    capacity = params.capacity_neurons.get(name, 0)
    rows = RowTokens(trace.n_rows, trace.token_index, n_tokens)
    asked, fired = candidates_of(trace, None if layout.form is None else params.gate_first)
    tally = BlockTally(
        layout, device, params.reader_of(name, layout, device), rows, capacity, params.has_bound(name),
        0 if fired is None else count_unpredicted(asked, fired),
    )  # fmt: skip
    for chunk in params.replay(name, trace, layout, device):
        if stop is not None and stop.is_set():
            raise CancelledError
        tally.add(chunk)
    return tally.result()
