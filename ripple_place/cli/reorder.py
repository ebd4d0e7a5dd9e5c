"""``ripple-place reorder``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ripple_place.cli.options import PATH, SHARE_OR_SIZE, SIZE, Common, common_options
from ripple_place.cli.ordering_tables import (
    comparison_text,
    copies_line,
    copies_table,
    dram_lines,
    is_bounded,
    is_cost,
    reorder_table,
    tried_table,
)
from ripple_place.cli.rendering import ProgressBars, echo_json, echo_warnings
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.checkpoint.verify import VerificationReport
    from ripple_place.workflows.reorder import ReorderReport


_EXAMPLE = """\b
Example:
  ripple-place reorder ./opt-relu --profile wiki.profile --out ./opt-relu-flash
  ripple-place reorder ./opt-relu --profile wiki.profile --out ./opt-relu-10 --ordering flash-time --dram-budget 10%
"""


@click.command(epilog=_EXAMPLE)
@click.argument("checkpoint", required=False, type=PATH)
@click.option("--profile", required=True, type=PATH, help="What `ripple-place profile` wrote for this model.")
@click.option("--out", required=True, type=PATH, help="Directory to write; without CHECKPOINT, a placement file.")
@click.option("--ordering", default="greedy", show_default=True,
              type=click.Choice(["flash-time", "path", "greedy", "frequency", "random", "original"]),
              help="flash-time: least flash time; path: fewest reads; greedy: Ripple's path; "
              "frequency: hot-cold.")  # fmt: skip
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
@click.option("--dram-budget", type=SHARE_OR_SIZE, help="Place for this much DRAM: 10% of all neurons, or 512MiB; "
              "split over the blocks, and recorded for simulate.")  # fmt: skip
@click.option("--cache", metavar="POLICY", help="Policy of that DRAM, as of simulate; auto: the best on tokens held "
              "out.  [default: s3fifo with a budget]")  # fmt: skip
@click.option("--refit", is_flag=True, help="Once judged, search on over the whole trace, held-out tokens included.")
@click.option("--compare", is_flag=True, help="Compute the other orderings too, and compare what they cost.")
@click.option("--copies", type=click.IntRange(1, 2), default=1, show_default=True,
              help="2: the bundled file has each neuron twice, the second time in an order made for what the first "
              "leaves fragmented; simulate reads from either.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Order, print the plan, write nothing.")
@click.option("--force", is_flag=True, help="Replace an earlier output.")
@common_options
def reorder(
    checkpoint: Path | None,
    profile: Path,
    out: Path,
    ordering: str,
    format_: str,
    stride: str,
    layers: str | None,
    device: str | None,
    break_even_gap: float | None,
    bundle_bytes: int | None,
    effort: int,
    dram_budget: float | int | None,
    cache: str | None,
    refit: bool,
    compare: bool,
    copies: int,
    dry_run: bool,
    force: bool,
    common: Common,
) -> None:
    """Order each block's neurons and rewrite the checkpoint in that order.

    With CHECKPOINT (a Hugging Face directory, OPT or Llama family), writes a directory: the same model with its
    neurons permuted, under the same names, which any tool loads; and in ripple_place/ a file in which each neuron's
    weights are contiguous, the placement, and a manifest. What was written is verified before it appears. Without
    CHECKPOINT, writes the placement file alone.
    """
    from ripple_place.checkpoint.plan import FORMATS
    from ripple_place.flash.device_files import DEFAULT_DEVICE, load_device
    from ripple_place.workflows.reorder import reorder as run
    from ripple_place.workflows.reorder_params import ReorderParams

    is_judged = ordering == "flash-time" or dram_budget is not None or compare or copies == 2
    needs_device = is_judged or (checkpoint is not None and stride == "auto")
    if device is None and break_even_gap is None and needs_device:
        device = DEFAULT_DEVICE
    report = run(
        checkpoint,
        profile,
        out,
        ReorderParams(
            ordering=ordering,
            seed=common.seed,
            layers=layers,
            bundle_bytes=bundle_bytes,
            effort=effort,
            dram_budget=dram_budget,
            cache=cache,
            refit=refit,
            compare=compare,
            copies=copies,
            device=None if device is None else load_device(device),
            break_even_gap=break_even_gap,
            formats=FORMATS if format_ == "both" else (format_,),
            stride=stride,
            dry_run=dry_run,
            force=force,
        ),
        track=ProgressBars(quiet=common.quiet),
    )
    if common.as_json:
        echo_json({"out": str(out), "dry_run": dry_run, **report.to_json()})
    else:
        click.echo(reorder_table(report))
        if common.verbose and report.dram is not None:
            click.echo(f"\n{tried_table(report)}")
        if report.comparison is not None:
            click.echo(f"\n{comparison_text(report.comparison)}")
        if report.copies is not None:
            click.echo(f"\n{copies_table(report.copies)}")
        click.echo("\n" + "\n".join(_summary(report, out, dry_run=dry_run, refit=refit)))
    echo_warnings(report.warnings, quiet=common.quiet)


def _summary(report: ReorderReport, out: Path, *, dry_run: bool, refit: bool) -> list[str]:
    lines = ["Reads on the profile's own trace, without cache and access collapse; simulate judges on another."]
    if is_cost(report):
        behind = f"behind the {report.dram.recorded.cache} cache" if report.dram else "without cache"
        lines = [
            f"Cost: lambda x reads + neurons read, {behind}, on the part of the profile's trace that was searched "
            "and on the part held out; simulate judges on another."
        ]
    if refit:
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
        + (f"; about {format_bytes(plan.peak_ram_bytes)} of RAM for tensors" if dry_run else "")
    )
    if report.verification is not None:
        lines += verification_lines(report.verification)
    return lines


def verification_lines(report: VerificationReport) -> list[str]:
    """Return what a verification found, as sentences."""
    return [
        f"Verified: {report.n_permuted} tensors equal to the source's after undoing the permutation, "
        f"{report.n_untouched} untouched ones equal as they are ({format_bytes(report.n_bytes)} compared)",
        *(f"  {count:6,} {check}" for check, count in report.checks.items()),
    ]
