"""From a mixture of experts to its pack: an expert-major file, in an order that a profile of routes gives."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import EXPERT, select_layers, unit_metadata
from ripple_place.bundle_sizes import sizes_to_metadata
from ripple_place.checkpoint.model.experts import open_experts
from ripple_place.checkpoint.model.known_families import read_family
from ripple_place.checkpoint.model.routers import grouped_order, groups_of
from ripple_place.checkpoint.output.expert_numbers import BY_SLOT, NUMBERING
from ripple_place.checkpoint.output.expert_plan import plan_pack
from ripple_place.checkpoint.output.outdir import check_free_space, partial_of
from ripple_place.checkpoint.output.plan import FORMATS
from ripple_place.checkpoint.pack import execute_pack, needed_pack_bytes
from ripple_place.errors import UsageError
from ripple_place.flash.read_cost import ReadCosts
from ripple_place.graph.profile import read_profile
from ripple_place.ordering.registry import AUTO
from ripple_place.outputs import check_input
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement
from ripple_place.placing.checks import check_profile_fits
from ripple_place.placing.params import PlacingParams
from ripple_place.placing.place import place_neurons
from ripple_place.tracking import Track, no_track
from ripple_place.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from ripple_place.checkpoint.model.expert_block import ExpertModel
    from ripple_place.checkpoint.output.expert_plan import PackPlan
    from ripple_place.checkpoint.proof.verify import VerificationReport

ORIGINAL = "original"
EXPERT_ORDERINGS = (AUTO, ORIGINAL, "frequency", "greedy")
"""Those that experts can be packed by; ``auto`` is greedy with a profile, and the original order without."""
TIES = (
    "--permute-experts: which of two experts with the same score a router takes depends on their numbers, and may "
    "change; sums over experts may be rounded otherwise"
)
"""What renumbering may change although all weights are the same."""


@dataclass(frozen=True)
class PackParams:
    """How to pack.

    Parameters
    ----------
    formats : sequence of str
        ``bundled``, and ``drop-in`` where the checkpoint's own files are copied beside the pack. A GGUF file never is.
    ordering : str
        One of `EXPERT_ORDERINGS`: order of the experts of a layer on storage. The model, routers included, is not
        changed.
    layers : str, optional
        Layers to order (``0-3,7``); the others are packed in their original order.
    family : path, optional
        Family file that describes the checkpoint, or the name of a family that ships.
    permute_experts : bool
        Give experts the numbers of their places on storage, in all files of the output: tensors of experts change
        places, and the rows of routers with them.
    seed : int
        Recorded; nothing here is random.
    dry_run, force, resume : bool
        Stop before writing; replace an earlier output; continue a run that was killed.

    Raises
    ------
    UsageError
        If the ordering is none of experts.
    """

    formats: Sequence[str] = FORMATS
    ordering: str = AUTO
    layers: str | None = None
    family: str | os.PathLike[str] | None = None
    seed: int = 0
    permute_experts: bool = False
    dry_run: bool = False
    force: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        if self.ordering not in EXPERT_ORDERINGS:
            raise UsageError(
                f"--ordering {self.ordering}", found="an ordering of neurons",
                expected=f"one of {', '.join(EXPERT_ORDERINGS)} for experts", remedy="name one of them",
            )  # fmt: skip


@dataclass(frozen=True)
class PackReport:
    """What `pack_experts` has done.

    Attributes
    ----------
    ordering : str
    plan : PackPlan
    verification : VerificationReport or None
        None after a dry run.
    warnings : tuple of str
    seconds : float
    """

    ordering: str
    plan: PackPlan
    verification: VerificationReport | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``reorder --unit expert --json``."""
        blocks = {
            name: {
                "n_experts": block.n_neurons,
                "expert_bytes": block.bundle_bytes,
                "stride_bytes": block.stride_bytes,
                "parts": [part.role for part in block.parts],
            }
            for name, block in self.plan.model.blocks.items()
        }
        return {
            "unit": EXPERT,
            "ordering": self.ordering,
            "formats": list(self.plan.formats),
            "blocks": blocks,
            "permutes_experts": self.plan.renumbers,
            "bytes_written": self.plan.written_bytes,
            "bytes_needed": needed_pack_bytes(self.plan),
            "checks": [] if self.verification is None else self.verification.as_json(),
            "warnings": list(self.warnings),
            "seconds": self.seconds,
        }


def pack_experts(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    profile: str | os.PathLike[str] | None = None,
    placement: str | os.PathLike[str] | None = None,
    params: PackParams | None = None,
    track: Track = no_track,
) -> PackReport:
    """Write the experts of a mixture one after the other, each contiguous and on a page.

    Parameters
    ----------
    checkpoint : path
        A Hugging Face checkpoint directory, or a GGUF file (any file of a split).
    out : path
        New directory; appears whole, and verified, or not at all.
    profile : path, optional
        Profile of routes of this model, for the order of the experts in each layer.
    placement : path, optional
        A placement of experts that was computed elsewhere, instead of a profile.
    params : PackParams, optional
    track : Track
        Receives progress.

    Raises
    ------
    UsageError
        If `out` exists, a path does not, both a profile and a placement are given, an ordering is asked for without
        a profile, either is not of experts, or experts are to be renumbered without either.
    TraceFormatError, PlacementError
        If the profile or the placement is malformed, or of another model.
    CheckpointError, UnsupportedError
        If the checkpoint is malformed, has no experts, or they cannot be packed.
    VerificationError
        If what was written is not the source's.
    OSError
        If storage refuses.

    Notes
    -----
    Reads and writes every byte once, then hashes and compares. Memory is a few chunks of 8 MiB.
    """
    started = time.perf_counter()
    params, out = params or PackParams(), Path(out)

    model = open_experts(checkpoint, None if params.family is None else read_family(params.family))
    placed = _placement_of(model, profile, placement, params, track)
    if params.permute_experts:
        if profile is None and placement is None:
            raise UsageError(
                "--permute-experts", found="no order of the experts", expected="a profile of routes, or a placement",
                remedy="add --profile or --placement, or leave --permute-experts out",
            )  # fmt: skip
        placed = _renumbered(model, placed, keeps_groups=placement is None)
    plan = plan_pack(model, placed, out, formats=tuple(params.formats), force=params.force)
    warnings = (*model.notes, *((TIES,) if params.permute_experts else ()))
    report = PackReport(placed.metadata.get("ordering", "unknown"), plan, warnings=warnings)
    if not params.dry_run:
        check_free_space(out, needed_pack_bytes(plan), has_both_formats=len(plan.formats) > 1)
        report = _write(plan, report, track, resume=params.resume)
    return replace(report, seconds=time.perf_counter() - started)


def _placement_of(
    model: ExpertModel, profile: str | os.PathLike[str] | None, placement: str | os.PathLike[str] | None,
    params: PackParams, track: Track,
) -> ModelPlacement:  # fmt: skip
    """Return the order of the experts of each layer, and where it comes from."""
    sizes = {name: block.bundle_bytes for name, block in model.blocks.items()}
    if placement is not None and (profile is not None or params.ordering != AUTO):
        raise UsageError(
            "--placement", found="--profile or --ordering as well", expected="one source of the order",
            remedy="leave --placement out, or the other two",
        )  # fmt: skip
    if placement is not None:
        check_input(placement, "a placement file", "correct the path")
        given = read_placement(placement)
        _check_unit(f"--placement {placement}", given.unit)
        blocks = {name: given.blocks[name] for name in select_layers(given.blocks, params.layers)}
        kept = {key: text for key, text in given.metadata.items() if not key.startswith("bundle_bytes")}
        return ModelPlacement(blocks, kept | sizes_to_metadata(sizes))
    if profile is None:
        if params.ordering not in (AUTO, ORIGINAL):
            raise UsageError(
                f"--ordering {params.ordering}", found="no profile to order by", expected="a profile of routes",
                remedy="add --profile, or leave --ordering out",
            )  # fmt: skip
        names = select_layers(model.blocks, params.layers)
        original = {name: NeuronPlacement.original(model.blocks[name].n_neurons) for name in names}
        metadata = {"ordering": ORIGINAL, "tool_version": __version__} | unit_metadata(EXPERT)
        return ModelPlacement(original, metadata | sizes_to_metadata(sizes))
    check_input(profile, "a profile", "run `ripple-place profile` first, or correct the path")
    learned = read_profile(profile)
    _check_unit(f"--profile {profile}", learned.unit)
    names = select_layers(learned.blocks, params.layers)
    check_profile_fits(
        learned, names, {name: block.n_neurons for name, block in model.blocks.items()}, model.path, EXPERT
    )
    ordering = "greedy" if params.ordering == AUTO else params.ordering
    placing = PlacingParams(ordering=ordering, seed=params.seed).resolved(
        has_rows=learned.trace is not None, has_sizes=False
    )  # fmt: skip
    made = place_neurons(learned, names, placing, ReadCosts(None, None, {}), track).placement
    return ModelPlacement(made.blocks, {**made.metadata, **sizes_to_metadata(sizes)})


def _renumbered(model: ExpertModel, placed: ModelPlacement, *, keeps_groups: bool) -> ModelPlacement:
    """Return a placement that says that experts get the numbers of their slots.

    With `keeps_groups`, experts of a group that the router chooses among stay together: groups move as wholes.
    """
    blocks = dict(placed.blocks)
    for name, block in blocks.items():
        if keeps_groups and name in model.blocks:
            blocks[name] = replace(block, order=grouped_order(block.order, groups_of(model, name)))
    return ModelPlacement(blocks, {**placed.metadata, NUMBERING: BY_SLOT})


def _check_unit(where: str, unit: str) -> None:
    """Raise UsageError unless the unit is an expert."""
    if unit != EXPERT:
        raise UsageError(
            where, found=f"blocks of {unit}s", expected="blocks of experts, as --unit expert asks for",
            remedy="give one of experts, or leave --unit out",
        )  # fmt: skip


def _write(plan: PackPlan, report: PackReport, track: Track, *, resume: bool) -> PackReport:
    """Write the pack as planned, and complete the report."""
    partial = partial_of(plan.out)
    if partial.is_dir() and any(partial.iterdir()) and not resume:
        found = f"{partial} was there, of a run that did not end: begun anew (--resume would have gone on from it)"
        report = replace(report, warnings=(*report.warnings, found))
    try:
        verification = execute_pack(
            plan, resume=resume, progress=track.bytes(plan.total_bytes, "writing and verifying")
        )  # fmt: skip
    except KeyboardInterrupt as interrupt:
        if partial.exists():
            interrupt.add_note(f"{partial} stays: the same command with --resume goes on from it.")
        raise
    return replace(report, verification=verification)
