"""What ``reorder`` prints: tables of the orders it made, and what was written and verified, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.checkpoint.names import PREDICTORS_FILE
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
from ripple_place.cli.plan_text import plan_text
from ripple_place.printable import listed, one_line
from ripple_place.units import format_bytes, format_rate, format_time_us

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ripple_place.checkpoint.output.plan import RewritePlan
    from ripple_place.checkpoint.proof.verify import VerificationReport
    from ripple_place.placing.reorder_report import ReorderReport
    from ripple_place.select.tuned import TunedRules

_NAMED_FILES = 5
"""Of the files left out for one reason; the manifest names all."""


def reorder_text(report: ReorderReport, out: Path, *, dry_run: bool, verbose: bool) -> str:
    """Return all that is printed of a run."""
    parts = []
    if report.blocks:
        parts.append(reorder_table(report))
    if verbose and report.dram is not None:
        parts.append(tried_table(report))
    if report.comparison is not None:
        parts.append(comparison_text(report.comparison))
    if report.copies is not None:
        parts.append(copies_table(report.copies))
    if report.tuned is not None:
        parts.append(_tuned_text(report.tuned))
    if report.neuron_plan is not None:
        parts.append(plan_text(report.neuron_plan))
    return "\n\n".join([*parts, "\n".join(_summary(report, out, dry_run=dry_run))])


def _tuned_text(tuned: TunedRules) -> str:
    """Return what rules cost on the text that they were tuned on."""
    lines = []
    for rule in tuned.rules.values():
        figures, of = rule.report, "" if rule.importance == "fisher" else "; importance by size, not by gradients"
        error = "" if figures["nll_rise_se"] is None else f" ± {figures['nll_rise_se']:.5f}"
        exact_us, flash_us = figures["exact_flash_time_us_per_token"], figures["flash_time_us_per_token"]
        saved = f"{exact_us / flash_us:.2f}x less flash time than exact" if flash_us else "no flash time at all"
        lines.append(
            f"{rule.rule}: {saved}, loss {figures['nll_rise']:+.5f}{error} nats a "
            f"token (KL {figures['kl']:.5f}), on the {figures['n_tokens']:,} tokens it was tuned on{of}."
        )
    return "\n".join(lines)


def _summary(report: ReorderReport, out: Path, *, dry_run: bool) -> list[str]:
    lines = ["Reads on the profile's own trace, without cache and access collapse; simulate judges on another."]
    if not report.blocks:
        lines = [f"In the order of the given placement ({one_line(report.ordering)})."]
    elif is_cost(report):
        behind = f"behind the {report.dram.recorded.cache} cache" if report.dram else "without cache"
        what = "Flash time in us" if is_timed(report) else "Cost: lambda x reads + neurons read"
        lines = [
            f"{what}, {behind}, on the part of the profile's trace that was searched "
            "and on the part held out; simulate judges on another."
        ]
    if report.is_refitted and report.blocks:
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
        return [*lines, f"{verb} the placement {one_line(out)}"]
    plan = report.plan
    lines.append(
        f"{verb} {one_line(out)}: {format_bytes(plan.written_bytes)}, {' and '.join(plan.formats)}"
        + (f", stride {plan.stride}" if plan.bundle else "")
        + (", gates apart" if plan.gates == "apart" else "")
    )
    if (predictors := plan.additions.get(PREDICTORS_FILE)) is not None:
        lines.append(f"{verb} the profile's predictors beside it: {format_bytes(predictors.size_bytes)}")
    if plan.bundled_only:
        lines.append(
            f"The drop-in weights are not in the order of {listed(plan.bundled_only)}, which would permute the hidden "
            + ("state of the whole model; the bundled file is." if plan.bundle else "state of the whole model.")
        )
    if plan.side_files.left_out:
        lines.append(f"Left out of OUT: {_left_out_text(plan.side_files.left_out)}")
    if dry_run:
        lines += _plan_lines(plan)
    if report.verification is not None:
        lines += verification_lines(report.verification)
    return lines


def _left_out_text(left_out: Mapping[str, str]) -> str:
    """Return which files of the source are left out, by reason; of many, the first are named."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in sorted(left_out.items()):
        by_reason.setdefault(reason, []).append(name)
    texts = []
    for reason, names in by_reason.items():
        texts.append(f"{listed([*map(one_line, names)], at_most=_NAMED_FILES)} ({reason})")
    return "; ".join(texts)


def _plan_lines(plan: RewritePlan) -> list[str]:
    """Return what a dry run says of the rewrite, a line each."""
    from ripple_place.checkpoint.rewrite import ASSUMED_BYTES_PER_S

    figures = plan_figures(plan)
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


def plan_figures(plan: RewritePlan) -> dict[str, Any]:
    """Return the figures of a plan, as ``--dry-run --json`` has them."""
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
