"""The simulator: what it costs to serve an activation trace from a layout on a device.

For each token and block: the active neurons, in slot order, are requested from the DRAM cache one by one, of which each
block has its own or all blocks share one; reads are planned on the misses, merged across small gaps, rounded out to
pages, split at the device's maximum request, and charged by size. Reads of different blocks never merge; a neuron in
DRAM that lies inside a gap is read through.
"""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import PlacementError
from ripple_place.flash.block_tally import BlockTally, RowTokens
from ripple_place.flash.candidates import candidates_of, count_unpredicted
from ripple_place.flash.results import BlockResult, LayoutResult, percentiles_us
from ripple_place.flash.sequential import sequential_read_us
from ripple_place.flash.simulation_params import SimulationParams as SimulationParams
from ripple_place.flash.step_times import per_sequence, per_token
from ripple_place.flash.token_time import TokenClock

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from ripple_place.flash.block_rows import BlockRows
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import BlockLayout, Layout
    from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace


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
        If the cache cannot serve the placement, or blocks cannot share one.

    Notes
    -----
    Deterministic. Time is of the order of the active bits plus the trace's bytes. Memory does not grow with the
    trace but for 16 bytes a token and block, and for what replacement that knows the future needs
    (`ripple_place.flash.replay.replay_block`).
    """
    params = params or SimulationParams()
    check_layout(trace, layout)
    clock = None if params.compute is None else TokenClock(params.compute.on(device), trace.n_tokens)
    # Closed by hand: a run that is interrupted must not wait for the blocks under way.
    with closing(serve_blocks(trace, layout, device, params)) as served:
        result = _add_up(trace, layout, params, served, clock)
    return result if params.batch_of_step is None else per_token(result, params.batch_of_step)


def serve_blocks(
    trace: ActivationTrace, layout: Layout, device: DeviceProfile, params: SimulationParams
) -> Generator[tuple[BlockResult, BlockRows]]:
    """Yield what each block costs, and what it served each token, in model order; parameters as for `simulate`."""
    served = _serve_apart if params.pool_neurons is None else _serve_together
    with ThreadPoolExecutor(params.n_threads) as pool:
        yield from served(trace, layout, device, params, pool)


def _add_up(
    trace: ActivationTrace, layout: Layout, params: SimulationParams,
    served: Iterable[tuple[BlockResult, BlockRows]], clock: TokenClock | None,
) -> LayoutResult:  # fmt: skip
    """Return what all blocks cost together, from what each costs, in model order."""
    blocks = {}
    token_us = np.zeros(trace.n_tokens)
    # In model order, so that times are added up in the same order whatever the number of threads.
    for name, (block, rows) in zip(trace.blocks, served, strict=True):
        if params.batch_of_step is not None:
            block = replace(block, percentiles_us=percentiles_us(per_sequence(rows.flash_us, params.batch_of_step)))
        blocks[name] = block
        token_us += rows.flash_us
        if clock is not None:
            clock.add(name, rows, block.bundle_bytes)
    token_time = None if clock is None else clock.finish()
    return LayoutResult(layout.name, trace.n_tokens, blocks, token_us, token_time)


def _serve_apart(
    trace: ActivationTrace, layout: Layout, device: DeviceProfile, params: SimulationParams, pool: ThreadPoolExecutor
) -> Iterator[tuple[BlockResult, BlockRows]]:
    """Yield what each block costs with a cache of its own."""
    stop = threading.Event()

    def simulate_one(name: str) -> tuple[BlockResult, BlockRows]:
        return simulate_block(name, trace.blocks[name], layout.blocks[name], device, params, trace.n_tokens, stop)

    try:
        yield from pool.map(simulate_one, trace.blocks)
    except BaseException:
        stop.set()  # The end of the run must not wait for the blocks under way.
        raise


def _serve_together(
    trace: ActivationTrace, layout: Layout, device: DeviceProfile, params: SimulationParams, pool: ThreadPoolExecutor
) -> Iterator[tuple[BlockResult, BlockRows]]:
    """Yield what each block costs with a cache that all share, whose replay is one thread's work."""
    tallies = {
        name: _tally(name, block, layout.blocks[name], device, params, trace.n_tokens)
        for name, block in trace.blocks.items()
    }
    for chunks in params.replay_pool(trace, layout, device):
        for _ in pool.map(lambda tally, chunk: tally.add(chunk), map(tallies.__getitem__, chunks), chunks.values()):
            pass
    yield from (tally.result() for tally in tallies.values())


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
) -> tuple[BlockResult, BlockRows]:
    """Return what one block costs, and what it served each token; parameters as for `simulate`.

    Raises
    ------
    CancelledError
        Once `stop` is set: nobody waits for the result any more.
    """
    tally = _tally(name, trace, layout, device, params, n_tokens)
    for chunk in params.replay(name, trace, layout, device):
        if stop is not None and stop.is_set():
            raise CancelledError
        tally.add(chunk)
    return tally.result()


def _tally(
    name: str, trace: BlockTrace, layout: BlockLayout, device: DeviceProfile, params: SimulationParams, n_tokens: int
) -> BlockTally:
    """Return what adds up a block's costs."""
    rows = RowTokens(trace.n_rows, trace.token_index, n_tokens)
    reader = params.reader_of(name, layout, device)
    asked, fired = candidates_of(trace, None if layout.form is None else params.gate_first)
    n_unpredicted = 0 if fired is None else count_unpredicted(asked, fired)
    tally = BlockTally(layout, device, reader, rows, params.capacity_of(name), params.has_bound(name), n_unpredicted)
    if ahead := params.read_ahead_neurons.get(name, 0):
        tally.charge(*sequential_read_us(device, ahead * layout.extent.stride_bytes), is_ahead=True)
    return tally
