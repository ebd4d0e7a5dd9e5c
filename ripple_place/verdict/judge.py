"""The verdict on a profile: how much reordering can help this model, and whether the trace is long enough to tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import COLUMN, ffn_of, input_block_of, is_input_block
from ripple_place.bundle_sizes import check_bundle_bytes, sizes_of_blocks
from ripple_place.errors import UsageError
from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
from ripple_place.flash.read_cost import ReadCost, check_break_even_gap
from ripple_place.flash.requests import sample_tokens
from ripple_place.placing.block_report import FEW_ROWS, why_helpless
from ripple_place.verdict.rule_cost import RuleCost
from ripple_place.verdict.scoring import combine_scores, score_block, searched_and_judged
from ripple_place.verdict.verdict import ASSUMED_BUNDLE_BYTES, ASSUMED_WEIGHT_BYTES, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.bundle_sizes import BundleBytes
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.graph.statistics import BlockStatistics
    from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
    from ripple_place.tracking import Track

MAX_SEARCHED_ROWS, MAX_JUDGED_ROWS = 8192, 4096
MAX_BLOCK_WORK = 2**40
"""Pairs x rows of one block: 4096 rows of 16,384 neurons. Wider blocks are judged on fewer rows."""
MAX_WORK = 2**42
"""Pairs x rows of all blocks: 4 blocks of 16,384 neurons, 32 of 4096. In larger models a sample of blocks is judged,
spread evenly."""


@dataclass(frozen=True)
class VerdictParams:
    """The cost of reads, for the verdict.

    Parameters
    ----------
    device : DeviceProfile, str or Path, optional
        A profile, a shipped profile's name, or a device file. By default, `DEFAULT_DEVICE`, unless a break-even gap is
        given.
    bundle_bytes : int or (int, int), optional
        Bytes of a neuron's weights, or of an input column and of a down column: costs are flash times then. Columns
        always cost flash times, of `assumed_sizes` where nothing says theirs.
    break_even_gap : float, optional
        Neurons that take as long to read as a read takes to start, in place of a device's.

    Raises
    ------
    UsageError
        If both a break-even gap and a device or bytes are given, a number is out of range, or there is no such device.
    DeviceConfigError
        If the device file is malformed.
    """

    device: DeviceProfile | str | Path | None = None
    bundle_bytes: BundleBytes | None = None
    break_even_gap: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.device, str | Path):
            object.__setattr__(self, "device", load_device(str(self.device)))
        check_bundle_bytes(self.bundle_bytes)
        if self.break_even_gap is None:
            return
        if self.device is not None or self.bundle_bytes is not None:
            raise UsageError(
                "--break-even-gap", found="--device or --bundle-bytes as well", expected="what reads cost, said once",
                remedy="leave --break-even-gap out, or the others",
            )  # fmt: skip
        check_break_even_gap(self.break_even_gap)

    def read_costs(self, trace: ActivationTrace) -> dict[str, ReadCost]:
        """Return what reads cost by block: flash times where the sizes of bundles are known, else by lambda.

        Lambda is in bundles, and those of input and down columns differ: columns cost flash times in any case.
        """
        if self.break_even_gap is not None:
            return dict.fromkeys(trace.blocks, ReadCost.by_line(self.break_even_gap))
        assert not isinstance(self.device, str | Path), "loaded when the parameters were made"
        device = self.device or load_device(DEFAULT_DEVICE)
        if self.bundle_bytes is not None:
            sizes = sizes_of_blocks(self.bundle_bytes, trace.unit, trace.blocks)
        elif trace.unit == COLUMN:
            sizes = assumed_sizes(trace)
        else:
            return dict.fromkeys(trace.blocks, ReadCost.on_device(device, ASSUMED_BUNDLE_BYTES).as_line())
        return {name: ReadCost.on_device(device, size) for name, size in sizes.items()}


def assumed_sizes(trace: ActivationTrace) -> dict[str, int]:
    """Return bytes of columns: two a weight, up and gate in an input column, as wide as the FFN's other block.

    Where the trace lacks the other block, the column is `ASSUMED_BUNDLE_BYTES` long.
    """
    sizes = {}
    for name in trace.blocks:
        is_input = is_input_block(name)
        other = trace.blocks.get(ffn_of(name) if is_input else input_block_of(name))
        weights = 0 if other is None else other.n_neurons * (2 if is_input else 1)
        sizes[name] = ASSUMED_WEIGHT_BYTES * weights or ASSUMED_BUNDLE_BYTES
    return sizes


def judge(
    trace: ActivationTrace, statistics: Mapping[str, BlockStatistics], params: VerdictParams, track: Track
) -> Verdict:
    """Order blocks on the first half of a trace, and judge the orders by the second.

    Parameters
    ----------
    trace : ActivationTrace
    statistics : mapping of str to BlockStatistics
        Of each block.
    params : VerdictParams
    track : Track
        Receives progress updates.

    Notes
    -----
    Cost is bounded: see `MAX_WORK`. Deterministic.
    """
    costs, middle = params.read_costs(trace), middle_token(trace)
    notes = {}
    for name, block in trace.blocks.items():
        if note := _why_not_judged(block, middle_row(trace, name, middle), statistics[name]):
            notes[name] = note
    blocks = {}
    for name in track(_sample(trace, [name for name in trace.blocks if name not in notes]), "judging orders"):
        block = trace.blocks[name]
        halves = searched_and_judged(
            block, middle_row(trace, name, middle), _max_rows(block.n_neurons), MAX_JUDGED_ROWS
        )
        blocks[name] = score_block(name, *halves, costs[name])
        judged = blocks[name].score.orderings.cost_per_token
        if note := why_helpless(block, judged["original"][0], min(judged["frequency"][0], judged["greedy"][0])):
            notes[name] = note
    overall = None
    if blocks:
        shares = [(block.score, trace.blocks[name].n_rows / trace.n_tokens) for name, block in blocks.items()]
        overall = combine_scores(shares, max(block.judged.n_rows for block in blocks.values()))
    rule = RuleCost.of_trace(trace.metadata)
    return Verdict(costs, trace.n_tokens, len(trace.blocks), overall, blocks, notes, statistics, rule, trace.unit)


def _why_not_judged(block: BlockTrace, middle: int, statistics: BlockStatistics) -> str | None:
    """Return the note on a block that is too quiet or too rarely reached to be judged from row `middle` on, or None."""
    if block.n_rows == 0:
        return "no token reaches it"
    if block.n_rows < 2 * FEW_ROWS or not statistics.active_share:
        return why_helpless(block, None, None) or _too_few(block.n_rows)
    return _too_few(block.n_rows) if min(middle, block.n_rows - middle) < FEW_ROWS else None


def middle_token(trace: ActivationTrace) -> int:
    """Return the first token of the half that judges: the segment start next to the middle, if it is near enough.

    Near is within an eighth of the tokens; otherwise the middle itself, inside a segment.
    """
    middle = trace.n_tokens // 2
    start = int(trace.segment_starts[np.argmin(np.abs(trace.segment_starts - middle))])
    return start if abs(start - middle) <= trace.n_tokens // 8 and start else middle


def middle_row(trace: ActivationTrace, name: str, middle: int) -> int:
    """Return the first row of a block that judges."""
    index = trace.blocks[name].token_index
    return middle if index is None else int(np.searchsorted(index, middle))


def _too_few(n_rows: int) -> str:
    return f"nothing can be said: {n_rows} tokens reach it, too few for one half to judge the other"


def _max_rows(n_neurons: int) -> int:
    return max(FEW_ROWS, min(MAX_SEARCHED_ROWS, MAX_BLOCK_WORK // n_neurons**2))


def _sample(trace: ActivationTrace, names: list[str]) -> list[str]:
    """Return as many blocks, spread evenly, as `MAX_WORK` allows; at least one if there is any."""
    work = []
    for name in names:
        block = trace.blocks[name]
        work.append(block.n_neurons**2 * min(_max_rows(block.n_neurons), block.n_rows // 2))
    n_sampled = len(names)
    while n_sampled > 1 and sum(work[i] for i in sample_tokens(len(names), n_sampled)) > MAX_WORK:
        n_sampled -= 1
    return [names[i] for i in sample_tokens(len(names), n_sampled)] if names else []
