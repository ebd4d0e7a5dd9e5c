"""The simulator with a rule between activity and cache: what serving a trace costs, and what the rule drops."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ripple_place.blocks import NEURON, ffn_of, input_block_of, is_input_block
from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.flash.block_tally import RowTokens
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.flash.results import LayoutResult
from ripple_place.flash.sequential import sequential_read_us
from ripple_place.flash.simulator import check_layout
from ripple_place.flash.token_time import TokenClock
from ripple_place.select.active_rows import ActiveRows
from ripple_place.select.registry import check_units
from ripple_place.select.result import SelectionResult
from ripple_place.select.selected_block import SelectedBlock, WorthCount
from ripple_place.select.sight import Ffn, Noise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.select.rule import Rule, Tuning
    from ripple_place.select.sight import Sight
    from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace

CHUNK_OUTPUTS = 1 << 19
"""Outputs that are spread out at a time."""


def simulate_selected(
    trace: ActivationTrace, layout: Layout, device: DeviceProfile, params: SimulationParams, rule: Rule,
    tuning: Tuning, *, noise: Noise | None = None, n_parts: Mapping[str, int] | None = None,
) -> LayoutResult:  # fmt: skip
    """Return what serving `trace` by a rule costs, and what the rule drops.

    Parameters
    ----------
    trace : ActivationTrace
        With magnitudes, unless the rule drops nothing.
    layout : Layout
    device : DeviceProfile
    params : SimulationParams
    rule : Rule
    tuning : Tuning
        What was fitted for the rule, on another text.
    noise : Noise, optional
        What the rule sees wrongly.
    n_parts : mapping of str to int, optional
        By block, the parts of a neuron's weights (gate, up, down), for rules that read some of them to decide.

    Raises
    ------
    TraceFormatError
        If magnitudes are missing.
    PlacementError, UsageError
        As `ripple_place.flash.simulator.simulate`, and if the rule lacks something.

    Notes
    -----
    Deterministic. Time is that of the simulator plus about 20 us a row of 4096 neurons; memory does not grow with the
    trace but for 16 bytes a token and block.
    """
    if params.compute is not None:
        params = replace(params, compute=params.compute.on(device))
    check_layout(trace, layout)
    check_units([rule], trace.unit)
    for name in trace.blocks:
        if rule.uses_gate and (n_parts or {}).get(name) != 2:
            raise UsageError(
                f"--select {rule}", found=f"a trace, which has no outputs of the activation function of {name}",
                expected="a model, or an FFN without a gate", remedy="name the model with --text, or take teal",
            )  # fmt: skip
    stop = threading.Event()
    blocks = selected_blocks(
        {name: RowTokens(block.n_rows, block.token_index, trace.n_tokens) for name, block in trace.blocks.items()},
        layout, device, params, rule, tuning, noise or Noise(), n_parts, trace.unit,
    )  # fmt: skip

    def serve(name: str) -> None:
        block, selected = trace.blocks[name], blocks[name]
        if rule.changes_output and block.magnitudes is None:
            raise TraceFormatError(
                name, found="no magnitudes", expected=f"what active neurons put out, which {rule} looks at",
                remedy="record the trace with --magnitudes",
            )  # fmt: skip
        resets = _reset_rows(block, params)
        for first_row, rows in _chunks(block, resets, with_values=rule.changes_output):
            if stop.is_set():
                raise CancelledError
            if first_row in resets:
                selected.start_segment()
            selected.serve(rows)

    with ThreadPoolExecutor(params.n_threads) as pool:
        try:
            for _ in pool.map(serve, trace.blocks):
                pass
        except BaseException:
            stop.set()
            raise
    return gather_result(layout.name, blocks, params, rule, tuning, trace.n_tokens, trace.unit)


def selected_blocks(
    rows: Mapping[str, RowTokens], layout: Layout, device: DeviceProfile, params: SimulationParams, rule: Rule,
    tuning: Tuning, sight: Sight, n_parts: Mapping[str, int] | None = None, unit: str = NEURON,
) -> dict[str, SelectedBlock]:  # fmt: skip
    """Return a rule at work in each block, after charging what is read of every neuron to decide.

    Parameters
    ----------
    rows : mapping of str to RowTokens
        By block, what will be served.
    layout, device, params, rule, tuning, n_parts
        As for `simulate_selected`.
    sight : Sight
        What the rule sees of the rows.
    unit : str
        Of the blocks, one of `ripple_place.blocks.UNITS`.

    Raises
    ------
    UsageError
        If the rule lacks something, or all blocks share one cache.
    """
    if params.pool_neurons is not None:
        refuse_pool(rule)
    n_parts, blocks = n_parts or {}, {}
    decides_by_reading = rule.knowledge.on(unit).sees != "predictor"
    for name, tokens in rows.items():
        placed, read_bytes = layout.blocks[name], 0
        if decides_by_reading:
            if name not in n_parts:
                raise UsageError(
                    f"--select {rule}", found=f"nothing that says whether {name} has a gate",
                    expected="an output of `reorder` among the layouts, or a model",
                    remedy="name one, or write sees=predictor",
                )  # fmt: skip
            bundle_bytes = placed.extent.bundle_bytes
            read_bytes = bundle_bytes * rule.knowledge.parts_read(n_parts[name]) // n_parts[name]
            # What decides is stored apart; what it decides about lies in the layout's order.
            placed = BlockLayout(placed.placement, BlockExtent.packed(bundle_bytes - read_bytes))
        ffn = Ffn(unit, n_parts.get(ffn_of(name), 3) == 3, _n_opposite(name, layout))
        blocks[name] = SelectedBlock(name, rule, placed, device, params, tokens, tuning, sight, ffn)
        if read_bytes:
            blocks[name].tally.charge(*sequential_read_us(device, read_bytes * placed.n_neurons))
    return blocks


def refuse_pool(rule: Rule) -> NoReturn:
    """Refuse a rule where all blocks share one DRAM pool: it is served block by block, with its own cache in view.

    Raises
    ------
    UsageError
    """
    raise UsageError(
        f"--select {rule}", found="one DRAM pool (--dram-pool)", expected="a cache for each block, which is what rules "
        "are served with", remedy="leave --dram-pool or --select out",
    )  # fmt: skip


def _n_opposite(block: str, layout: Layout) -> int | None:
    """Return the units of the FFN's other block, where the layout has it."""
    other = layout.blocks.get(ffn_of(block) if is_input_block(block) else input_block_of(block))
    return None if other is None else other.n_neurons


def gather_result(
    name: str, blocks: Mapping[str, SelectedBlock], params: SimulationParams, rule: Rule, tuning: Tuning,
    n_tokens: int, unit: str = NEURON,
) -> LayoutResult:  # fmt: skip
    """Return what all blocks cost, in model order, and what the rule dropped there."""
    results, token_us, worth = {}, np.zeros(n_tokens), WorthCount()
    clock = None if params.compute is None else TokenClock(params.compute, n_tokens)
    for block, selected in blocks.items():
        results[block], rows = selected.result()
        token_us += rows.flash_us
        worth += selected.worth
        if clock is not None:
            clock.add(block, rows, results[block].bundle_bytes)
    selection = SelectionResult(
        str(rule),
        rule.knowledge.on(unit).sentence,
        worth,
        n_tokens,
        all(block in tuning.importance for block in blocks),
        is_predicted=any(block.is_predicted for block in blocks.values()),
    )
    result = LayoutResult(name, n_tokens, results, token_us, None if clock is None else clock.finish())
    return replace(result, selection=selection)


def _reset_rows(block: BlockTrace, params: SimulationParams) -> frozenset[int]:
    """Return the rows before which the cache is emptied."""
    tokens = np.asarray(params.reset_tokens, np.int64)
    rows = tokens if block.token_index is None else np.unique(np.searchsorted(block.token_index, tokens))
    return frozenset(rows.tolist())


def _chunks(block: BlockTrace, resets: frozenset[int], *, with_values: bool) -> Iterator[tuple[int, ActiveRows]]:
    """Yield first row and outputs of consecutive rows; none reaches across a reset. Without values, outputs are 1."""
    size = max(1, CHUNK_OUTPUTS // block.n_neurons)
    bounds = sorted({*range(0, block.n_rows, size), *(row for row in resets if row < block.n_rows), block.n_rows})
    for first, stop in pairwise(bounds):
        if with_values and block.magnitudes is not None:
            starts = block.magnitudes.indptr[first : stop + 1]
            here = slice(int(starts[0]), int(starts[-1]))
            neurons, values = np.asarray(block.magnitudes.indices[here]), np.asarray(block.magnitudes.values[here])
            yield first, ActiveRows(starts - starts[0], neurons, values)
        else:
            bits = np.unpackbits(np.asarray(block.active[first:stop]), axis=1, bitorder="little", count=block.n_neurons)
            row, active = np.nonzero(bits)
            starts = np.searchsorted(row, np.arange(stop - first + 1)).astype(np.int64)
            yield first, ActiveRows(starts, active.astype(np.int32), np.ones(active.size, np.float32))
