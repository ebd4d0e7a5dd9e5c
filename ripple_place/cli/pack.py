"""``ripple-place reorder --unit expert``: which options it takes, and what it prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from ripple_place.blocks import EXPERT
from ripple_place.cli.rendering import ProgressBars, echo, echo_json, echo_warnings
from ripple_place.errors import UsageError
from ripple_place.printable import one_line
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.checkpoint.proof.verify import VerificationReport
    from ripple_place.cli.options import Common
    from ripple_place.workflows.pack import PackReport

_TAKEN = frozenset({
    "checkpoint", "profile", "placement", "out", "ordering", "format_", "layers", "family", "dry_run", "force",
    "resume", "unit", "permute_experts", "as_json", "seed", "threads", "quiet", "verbose",
})  # fmt: skip


def run_pack(
    checkpoint: Path | None,
    out: Path,
    common: Common,
    *,
    profile: Path | None,
    placement: Path | None,
    formats: Sequence[str],
    ordering: str,
    layers: str | None,
    family: Path | None,
    dry_run: bool,
    force: bool,
    resume: bool,
    permute_experts: bool,
) -> None:
    """Pack the experts of a checkpoint or GGUF file, and print what was done.

    Raises
    ------
    UsageError
        If there is no checkpoint, or an option is given that is of neurons.
    """
    from ripple_place.workflows.pack import PackParams, pack_experts

    _check_options()
    if checkpoint is None:
        raise UsageError(
            f"--unit {EXPERT}", found="no checkpoint", expected="the one whose experts are packed",
            remedy="name a checkpoint directory or a GGUF file",
        )  # fmt: skip
    params = PackParams(formats, ordering, layers, family, common.seed, permute_experts, dry_run, force, resume)
    track = ProgressBars(quiet=common.quiet)
    report = pack_experts(checkpoint, out, profile=profile, placement=placement, params=params, track=track)
    if common.as_json:
        echo_json({"out": str(out), "dry_run": dry_run, **report.to_json()})
    else:
        echo("\n".join(pack_lines(report, out, dry_run=dry_run)))
    echo_warnings(report.warnings, quiet=common.quiet)


def pack_lines(report: PackReport, out: Path, *, dry_run: bool) -> list[str]:
    """Return what is printed of a pack, as sentences."""
    plan = report.plan
    blocks = plan.model.blocks.values()
    counts, sizes = ([*of] for of in ({b.n_neurons for b in blocks}, {b.bundle_bytes for b in blocks}))
    verb = "Would write" if dry_run else "Wrote"
    of_sizes = " to ".join(format_bytes(size) for size in sorted({min(sizes), max(sizes)}))
    of_counts = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    what = f"{len(plan.model.blocks)} layers of {of_counts} experts, {of_sizes} each"
    written = f"{format_bytes(plan.written_bytes)}, {' and '.join(plan.formats)}"
    written += "" if plan.bundle is None else ", each expert on a page"
    lines = [
        f"{what}, in {one_line(report.ordering)} order.",
        f"{verb} {one_line(out)}: {written}",
    ]
    if plan.renumbers:
        lines.append("Experts are numbered by their place on storage; routers follow.")
    if plan.model.checkpoint is None:
        lines.append("The GGUF file itself is not copied: the rest of the model is read from it.")
    if dry_run:
        lines.append(f"  RAM: about {format_bytes(plan.peak_ram_bytes)} for weights, and 300 MiB for the program")
    if report.verification is not None:
        lines += pack_verification_lines(report.verification)
    return lines


def pack_verification_lines(report: VerificationReport) -> list[str]:
    """Return what the verification of a pack found, as sentences."""
    return [
        f"Verified: the bytes of every expert equal the source's ({format_bytes(report.n_bytes)} compared)",
        *(f"  {count:6,} {check}" for check, count in report.checks.items()),
    ]


def _check_options() -> None:
    """Raise if an option was given that experts do not have."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name
        is_given = name is not None and context.get_parameter_source(name) is not ParameterSource.DEFAULT
        if is_given and name not in _TAKEN:
            raise UsageError(
                parameter.opts[0], found=f"--unit {EXPERT} as well", expected="one of them: this option is of neurons",
                remedy="leave one of them out",
            )  # fmt: skip
