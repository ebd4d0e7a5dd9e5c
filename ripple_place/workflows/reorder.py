"""From a profile to a placement, and from a checkpoint to the same model laid out for flash."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import select_layers
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.quantised import REORDER_FIRST
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.gguf_export import check_exportable, export_gguf
from ripple_place.checkpoint.output.outdir import check_free_space, partial_of
from ripple_place.checkpoint.output.plan import plan_rewrite, resolve_orders
from ripple_place.checkpoint.rewrite import execute, needed_bytes
from ripple_place.errors import PlacementError, TraceFormatError, UnsupportedError, UsageError
from ripple_place.flash.layout import BlockExtent, Layout
from ripple_place.flash.simulator import SimulationParams
from ripple_place.flash.simulator import simulate as simulate_layout
from ripple_place.graph.profile import read_profile
from ripple_place.outputs import check_output_file
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement, write_placement
from ripple_place.placing.dram.place import AUTO
from ripple_place.placing.params import ReorderParams
from ripple_place.placing.place import place_neurons
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.checkpoint.output.plan import RewritePlan
    from ripple_place.checkpoint.proof.verify import VerificationReport
    from ripple_place.graph.profile import Profile
    from ripple_place.placing.block_report import BlockReport
    from ripple_place.placing.comparison import OrderingComparison
    from ripple_place.placing.dram.place import DramReport
    from ripple_place.placing.place import Placed
    from ripple_place.placing.second_copy import CopiesReport


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
    dram: DramReport | None = None
    comparison: OrderingComparison | None = None
    copies: CopiesReport | None = None

    @classmethod
    def of(cls, params: ReorderParams, placed: Placed, started: float) -> ReorderReport:
        """Return the report of a run that began at `started` and has ordered, but not written anything yet."""
        seconds = time.perf_counter() - started
        warnings: tuple[str, ...] = ()
        if placed.cut_short is not None:
            warnings = (f"the search was cut short ({placed.cut_short}): another run may find another placement",)
        return cls(
            params.ordering, seconds, placed.reports, warnings=warnings, dram=placed.dram,
            comparison=placed.comparison, copies=placed.copies,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``reorder --json``."""
        return {
            "ordering": self.ordering,
            "seconds": self.seconds,
            "blocks": {name: block.to_json() for name, block in self.blocks.items()},
            "orderings": self.comparison.to_json() if self.comparison else None,
            "dram": self.dram.to_json() if self.dram else None,
            "copies": self.copies.to_json() if self.copies else None,
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
    if checkpoint is None and (params.carriers or params.adapter is not None or params.gguf is not None):
        raise UsageError(
            "--adapter, --carrier and --gguf", found="no checkpoint", expected="the one that they belong to",
            remedy="name the checkpoint as well",
        )  # fmt: skip
    started = time.perf_counter()
    _check_input(profile, "a profile", "run `ripple-place profile` first, or correct the path")
    learned = read_profile(profile)
    names = select_layers(learned.blocks, params.layers)
    if checkpoint is None:
        check_output_file(out, force=params.force, apart_from=[profile])
        sizes = {} if params.bundle_bytes is None else dict.fromkeys(names, params.bundle_bytes)
        params = _choose_ordering(params, learned, sizes)
        placed = place_neurons(learned, names, params, sizes, track)
        if not params.dry_run:
            write_placement(out, placed.placement)
        return ReorderReport.of(params, placed, started)

    if params.bundle_bytes is not None:
        raise UsageError(
            "--bundle-bytes", found="a checkpoint as well", expected="one of the two",
            remedy="leave --bundle-bytes out; the checkpoint says how long a neuron's weights are",
        )  # fmt: skip
    if out.resolve() in profile.resolve().parents:
        raise UsageError(
            profile, found=f"the profile inside {out}", expected="it elsewhere",
            remedy="move the profile; the output directory is replaced as a whole",
        )  # fmt: skip
    model = describe_ffn(Checkpoint.open(checkpoint))
    # Everything that can be refused is refused before the long part.
    _check_profile_of(model, learned, names)
    _check_granule(model, names, params)
    _check_gguf(model, out, params)
    undecided = ModelPlacement({name: NeuronPlacement.original(model.blocks[name].n_neurons) for name in names})
    undecided_plan = plan_rewrite(model, undecided, out, formats=params.formats, **_plan_options(params))
    if not params.dry_run:
        check_free_space(out, needed_bytes(undecided_plan))
    sizes = {name: model.blocks[name].bundle_bytes for name in names}
    params = _choose_ordering(params, learned, sizes)
    placed = place_neurons(learned, names, params, sizes, track)
    stride = _choose_stride(model, learned, placed, params) if params.stride == "auto" else params.stride
    report = ReorderReport.of(params, placed, started)
    return _rewrite(model, placed.placement, out, stride, params, track, report, started)


def _choose_ordering(params: ReorderParams, profile: Profile, bundle_bytes: Mapping[str, int]) -> ReorderParams:
    """Return the parameters with ``auto`` replaced by an ordering that can be made from what is known."""
    if params.ordering != AUTO:
        return params
    is_known = params.break_even_gap is not None or (params.device is not None and bool(bundle_bytes))
    if is_known and profile.trace is not None:
        return replace(params, ordering="flash-time")
    return replace(params, ordering="greedy", refit=False)


def apply_placement(
    checkpoint: Path, placement: Path, out: Path, params: ReorderParams | None = None, track: Track = no_track
) -> ReorderReport:
    """Rewrite a checkpoint in the order of a placement that was computed elsewhere.

    Parameters
    ----------
    checkpoint : Path
    placement : Path
        A placement file: of this model, another quantisation of it, or a model trained further from it.
    out : Path
        New directory; appears whole, and verified, or not at all.
    params : ReorderParams, optional
        Its ordering, device and the like do not count. Stride ``auto`` is packed: there is no trace to simulate.
    track : Track

    Raises
    ------
    UsageError, CheckpointError, UnsupportedError, VerificationError, OSError
        As `reorder`.
    PlacementError
        If the placement file is malformed, or of another model.
    """
    params = params or ReorderParams()
    started = time.perf_counter()
    _check_input(placement, "a placement file", "correct the path")
    given = read_placement(placement)
    model = describe_ffn(Checkpoint.open(checkpoint))
    sizes = {block.bundle_bytes for block in model.blocks.values()}
    metadata = {key: value for key, value in given.metadata.items() if key != "bundle_bytes"}
    if len(sizes) == 1:
        metadata["bundle_bytes"] = str(sizes.pop())
    selected = {name: given.blocks[name] for name in select_layers(given.blocks, params.layers)}
    stride = "packed" if params.stride == "auto" else params.stride
    report = ReorderReport(given.metadata.get("ordering", "unknown"), 0.0, {})
    return _rewrite(model, ModelPlacement(selected, metadata), out, stride, params, track, report, started)


def _rewrite(
    model: FfnModel, placement: ModelPlacement, out: Path, stride: str, params: ReorderParams, track: Track,
    report: ReorderReport, started: float,
) -> ReorderReport:  # fmt: skip
    """Rewrite the checkpoint unless it is a dry run, and complete the report of a run that began at `started`."""
    plan = plan_rewrite(model, placement, out, formats=params.formats, stride=stride, **_plan_options(params))
    _check_gguf(model, out, params)
    verification = None
    if not params.dry_run:
        progress = track.bytes(plan.total_bytes, "writing and verifying")
        try:
            verification = execute(plan, resume=params.resume, progress=progress)
        except KeyboardInterrupt as interrupt:
            if partial_of(out).exists():
                interrupt.add_note(f"{partial_of(out)} stays: the same command with --resume goes on from it.")
            raise
        if params.gguf is not None:
            export_gguf(model, plan.orders, params.gguf)
    unplaced = tuple(name for name in model.blocks if name not in placement.blocks)
    if report.copies is not None and plan.bundle is not None:
        report = replace(report, copies=replace(report.copies, extra_bytes=plan.bundle.second_copy_bytes))
    seconds = time.perf_counter() - started
    return replace(report, seconds=seconds, unplaced=unplaced, plan=plan, verification=verification)


def _check_gguf(model: FfnModel, out: Path, params: ReorderParams) -> None:
    """Raise unless the GGUF file that was asked for, if any, can be written."""
    if params.gguf is None:
        return
    check_exportable(model)
    if out.resolve() in params.gguf.resolve().parents:
        raise UsageError(
            params.gguf, found="a file inside the output", expected="one beside it: the output is verified as a whole",
            remedy="name it elsewhere",
        )  # fmt: skip
    shards = [shard.path for shard in model.checkpoint.shards.values()]
    check_output_file(params.gguf, force=params.force, apart_from=shards)


def _plan_options(params: ReorderParams) -> dict[str, Any]:
    return {"adapter": params.adapter, "carriers": params.carriers, "force": params.force}


def _choose_stride(model: FfnModel, profile: Profile, placed: Placed, params: ReorderParams) -> str:
    """Return the stride that costs less flash time on the profile's trace; packed, the smaller file, if equal."""
    if params.device is None or profile.trace is None or "bundled" not in params.formats:
        return "packed"
    page_bytes, placement = params.device.page_bytes, placed.placement
    simulation = SimulationParams()
    if placed.dram is not None:
        simulation = SimulationParams(placed.dram.recorded.cache, placed.dram.recorded.capacity_neurons)
    sizes = {name: model.blocks[name].bundle_bytes for name in placement.blocks}
    if all(size % page_bytes == 0 for size in sizes.values()):
        return "packed"
    trace = profile.trace.select(list(placement.blocks))
    times_us = {
        stride: simulate_layout(
            trace,
            Layout.from_extents(stride, placement, {name: extent(size, page_bytes) for name, size in sizes.items()}),
            params.device,
            simulation,
        ).totals.flash_time_us
        for stride, extent in (("packed", lambda size, _: BlockExtent.packed(size)), ("page", BlockExtent.padded))
    }
    return min(times_us, key=lambda stride: (times_us[stride], stride != "packed"))


def _check_granule(model: FfnModel, names: list[str], params: ReorderParams) -> None:
    """Raise if an ordering of single neurons would part those that share a scale."""
    for name in names:
        needed = model.blocks[name].granule
        if params.granule % needed and params.ordering != "original":
            raise UnsupportedError(
                f"{model.checkpoint.path}: {name}", found=f"quantised weights with a scale for each {needed} neurons",
                expected=f"whole granules of {needed} to move, and --granule is {params.granule}",
                remedy=f"add --granule {needed}, or {REORDER_FIRST}",
            )  # fmt: skip


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
