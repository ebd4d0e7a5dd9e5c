"""The text of ``profile``: a table of blocks, the files written, and the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.cli.rendering import format_table, number, percent
from ripple_place.cli.verdict_table import verdict_text
from ripple_place.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.capture.run import Capture
    from ripple_place.trace.activity_rules import ActivityRule
    from ripple_place.workflows.profile import ProfileReport


def profile_text(report: ProfileReport, written: Sequence[Path], rule: ActivityRule | None) -> str:
    """Return the table of blocks, the perplexity of a capture, the files written, and the verdict.

    Parameters
    ----------
    report : ProfileReport
    written : sequence of Path
        The files, in the order in which they are named.
    rule : ActivityRule or None
        Of the capture, if there was one.
    """
    parts = [statistics_table(report)]
    if report.capture is not None and report.capture.perplexity is not None:
        parts.append(perplexity_text(report.capture, rule))
    amount = "Counts" if report.n_segments is None else f"{report.n_tokens:,} tokens in {report.n_segments} segments"
    parts.append(f"{amount}. Wrote {' and '.join(map(one_line, written))}")
    if report.verdict is not None:
        parts.append(verdict_text(report.verdict))
    return "\n\n".join(parts)


def statistics_table(report: ProfileReport) -> str:
    """Return the table of blocks."""
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


def perplexity_text(capture: Capture, rule: ActivityRule | None) -> str:
    """Return how well the model predicts the text with all of its neurons, and by the rule."""
    return (
        f"Perplexity of the text: {number(capture.perplexity_without_rule)} with every neuron, "
        f"{number(capture.perplexity)} by the rule {rule}."
    )
