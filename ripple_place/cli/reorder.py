"""``ripple-place reorder``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ripple_place.cli.options import PATH, SHARE_OR_SIZE, SIZE, TIME, Common, common_options
from ripple_place.cli.ordering_tables import (
    comparison_text,
    copies_line,
    copies_table,
    dram_lines,
    is_bounded,
    is_cost,
    is_timed,
    reorder_table,
    tried_table,
)
from ripple_place.cli.rendering import ProgressBars, echo_json, echo_warnings
from ripple_place.errors import UsageError
from ripple_place.units import format_bytes, format_rate, format_time_us

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.checkpoint.output.plan import RewritePlan
    from ripple_place.checkpoint.proof.verify import VerificationReport
    from ripple_place.workflows.reorder import ReorderReport


_EXAMPLE = """\b
Example:
  ripple-place reorder ./opt-relu --profile wiki.profile --out ./opt-relu-flash
  ripple-place reorder ./opt-relu --profile wiki.profile --out ./opt-relu-10 --ordering flash-time --dram-budget 10%
"""


@click.command(epilog=_EXAMPLE)
@click.argument("checkpoint", required=False, type=PATH)
@click.option("--profile", type=PATH, help="What `ripple-place profile` wrote for this model.")
@click.option(
    "--placement", type=PATH, help="Apply this placement, computed elsewhere, instead of ordering by a profile."
)
@click.option("--out", required=True, type=PATH, help="Directory to write; without CHECKPOINT, a placement file.")
@click.option("--ordering", default="auto", show_default=True,
              type=click.Choice(["auto", "flash-time", "path", "greedy", "frequency", "random", "original"]),
              help="flash-time: least flash time; path: fewest reads; greedy: Ripple's path; frequency: hot-cold; "
              "auto: flash-time, or greedy where nothing says what a read costs.")  # fmt: skip
@click.option("--format", "format_", type=click.Choice(["drop-in", "bundled", "both"]), default="both",
              show_default=True, help="drop-in: any tool loads it; bundled: for pread.")  # fmt: skip
@click.option("--stride", type=click.Choice(["packed", "page", "auto"]), default="auto", show_default=True,
              help="Bundles packed, or each on a page; auto takes what the simulator finds cheaper.")  # fmt: skip
@click.option("--layers", metavar="0-3,7", help="Reorder only these layers.")
@click.option("--device", help="Device profile (name or file) that --stride auto judges by, and that is recorded.  "
              "[default: ufs4-oneplus12-neuralink]")  # fmt: skip
@click.option("--break-even-gap", type=click.FloatRange(0), help="Recorded in place of the device's.")
@click.option("--bundle-bytes", type=SIZE, help="Bytes of a neuron's weights, recorded in a placement file.")
@click.option("--effort", type=click.IntRange(0), default=10, show_default=True,
              help="Rounds of perturbations of flash-time and path.")  # fmt: skip
@click.option("--time-limit", type=TIME, help="Wall clock for all searches, such as 60s; they keep the best so far. "
              "Ctrl-C does the same.")  # fmt: skip
@click.option("--dram-budget", type=SHARE_OR_SIZE, help="Place for this much DRAM: 10% of all neurons, or 512MiB; "
              "split over the blocks, and recorded for simulate.")  # fmt: skip
@click.option("--cache", metavar="POLICY", help="Policy of that DRAM, as of simulate; auto: the best on tokens held "
              "out.  [default: s3fifo with a budget]")  # fmt: skip
@click.option("--refit/--no-refit", default=None, help="Once judged, search on over the whole trace, held-out tokens "
              "included.  [default: with flash-time]")  # fmt: skip
@click.option("--compare", is_flag=True, help="Compute the other orderings too, and compare what they cost.")
@click.option("--granule", type=click.IntRange(1), default=1, show_default=True,
              help="Neighbours that move as one (32, 64, 128), where quantised weights share scales.")  # fmt: skip
@click.option("--adapter", type=PATH, help="LoRA adapter directory that is permuted along.")
@click.option("--carrier", "carriers", type=PATH, multiple=True,
              help="Importance matrix, predictors or counts that are permuted along; repeatable.")  # fmt: skip
@click.option("--gguf", type=PATH, help="Write the FFNs as GGUF too, a row per neuron; needs the gguf extra.")
@click.option("--copies", type=click.IntRange(1, 2), default=1, show_default=True,
              help="2: the bundled file has each neuron twice, the second time in an order made for what the first "
              "leaves fragmented; simulate reads from either.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Order, print the plan, write nothing.")
@click.option("--force", is_flag=True, help="Replace an earlier output.")
@click.option("--resume", is_flag=True, help="Continue a run of the same command that was killed.")
@common_options
def reorder(
    checkpoint: Path | None,
    profile: Path | None,
    placement: Path | None,
    out: Path,
    ordering: str,
    format_: str,
    stride: str,
    layers: str | None,
    device: str | None,
    break_even_gap: float | None,
    bundle_bytes: int | None,
    effort: int,
    time_limit: float | None,
    dram_budget: float | int | None,
    cache: str | None,
    refit: bool | None,
    compare: bool,
    granule: int,
    adapter: Path | None,
    carriers: tuple[Path, ...],
    gguf: Path | None,
    copies: int,
    dry_run: bool,
    force: bool,
    resume: bool,
    common: Common,
) -> None:
    """Order each block's neurons and rewrite the checkpoint in that order.

    With CHECKPOINT (a Hugging Face directory; docs/families.md lists the models), writes a directory: the same model
    with its neurons permuted, under the same names, which any tool loads; and in ripple_place/ a file in which each
    neuron's weights are contiguous, the placement, and a manifest. What was written is verified before it appears.
    Without CHECKPOINT, writes the placement file alone.
    """
    from ripple_place.checkpoint.output.plan import FORMATS
    from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
    from ripple_place.placing.params import ReorderParams
    from ripple_place.workflows.reorder import apply_placement
    from ripple_place.workflows.reorder import reorder as run

    _check_source_of_order(checkpoint, profile, placement)
    by_time = ordering == "flash-time" or (ordering == "auto" and (checkpoint is not None or bundle_bytes is not None))
    refit = by_time if refit is None else refit
    is_judged = by_time or dram_budget is not None or compare or copies == 2
    needs_device = is_judged or (checkpoint is not None and stride == "auto")
    if device is None and break_even_gap is None and needs_device:
        device = DEFAULT_DEVICE
    params = ReorderParams(
        ordering=ordering,
        seed=common.seed,
        layers=layers,
        bundle_bytes=bundle_bytes,
        effort=effort,
        time_limit_s=None if time_limit is None else time_limit / 1e6,
        n_threads=common.n_threads,
        dram_budget=dram_budget,
        cache=cache,
        refit=refit,
        compare=compare,
        copies=copies,
        granule=granule,
        device=None if device is None else load_device(device),
        break_even_gap=break_even_gap,
        formats=FORMATS if format_ == "both" else (format_,),
        stride=stride,
        adapter=adapter,
        carriers=carriers,
        gguf=gguf,
        dry_run=dry_run,
        force=force,
        resume=resume,
    )
    track = ProgressBars(quiet=common.quiet)
    if placement is not None and checkpoint is not None:
        report = apply_placement(checkpoint, placement, out, params, track)
    elif profile is not None:
        report = run(checkpoint, profile, out, params, track)
    if common.as_json:
        figures = {"plan": _plan_figures(report.plan)} if dry_run and report.plan is not None else {}
        echo_json({"out": str(out), "dry_run": dry_run, **report.to_json(), **figures})
    else:
        if report.blocks:
            click.echo(reorder_table(report) + "\n")
        if common.verbose and report.dram is not None:
            click.echo(f"{tried_table(report)}\n")
        if report.comparison is not None:
            click.echo(f"{comparison_text(report.comparison)}\n")
        if report.copies is not None:
            click.echo(f"{copies_table(report.copies)}\n")
        click.echo("\n".join(_summary(report, out, dry_run=dry_run, refit=refit)))
    echo_warnings(report.warnings, quiet=common.quiet)


def _check_source_of_order(checkpoint: Path | None, profile: Path | None, placement: Path | None) -> None:
    """Raise unless the order comes from a profile, or from a placement and from nothing else."""
    given = click.get_current_context().get_parameter_source("ordering") is not ParameterSource.DEFAULT
    found = None
    if placement is None:
        found = "neither" if profile is None else None
    elif profile is not None or given:
        found = "--placement with " + ("--profile" if profile is not None else "--ordering")
    elif checkpoint is None:
        found = "--placement without a checkpoint to apply it to"
    if found is not None:
        raise UsageError(
            "--profile and --placement", found=found, expected="a profile to order by, or a placement to apply",
            remedy="give --profile, or a checkpoint and --placement",
        )  # fmt: skip


def _summary(report: ReorderReport, out: Path, *, dry_run: bool, refit: bool) -> list[str]:
    lines = ["Reads on the profile's own trace, without cache and access collapse; simulate judges on another."]
    if not report.blocks:
        lines = [f"In the order of the given placement ({report.ordering})."]
    elif is_cost(report):
        behind = f"behind the {report.dram.recorded.cache} cache" if report.dram else "without cache"
        what = "Flash time in us" if is_timed(report) else "Cost: lambda x reads + neurons read"
        lines = [
            f"{what}, {behind}, on the part of the profile's trace that was searched "
            "and on the part held out; simulate judges on another."
        ]
    if refit and report.blocks:
        lines.append("Then searched on over the whole trace, held-out tokens included: of that, no figure here tells.")
    if is_bounded(report):
        lines.append("Gap to bound: reads over the least that any order could need on that trace.")
    if report.dram is not None:
        lines += dram_lines(report.dram)
    if report.copies is not None:
        lines.append(copies_line(report.copies))
    lines += [f"{name}: {block.note}." for name, block in report.blocks.items() if block.note]
    if report.unplaced:
        lines.append(f"In original order, without a profile or not selected: {', '.join(report.unplaced)}")
    verb = "Would write" if dry_run else "Wrote"
    if report.plan is None:
        return [*lines, f"{verb} the placement {out}"]
    plan = report.plan
    lines.append(
        f"{verb} {out}: {format_bytes(plan.written_bytes)}, {' and '.join(plan.formats)}"
        + (f", stride {plan.stride}" if plan.bundle else "")
    )
    if dry_run:
        lines += _plan_lines(plan)
    if report.verification is not None:
        lines += verification_lines(report.verification)
    return lines


def _plan_lines(plan: RewritePlan) -> list[str]:
    """Return what a dry run says of the rewrite, a line each."""
    from ripple_place.checkpoint.rewrite import ASSUMED_BYTES_PER_S

    figures = _plan_figures(plan)
    missing_bytes = figures["bytes_needed"] - figures["bytes_free"]
    files = {**plan.weight_files, **plan.plain_files}
    return [
        f"  tensors:    {figures['tensors_permuted']} permuted, {figures['tensors_copied']} copied as they are",
        f"  bytes:      {format_bytes(figures['bytes_written'])} in {len(files)} files, "
        f"{format_bytes(figures['bytes_needed'])} needed with manifest and placement",
        f"  free space: {format_bytes(figures['bytes_free'])}"
        + (f", {format_bytes(missing_bytes)} too few" if missing_bytes > 0 else ""),
        f"  RAM:        about {format_bytes(figures['peak_ram_bytes'])} for tensors, and 300 MiB for the program",
        f"  time:       about {format_time_us(figures['estimated_seconds'] * 1e6)} with verification, if "
        f"{format_rate(ASSUMED_BYTES_PER_S)} are read, hashed and compared",
    ]


def _plan_figures(plan: RewritePlan) -> dict[str, Any]:
    from ripple_place.checkpoint.output.outdir import free_bytes_at
    from ripple_place.checkpoint.rewrite import estimated_seconds, needed_bytes

    n_permuted = sum(action != "copied" for action in plan.actions.values())
    return {
        "tensors_permuted": n_permuted,
        "tensors_copied": len(plan.actions) - n_permuted,
        "bytes_written": plan.written_bytes,
        "bytes_needed": needed_bytes(plan),
        "bytes_free": free_bytes_at(plan.out),
        "peak_ram_bytes": plan.peak_ram_bytes,
        "estimated_seconds": estimated_seconds(plan),
    }


def verification_lines(report: VerificationReport) -> list[str]:
    """Return what a verification found, as sentences."""
    return [
        f"Verified: {report.n_permuted} tensors equal to the source's after undoing the permutation, "
        f"{report.n_untouched} untouched ones equal as they are ({format_bytes(report.n_bytes)} compared)",
        *(f"  {count:6,} {check}" for check, count in report.checks.items()),
    ]
