"""``ripple-place profile``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ripple_place.cli.options import PATH, Common, common_options
from ripple_place.cli.rendering import ProgressBars, echo_json, echo_warnings, format_table, number, percent

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.workflows.profile import ProfileReport


_EXAMPLE = """\b
Example:
  ripple-place profile wiki.trace.safetensors --out wiki.profile
"""


@click.command(epilog=_EXAMPLE)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=PATH)
@click.option("--out", required=True, type=PATH, help="The profile to write.")
@click.option("--neighbors", type=click.IntRange(1, 4096), default=64, show_default=True,
              help="Neighbours kept of each neuron in the co-activation graph.")  # fmt: skip
@click.option("--graphml", type=PATH, help="Also write the co-activation graph as GraphML.")
@click.option("--force", is_flag=True, help="Overwrite existing output.")
@common_options
def profile(
    sources: tuple[Path, ...], out: Path, neighbors: int, graphml: Path | None, force: bool, common: Common
) -> None:
    """Count which FFN neurons fire, and fire together.

    SOURCE is an activation trace (.trace.safetensors, .npz, .npy); docs/formats.md says how to record one. Several
    traces of the same blocks are joined one after the other, traces of different blocks side by side. Without a trace
    at hand, synthetic:opt-6.7b and synthetic:llama-2-7b are drawn (options such as ,tokens=4096 in docs/formats.md).

    Prints, for each block: the share of neurons active for a token; neurons that never fire; the share of all
    activations that the hottest 10 % of neurons make; the median lift of the 8 best neighbours (how many times likelier
    than by chance they fire together, on the half of the trace that did not choose them); and the rank correlation of
    those lifts between the halves (near 1: the trace is long enough).
    """
    from ripple_place.workflows.profile import profile as run

    report = run(
        sources, out, n_neighbors=neighbors, graphml=graphml, force=force, track=ProgressBars(quiet=common.quiet)
    )
    if common.as_json:
        echo_json({"out": str(out), **report.to_json()})
    else:
        click.echo(_table(report))
        click.echo(f"\n{report.trace.n_tokens:,} tokens in {report.trace.segment_starts.size} segments. Wrote {out}")
    echo_warnings(report.warnings, quiet=common.quiet)


def _table(report: ProfileReport) -> str:
    return format_table(
        ["block", "neurons", "active", "dead", "hottest 10%", "lift", "lift rank corr."],
        [
            [
                name, f"{block.n_neurons:,}", percent(block.active_share), f"{block.dead_neurons:,}",
                percent(block.hottest_tenth_share), number(block.lift_of_best_neighbors, 1),
                number(block.lift_rank_correlation),
            ]
            for name, block in report.statistics.items()
        ],
    )  # fmt: skip
