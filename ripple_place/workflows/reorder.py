"""From a profile to a placement, and from a checkpoint to the same model laid out for flash."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place import __version__
from ripple_place.blocks import select_layers, sorted_blocks
from ripple_place.checkpoint.ffn import describe_ffn
from ripple_place.checkpoint.plan import FORMATS, plan_rewrite, resolve_orders
from ripple_place.checkpoint.rewrite import execute
from ripple_place.checkpoint.shards import Checkpoint
from ripple_place.errors import PlacementError, TraceFormatError, UsageError
from ripple_place.flash.device import whole_gap
from ripple_place.flash.layout import BlockExtent, Layout
from ripple_place.flash.simulator import SimulationParams
from ripple_place.flash.simulator import simulate as simulate_layout
from ripple_place.graph.coactivation import NeuronBits
from ripple_place.graph.profile import read_profile
from ripple_place.ordering.baselines import frequency_order, original_order, random_order
from ripple_place.ordering.flash_time import FlashTimeParams, flash_time_order
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.objective import reads_per_token
from ripple_place.placement import ModelPlacement, NeuronPlacement, check_bundle_bytes, write_placement
from ripple_place.trace.activation_trace import BlockTrace
from ripple_place.workflows.outputs import check_output_file
from ripple_place.workflows.tracking import Track, no_track

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ripple_place.checkpoint.ffn import FfnModel
    from ripple_place.checkpoint.plan import RewritePlan
    from ripple_place.checkpoint.verify import VerificationReport
    from ripple_place.flash.device import DeviceProfile
    from ripple_place.graph.profile import BlockProfile, Profile
    from ripple_place.trace.activation_trace import ActivationTrace

ORDERINGS = ("flash-time", "greedy", "frequency", "random", "original")
STRIDES = ("auto", "packed", "page")
DEFAULT_ORDERING = "greedy"
DEFAULT_EFFORT = 20
HELD_OUT_SHARE = 1 / 8
"""Of the trace's segments (or tokens, where it has but one), the last: they judge what flash-time learned."""


@dataclass(frozen=True)
class ReorderParams:
    """How to reorder.

    Parameters
    ----------
    ordering : str
        One of `ORDERINGS`.
    seed : int
        Of the random ordering.
    layers : str, optional
        Layers to reorder (``0-3,7``); the others stay in original order.
    bundle_bytes : int, optional
        Recorded in a placement file made without a checkpoint.
    device : DeviceProfile, optional
        Recorded with its break-even gap, by which ``flash-time`` orders; decides ``stride="auto"``.
    break_even_gap : float, optional
        In place of a device's.
    effort : int
        Sweeps of ``flash-time``.
    formats : tuple of str
        Of `ripple_place.checkpoint.plan.FORMATS`.
    stride : str
        One of `STRIDES`: distance of bundles in the bundled file. ``auto`` takes the one that the simulator finds
        cheaper on the profile's trace, without cache.
    dry_run, force : bool
        Stop before writing; replace an earlier output.

    Raises
    ------
    UsageError
        If a name is unknown, or both a device and a break-even gap are given.
    """

    ordering: str = DEFAULT_ORDERING
    seed: int = 0
    layers: str | None = None
    bundle_bytes: int | None = None
    device: DeviceProfile | None = None
    break_even_gap: float | None = None
    effort: int = DEFAULT_EFFORT
    formats: tuple[str, ...] = FORMATS
    stride: str = "auto"
    dry_run: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        for what, value, known in (("ordering", self.ordering, ORDERINGS), ("stride", self.stride, STRIDES)):
            if value not in known:
                raise UsageError(
                    what, found=repr(value), expected=f"one of {', '.join(known)}", remedy="name one of them"
                )
        check_bundle_bytes(self.bundle_bytes)
        if self.device is not None and self.break_even_gap is not None:
            raise UsageError(
                "--device and --break-even-gap", found="both", expected="at most one", remedy="leave one out"
            )
        if self.break_even_gap is not None and not 0 <= self.break_even_gap < float("inf"):
            raise UsageError(
                "--break-even-gap", found=str(self.break_even_gap), expected="a number of at least 0",
                remedy="give the neurons that take as long to read as a read takes to start",
            )  # fmt: skip


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


@dataclass(frozen=True)
class ReorderReport:
    """What `reorder` prints."""

    ordering: str
    seconds: float
    blocks: Mapping[str, BlockReport]
    unplaced: tuple[str, ...] = ()
    plan: RewritePlan | None = None
    verification: VerificationReport | None = None
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``reorder --json``."""
        return {
            "ordering": self.ordering,
            "seconds": self.seconds,
            "blocks": {name: block.to_json() for name, block in self.blocks.items()},
            "blocks_in_original_order": list(self.unplaced),
            "formats": list(self.plan.formats) if self.plan else None,
            "stride": self.plan.stride if self.plan else None,
            "bytes_written": self.plan.written_bytes if self.plan else None,
            "verified": self.verification.as_json() if self.verification else None,
            "warnings": list(self.warnings),
        }


def reorder(
    checkpoint: Path | None, profile: Path, out: Path, params: ReorderParams | None = None, track: Track = no_track
) -> ReorderReport:
    """Order the neurons of every profiled block and write the placement, or the checkpoint in that order.

    Parameters
    ----------
    checkpoint : Path or None
        Hugging Face checkpoint directory; without it only the placement file is written, at `out`.
    profile : Path
        What `ripple_place.workflows.profile` wrote for this model.
    out : Path
        New directory (or file); appears whole, and verified, or not at all.
    params : ReorderParams, optional
    track : Track
        Told of progress.

    Raises
    ------
    UsageError
        If `out` exists, a path does not, or layers are selected that are not there.
    TraceFormatError, CheckpointError, UnsupportedError
        If the profile or the checkpoint is malformed or not supported.
    PlacementError
        If the profile is of another model than the checkpoint.
    VerificationError
        If what was written is not the source, permuted.
    OSError
        If storage refuses.
    """
    params = params or ReorderParams()
    started = time.perf_counter()
    _check_input(profile, "a profile", "run `ripple-place profile` first, or correct the path")
    learned = read_profile(profile)
    names = select_layers(learned.blocks, params.layers)
    if checkpoint is None:
        check_output_file(out, force=params.force, apart_from=[profile])
        placement, reports = _place(learned, names, params, params.bundle_bytes, track)
        if not params.dry_run:
            write_placement(out, placement)
        return ReorderReport(params.ordering, time.perf_counter() - started, reports)

    if params.bundle_bytes is not None:
        raise UsageError(
            "--bundle-bytes", found="a checkpoint as well", expected="one of the two",
            remedy="leave --bundle-bytes out; the checkpoint says how long a neuron's weights are",
        )  # fmt: skip
    _check_input(checkpoint, "a checkpoint directory", "correct the path")
    if out.resolve() in profile.resolve().parents:
        raise UsageError(
            profile, found=f"the profile inside {out}", expected="it elsewhere",
            remedy="move the profile; the output directory is replaced as a whole",
        )  # fmt: skip
    model = describe_ffn(Checkpoint.open(checkpoint))
    # Everything that can be refused is refused before the long part.
    _check_profile_of(model, learned, names)
    undecided = ModelPlacement({name: NeuronPlacement.original(model.blocks[name].n_neurons) for name in names})
    plan_rewrite(model, undecided, out, formats=params.formats, force=params.force)
    sizes = {block.bundle_bytes for block in model.blocks.values()}
    placement, reports = _place(learned, names, params, sizes.pop() if len(sizes) == 1 else None, track)
    stride = _choose_stride(model, learned, placement, params) if params.stride == "auto" else params.stride
    plan = plan_rewrite(model, placement, out, formats=params.formats, stride=stride, force=params.force)
    verification = None
    if not params.dry_run:
        verification = execute(plan, progress=track.bytes(plan.total_bytes, "writing and verifying"))
    unplaced = tuple(name for name in model.blocks if name not in placement.blocks)
    return ReorderReport(params.ordering, time.perf_counter() - started, reports, unplaced, plan, verification)


def _place(
    profile: Profile, names: list[str], params: ReorderParams, bundle_bytes: int | None, track: Track
) -> tuple[ModelPlacement, dict[str, BlockReport]]:
    """Order the neurons of the named blocks."""
    blocks, reports = {}, {}
    places = {name: place for place, name in enumerate(sorted_blocks(profile.blocks))}
    for name in track(names, f"ordering ({params.ordering})"):
        started = time.perf_counter()
        block = profile.blocks[name]
        bits = NeuronBits.of_block(profile.trace.blocks[name]) if profile.trace else None
        seed = [params.seed, places[name]]
        if params.ordering == "flash-time":
            order, report = _order_by_flash_time(profile, name, _lambda(params, bundle_bytes), params.effort, seed)
        else:
            order = _order_block(block, bits, profile.n_neighbors, params.ordering, seed)
            before = after = None
            if bits is not None:
                before, after = reads_per_token(bits, original_order(block.n_neurons)), reads_per_token(bits, order)
            report = BlockReport(before, after, 0.0, chosen=params.ordering)
        blocks[name] = NeuronPlacement(order, frequency=block.frequency)
        reports[name] = replace(report, seconds=time.perf_counter() - started)
    return ModelPlacement(blocks, _metadata(profile, params, bundle_bytes)), reports


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


def _lambda(params: ReorderParams, bundle_bytes: int | None) -> float:
    """Return the break-even gap by which ``flash-time`` orders."""
    if params.break_even_gap is not None:
        return params.break_even_gap
    if params.device is not None and bundle_bytes is not None:
        return params.device.break_even_gap(bundle_bytes)
    raise UsageError(
        "--ordering flash-time", found="nothing that says what a read costs",
        expected="a device and the size of a neuron's weights, or a break-even gap",
        remedy="add --bundle-bytes 4KiB with --device, or --break-even-gap 5; or order by greedy",
    )  # fmt: skip


def _order_by_flash_time(
    profile: Profile, name: str, break_even_gap: float, effort: int, seed: list[int]
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int32]], BlockReport]:
    """Search a block's order on the first part of the trace; the last part judges it."""
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


def _metadata(profile: Profile, params: ReorderParams, bundle_bytes: int | None) -> dict[str, str]:
    """Return what a placement says of its origin; nothing that differs from run to run."""
    metadata = {"ordering": params.ordering, "seed": str(params.seed), "profile": profile.digest}
    metadata["tool_version"] = __version__
    if params.ordering == "flash-time":
        metadata["effort"] = str(params.effort)
    break_even_gap = params.break_even_gap
    if bundle_bytes is not None:
        metadata["bundle_bytes"] = str(bundle_bytes)
        if params.device is not None:
            break_even_gap = params.device.break_even_gap(bundle_bytes)
    if params.device is not None:
        metadata["device"] = params.device.name
    if break_even_gap is not None:
        metadata |= {"break_even_gap": repr(break_even_gap), "gap": str(whole_gap(break_even_gap))}
    return metadata


def _choose_stride(model: FfnModel, profile: Profile, placement: ModelPlacement, params: ReorderParams) -> str:
    """Return the stride that costs less flash time on the profile's trace; packed, the smaller file, if equal."""
    if params.device is None or profile.trace is None or "bundled" not in params.formats:
        return "packed"
    page_bytes = params.device.page_bytes
    sizes = {name: model.blocks[name].bundle_bytes for name in placement.blocks}
    if all(size % page_bytes == 0 for size in sizes.values()):
        return "packed"
    trace = profile.trace.select(list(placement.blocks))
    times_us = {
        stride: simulate_layout(
            trace,
            Layout.from_extents(stride, placement, {name: extent(size, page_bytes) for name, size in sizes.items()}),
            params.device,
            SimulationParams(),
        ).totals.flash_time_us
        for stride, extent in (("packed", lambda size, _: BlockExtent.packed(size)), ("page", BlockExtent.padded))
    }
    return min(times_us, key=lambda stride: (times_us[stride], stride != "packed"))


def _check_profile_of(model: FfnModel, profile: Profile, names: list[str]) -> None:
    """Check that the selected blocks are the model's; say so in terms of profile and checkpoint."""
    try:
        placement = {name: NeuronPlacement.original(profile.blocks[name].n_neurons) for name in names}
        resolve_orders(model, ModelPlacement(placement))
    except PlacementError as cause:
        raise TraceFormatError(
            cause.where.replace("placement", "profile"), found=cause.found, expected=cause.expected,
            remedy="profile a trace of this very model",
        ) from cause  # fmt: skip


def _check_input(path: Path, what: str, remedy: str) -> None:
    if not path.exists():
        raise UsageError(path, found="nothing there", expected=what, remedy=remedy)
