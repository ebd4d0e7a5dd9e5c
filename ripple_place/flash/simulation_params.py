"""How a simulated reader works: its cache or caches, and how it plans reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.admission import Admission
from ripple_place.flash.block_reader import BlockReader
from ripple_place.flash.caches.belady import Belady
from ripple_place.flash.caches.registry import find_policy
from ripple_place.flash.caches.segmented import Segmented
from ripple_place.flash.candidates import candidates_of
from ripple_place.flash.gate_reader import GateReader
from ripple_place.flash.planners.registry import find_planner
from ripple_place.flash.pool import Pool, check_one_size
from ripple_place.flash.pooled_replay import replay_pool
from ripple_place.flash.read_cost import ReadCost
from ripple_place.flash.replay import replay_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ripple_place.arrays import Int32Array
    from ripple_place.flash.caches.cache import Cache
    from ripple_place.flash.caches.segments import HotSegments
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
    pool_neurons : int, optional
        All blocks share one cache of so many neurons, and `capacity_neurons` does not matter
        (`ripple_place.flash.pooled_replay`). None: each block has its own.
    segments : HotSegments, optional
        The hot clusters of the policy ``segmented``, which needs them and a pool; other policies ignore them.
    batch_of_step : ndarray of shape (n_tokens,), int32, optional
        The trace is of steps, each of which serves so many sequences
        (`ripple_place.trace.union.batch_steps`): a token takes the step's time over that number. None: 1.
    read_ahead_neurons : mapping of str to int
        Neurons of each block that are read for every row in one sequence, before it is known what the row asks for,
        and are not kept: what a plan computes densely without room for it in DRAM. The trace does not ask for them.
    gate_first : GateFirst, optional
        How gates say what fires, in the blocks whose layout has a form; without, what fires is read as a whole. Drawn
        candidates (`ripple_place.flash.candidates`) must stand in the trace.

    Raises
    ------
    UsageError
        If a number is negative, the policy unknown, or ``segmented`` without what it needs.
    """

    cache: str = "none"
    capacity_neurons: Mapping[str, int] = field(default_factory=dict)
    gap: int | Mapping[str, int] | str | None = None
    n_threads: int = 1
    compute: ComputeParams | None = None
    admission: Admission = field(default_factory=Admission)
    reset_tokens: tuple[int, ...] = ()
    with_bound: bool = False
    pool_neurons: int | None = None
    segments: HotSegments | None = None
    batch_of_step: Int32Array | None = field(default=None, compare=False)
    gate_first: GateFirst | None = None
    read_ahead_neurons: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cache != Segmented.policy or self.segments is None or self.pool_neurons is None:
            find_policy(self.cache)
        find_planner(self.planner)
        if self.gap is None or isinstance(self.gap, int | str):
            gaps = [self.gap] if isinstance(self.gap, int) else []
        else:
            gaps = list(self.gap.values())
        if min([*gaps, *self.capacity_neurons.values(), self.pool_neurons or 0, self.n_threads - 1]) < 0:
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

    def capacity_of(self, name: str) -> int | None:
        """Return the neurons of block `name` that DRAM holds; None where blocks share a pool."""
        return self.capacity_neurons.get(name, 0) if self.pool_neurons is None else None

    def has_bound(self, name: str) -> bool:
        """Return whether the hits of the best replacement are counted in block `name`."""
        capacity = self.capacity_of(name) if self.pool_neurons is None else self.pool_neurons
        return self.with_bound and self.cache != "none" and bool(capacity)

    def replay(self, name: str, trace: BlockTrace, layout: BlockLayout, device: DeviceProfile) -> Iterator[Chunk]:
        """Yield the accesses of block `name`, a chunk of rows at a time, and what of them was in its own cache.

        Raises
        ------
        UsageError
            If the cache cannot serve the placement.
        """
        assert self.pool_neurons is None
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

    def replay_pool(self, trace: ActivationTrace, layout: Layout, device: DeviceProfile) -> Iterator[dict[str, Chunk]]:
        """Yield the accesses of all blocks, a chunk of tokens at a time, and what of them was in the pool.

        Raises
        ------
        UsageError
            If the cache cannot serve the placements, or blocks cannot share a pool.
        """
        assert self.pool_neurons is not None
        blocks = {name: layout.blocks[name] for name in trace.blocks}
        sizes = {name: block.extent.bundle_bytes for name, block in blocks.items()}
        gaps = {name: self.gap_of(name, block, device) for name, block in blocks.items()}
        check_one_size(layout.name, sizes, gaps)
        placements = {name: block.placement for name, block in blocks.items()}
        pool, first = Pool.of_blocks(placements), next(iter(blocks))
        reads = ReadCost.on_device(device, sizes[first], gaps[first])
        events: dict[int, Callable[[], None]] = {}
        cache: Cache
        if self.cache == Segmented.policy and self.segments is not None:
            self.segments.check_blocks({name: block.n_neurons for name, block in blocks.items()})
            cache = segmented = Segmented(self.pool_neurons, pool.placement, self.segments)
            events = {step: partial(segmented.set_batch, batch) for step, batch in batch_changes(self.batch_of_step)}
        else:
            cache = find_policy(self.cache)(self.pool_neurons, pool.placement, reads)
        bound = Belady(self.pool_neurons, pool.placement) if self.has_bound(first) else None
        asked, fired = dict(trace.blocks), {}
        for name, block in blocks.items():
            asked[name], fires = candidates_of(trace.blocks[name], None if block.form is None else self.gate_first)
            if fires is not None:
                fired[name] = fires
        return replay_pool(
            replace(trace, blocks=asked), placements, pool, cache, admission=self.admission,
            reset_tokens=self.reset_tokens, before_token=events, bound=bound, fired=fired,
        )  # fmt: skip

    def replay_blocks(
        self, trace: ActivationTrace, layout: Layout, device: DeviceProfile, names: Sequence[str]
    ) -> Iterator[tuple[str, Chunk]]:
        """Yield the accesses of some blocks with their names, those of a block in order; raises as the two others."""
        if self.pool_neurons is None:
            for name in names:
                for chunk in self.replay(name, trace.blocks[name], layout.blocks[name], device):
                    yield name, chunk
        else:
            for chunks in self.replay_pool(trace, layout, device):
                yield from ((name, chunks[name]) for name in names if name in chunks)


def batch_changes(batch_of_step: Int32Array | None) -> list[tuple[int, int]]:
    """Return the steps before which the batch size changes, the first one among them, and to what.

    >>> batch_changes(np.array([4, 4, 1]))
    [(0, 4), (2, 1)]
    """
    if batch_of_step is None or not batch_of_step.size:
        return []
    steps = [0, *(np.flatnonzero(np.diff(batch_of_step)) + 1).tolist()]
    return [(step, int(batch_of_step[step])) for step in steps]
