"""From a profile to a placement, and from a checkpoint to the same model laid out for flash."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.blocks import EXPERT, select_layers, unit_metadata
from ripple_place.bundle_sizes import sizes_of_blocks, sizes_to_metadata
from ripple_place.capture.extra import require_capture_extra
from ripple_place.checkpoint.model.ffn import open_model
from ripple_place.checkpoint.names import PLAN_FILE
from ripple_place.checkpoint.output.additions import Addition, check_predictors_of, predictors_file
from ripple_place.checkpoint.output.bundle_layout import INSIDE
from ripple_place.checkpoint.output.gguf_export import export_gguf
from ripple_place.checkpoint.output.outdir import check_free_space, partial_of
from ripple_place.checkpoint.rewrite import execute, needed_bytes
from ripple_place.checkpoint.writing import WritingParams
from ripple_place.errors import UsageError
from ripple_place.flash.read_cost import ReadCosts
from ripple_place.graph.profile import read_profile
from ripple_place.outputs import check_input, check_output_file
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement, write_placement
from ripple_place.placing.checks import check_granule, check_profile_of, model_warnings
from ripple_place.placing.params import PlacingParams
from ripple_place.placing.place import place_neurons
from ripple_place.placing.reorder_report import ReorderReport
from ripple_place.placing.stride import choose_stride
from ripple_place.systems.place import check_plan, place_by_plan
from ripple_place.tracking import Track, no_track
from ripple_place.workflows.tune_selection import TuneParams, tune_selection

if TYPE_CHECKING:
    import os

    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.checkpoint.output.plan import RewritePlan
    from ripple_place.graph.profile import Profile
    from ripple_place.systems.plan_params import PlanParams


def reorder(
    checkpoint: str | os.PathLike[str] | None,
    profile: str | os.PathLike[str],
    out: str | os.PathLike[str],
    placing: PlacingParams | None = None,
    writing: WritingParams | None = None,
    track: Track = no_track,
    selection: TuneParams | None = None,
    neuron_plan: PlanParams | None = None,
) -> ReorderReport:
    """Order the neurons of every profiled block and write the placement, or the checkpoint in that order.

    Predictors of the profile are written beside the checkpoint, in the new order.

    Parameters
    ----------
    checkpoint : path or None
        Hugging Face checkpoint directory; without it only the placement file is written, at `out`.
    profile : path
        What `ripple_place.profile` wrote for this model.
    out : path
        New directory (or file); appears whole, and verified, or not at all.
    placing : PlacingParams, optional
    writing : WritingParams, optional
    track : Track
        Receives progress.
    selection : TuneParams, optional
        Rules to tune for the output, which keeps what was fitted beside the model.
    neuron_plan : PlanParams, optional
        Hot neurons first, as PowerInfer-2 plans them for the DRAM budget; the plan is kept beside the model.

    Raises
    ------
    UsageError
        If `out` exists, a path does not, layers are selected that are not there, or the profile is of experts.
    TraceFormatError, CheckpointError, UnsupportedError
        If the profile or the checkpoint is malformed or not supported, or the predictors are of another model.
    PlacementError
        If the profile is of another model than the checkpoint.
    VerificationError
        If what was written is not the source, permuted.
    OSError
        If storage refuses.
    """
    started = time.perf_counter()
    placing, writing = placing or PlacingParams(), writing or WritingParams()
    profile, out = Path(profile), Path(out)
    _check_together(checkpoint, profile, out, placing, writing)
    _check_gates(checkpoint, placing, writing, selection)
    if neuron_plan is not None:
        check_plan(placing, tunes=selection is not None)
    if selection is not None:
        selection.check(placing, checkpoint)
        if not writing.dry_run:
            require_capture_extra(checkpoint)
    learned = read_profile(profile)
    if checkpoint is not None:
        _check_no_experts(f"--profile {profile}", learned.unit)
    names = select_layers(learned.blocks, placing.layers)
    if selection is not None:
        selection.check_profile(learned, names)
    model = None if checkpoint is None else open_model(Path(checkpoint), writing.family).of_unit(learned.unit)
    sizes = _bundle_bytes(model, learned, names, placing)
    placing = placing.resolved(
        has_rows=learned.trace is not None, has_sizes=bool(sizes),
        needs_device=neuron_plan is not None
        or (model is not None and (writing.stride == "auto" or selection is not None)),
    )  # fmt: skip
    # Everything that can be refused is refused before the long part.
    if model is None:
        check_output_file(out, force=writing.force, apart_from=[profile])
    else:
        _check_rewrite(model, learned, names, placing, writing, out)

    costs = ReadCosts(placing.device_profile, placing.break_even_gap, sizes)
    additions: dict[str, Addition] = {}
    if neuron_plan is None:
        placed = place_neurons(learned, names, placing, costs, track)
        placement, report = placed.placement, ReorderReport.of_placed(placing, placed)
    else:
        placed, placement, planned = place_by_plan(learned, names, placing, costs, neuron_plan, track)
        report = replace(ReorderReport.of_placed(placing, placed), neuron_plan=planned.to_json())
        additions = {PLAN_FILE: Addition.of_bytes(planned.to_bytes())}
    if model is None:
        if not writing.dry_run:
            write_placement(out, placement)
    else:
        report = replace(report, warnings=(*model_warnings(model, learned), *report.warnings))
        stride = None
        if writing.stride == "auto" and "bundled" in writing.formats:
            gates = {} if writing.gates == INSIDE else {name: model.blocks[name].gate_bytes for name in sizes}
            stride = choose_stride(learned.trace, placed, placing.device_profile, sizes, gates)
        plan = _with_predictors(writing.plan(model, placement, out, stride), learned)
        plan = replace(plan, additions={**plan.additions, **additions})
        if selection is not None and not writing.dry_run:
            plan, tuned = tune_selection(plan, learned, placing, selection, track)
            report = replace(report, tuned=tuned)
        report = _write(plan, writing, report, track)
    return replace(report, seconds=time.perf_counter() - started)


def apply_placement(
    checkpoint: str | os.PathLike[str],
    placement: str | os.PathLike[str],
    out: str | os.PathLike[str],
    writing: WritingParams | None = None,
    *,
    layers: str | None = None,
    track: Track = no_track,
) -> ReorderReport:
    """Rewrite a checkpoint in the order of a placement that was computed elsewhere.

    Parameters
    ----------
    checkpoint : path
    placement : path
        A placement file: of this model, another quantisation of it, or a model trained further from it.
    out : path
        New directory; appears whole, and verified, or not at all.
    writing : WritingParams, optional
        Stride ``auto`` is packed: there is no trace to simulate.
    layers : str, optional
        Layers to reorder (``0-3,7``); the others stay in original order.
    track : Track
        Receives progress.

    Raises
    ------
    UsageError, CheckpointError, UnsupportedError, VerificationError, OSError
        As `reorder`.
    PlacementError
        If the placement file is malformed, or of another model.
    """
    started = time.perf_counter()
    writing, out = writing or WritingParams(), Path(out)
    check_input(placement, "a placement file", "correct the path")
    given = read_placement(Path(placement))
    _check_no_experts(f"--placement {placement}", given.unit)
    model = open_model(Path(checkpoint), writing.family).of_unit(given.unit)
    selected = {name: given.blocks[name] for name in select_layers(given.blocks, layers)}
    sizes = {name: block.bundle_bytes for name, block in model.blocks.items()}
    metadata = {key: value for key, value in given.metadata.items() if not key.startswith("bundle_bytes")}
    metadata |= sizes_to_metadata(sizes)
    plan = writing.plan(model, ModelPlacement(selected, metadata), out)
    report = ReorderReport(given.metadata.get("ordering", "unknown"), 0.0, {}, warnings=model.notes)
    report = _write(plan, writing, report, track)
    return replace(report, seconds=time.perf_counter() - started)


def _check_together(
    checkpoint: str | os.PathLike[str] | None, profile: Path, out: Path, placing: PlacingParams, writing: WritingParams
) -> None:
    """Raise if paths and parameters contradict each other."""
    if placing.copies == 2 and "bundled" not in writing.formats:
        raise UsageError(
            "--copies 2", found=f"formats {', '.join(writing.formats)}",
            expected="1 copy, or 2 in the bundled format", remedy="add --format bundled, or leave --copies out",
        )  # fmt: skip
    if checkpoint is None:
        writing.check_needs_checkpoint()
    check_input(profile, "a profile", "run `ripple-place profile` first, or correct the path")
    if checkpoint is not None and placing.bundle_bytes is not None:
        raise UsageError(
            "--bundle-bytes", found="a checkpoint as well", expected="one of the two",
            remedy="leave --bundle-bytes out; the checkpoint says how long a neuron's weights are",
        )  # fmt: skip
    if checkpoint is not None and out.resolve() in profile.resolve().parents:
        raise UsageError(
            profile, found=f"the profile inside {out}", expected="it elsewhere",
            remedy="move the profile; the output directory is replaced as a whole",
        )  # fmt: skip


def _check_no_experts(where: str, unit: str) -> None:
    """Raise if a profile or placement is of experts: they are packed, and no neuron moves."""
    if unit == EXPERT:
        raise UsageError(
            where, found="blocks of experts", expected="blocks of neurons or columns, where --unit is not given",
            remedy="add --unit expert",
        )  # fmt: skip


def _check_gates(
    checkpoint: object, placing: PlacingParams, writing: WritingParams, selection: TuneParams | None
) -> None:  # fmt: skip
    """Raise if gates are to lie apart where nothing has them so."""
    if writing.gates == INSIDE:
        return
    if checkpoint is None:
        raise _gates_error("no checkpoint", "name the checkpoint as well, or leave --gates out")
    if placing.copies == 2 or selection is not None:
        raise _gates_error("--copies 2" if placing.copies == 2 else "--select", "leave one of them out")


def _gates_error(found: str, remedy: str) -> UsageError:
    return UsageError(
        "--gates apart", found=found, expected="a checkpoint whose bundled file has one copy, read without rules",
        remedy=remedy,
    )  # fmt: skip


def _bundle_bytes(model: FfnModel | None, profile: Profile, names: list[str], placing: PlacingParams) -> dict[str, int]:
    """Return the bytes of a neuron's weights by block, after checking that the profile is the model's."""
    if model is None:
        return {} if placing.bundle_bytes is None else sizes_of_blocks(placing.bundle_bytes, profile.unit, names)
    check_profile_of(model, profile, names)
    return {name: model.blocks[name].bundle_bytes for name in names}


def _check_rewrite(
    model: FfnModel, profile: Profile, names: list[str], placing: PlacingParams, writing: WritingParams, out: Path
) -> None:
    """Raise if the model cannot be rewritten at all, whatever the order, or there is no room for it."""
    check_granule(model, names, placing)
    if profile.predictor is not None:
        check_predictors_of(model, profile.predictor)
    original = {name: NeuronPlacement.original(model.blocks[name].n_neurons) for name in names}
    undecided = ModelPlacement(original, unit_metadata(model.unit))
    plan = _with_predictors(writing.plan(model, undecided, out), profile)
    if not writing.dry_run:
        check_free_space(out, needed_bytes(plan), has_both_formats=len(plan.formats) > 1)


def _with_predictors(plan: RewritePlan, profile: Profile) -> RewritePlan:
    """Return the plan with the profile's predictors, if it has any."""
    if profile.predictor is None:
        return plan
    return replace(plan, additions={**plan.additions, **predictors_file(profile.predictor, plan.orders)})


def _write(plan: RewritePlan, writing: WritingParams, report: ReorderReport, track: Track) -> ReorderReport:
    """Rewrite the checkpoint as planned, unless it is a dry run, and complete the report."""
    verification = None
    partial = partial_of(plan.out)
    if not writing.dry_run:
        if partial.is_dir() and any(partial.iterdir()) and not writing.resume:
            found = f"{partial} was there, of a run that did not end: begun anew (--resume would have gone on from it)"
            report = replace(report, warnings=(*report.warnings, found))
        progress = track.bytes(plan.total_bytes, "writing and verifying")
        try:
            verification = execute(plan, resume=writing.resume, progress=progress)
        except KeyboardInterrupt as interrupt:
            if partial.exists():
                interrupt.add_note(f"{partial} stays: the same command with --resume goes on from it.")
            raise
        if writing.gguf_path is not None:
            export_gguf(plan.model, plan.orders, writing.gguf_path)
    if report.copies is not None and plan.bundle is not None:
        report = replace(report, copies=replace(report.copies, extra_bytes=plan.bundle.second_copy_bytes))
    unplaced = tuple(name for name in plan.model.blocks if name not in plan.placement.blocks)
    return replace(report, unplaced=unplaced, plan=plan, verification=verification)
