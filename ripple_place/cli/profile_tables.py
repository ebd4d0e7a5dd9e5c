"""The text of ``profile``: a table of blocks, the files written, and the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.blocks import NEURON
from ripple_place.cli.rendering import format_table, number, percent
from ripple_place.cli.verdict_table import verdict_text
from ripple_place.printable import one_line
from ripple_place.verdict.prediction_columns import block_cells, prediction_sentences, recall_cells

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.capture.run import Capture
    from ripple_place.graph.importance import ModelImportance
    from ripple_place.predict.report import PredictionReport
    from ripple_place.workflows.profile import ProfileReport


def profile_text(report: ProfileReport, written: Sequence[Path]) -> str:
    """Return the table of blocks, the rule of a capture and its cost, the files written, and the verdict.

    Parameters
    ----------
    report : ProfileReport
    written : sequence of Path
        The files, in the order in which they are named.
    """
    parts = [statistics_table(report)]
    if report.capture is not None:
        parts += [text for text in (choice_text(report.capture), perplexity_text(report.capture)) if text]
    if report.importance is not None:
        parts.append(importance_text(report.importance))
    if report.prediction is not None:
        parts += prediction_text(report.prediction)
    amount = "Counts" if report.n_segments is None else f"{report.n_tokens:,} tokens in {report.n_segments} segments"
    parts.append(f"{amount}. Wrote {' and '.join(map(one_line, written))}")
    if report.verdict is not None:
        parts.append(verdict_text(report.verdict))
    if report.experts is not None:
        from ripple_place.experts.verdict.sentences import sentences as expert_sentences

        parts.append("\n".join(f"- {sentence}" for sentence in expert_sentences(report.experts)))
    return "\n\n".join(parts)


def statistics_table(report: ProfileReport) -> str:
    """Return the table of blocks."""
    units = f"{report.metadata.get('unit', NEURON)}s"
    return format_table(
        ["block", units, "active", "dead", "hottest 10%", "lift", "lift rank corr."],
        [
            [
                name, f"{block.n_neurons:,}", percent(block.active_share), f"{block.dead_neurons:,}",
                percent(block.hottest_tenth_share), number(block.lift_of_best_neighbors, 1),
                number(block.lift_rank_correlation),
            ]
            for name, block in report.statistics.items()
        ],
    )  # fmt: skip


def choice_text(capture: Capture) -> str:
    """Return how the rule was chosen, with the table of those that were tried; empty if it was named or is exact."""
    choice = capture.choice
    if choice is None or not choice.rule.changes_output:
        return ""
    head = f"The activation function {choice.activation} leaves no neuron at exactly zero."
    other = f"Recorded by the rule {choice.rule}; --active names another."
    before = choice.perplexity_without_rule
    if before is None:
        return f"{head} No rule was tried on the text. {other}"
    rows = [
        [str(trial.rule), number(trial.perplexity), f"{trial.perplexity / before - 1:+.1%}"] for trial in choice.trials
    ]
    table = format_table(["rule", "perplexity", "rise"], [["every neuron", number(before), ""], *rows])
    return f"{head} Rules were tried on a part of the text:\n\n{table}\n\n{other}"


def perplexity_text(capture: Capture) -> str:
    """Return how well the model predicts the text with all of its neurons, and by the rule; empty if nobody asked."""
    if capture.perplexity is None:
        return ""
    return (
        f"Perplexity of the text: {number(capture.perplexity_without_rule)} with every neuron, "
        f"{number(capture.perplexity)} by the rule {capture.rule}."
    )


def importance_text(importance: ModelImportance) -> str:
    """Return on how much text importance was measured, how unequal it is, and what the sensitivity explains."""
    blocks = importance.to_json()["blocks"].values()
    text = f"Importance, measured on {importance.note.n_tokens:,} tokens"
    if top := _range([block["share_of_top_10_percent"] for block in blocks]):
        text += f": the top 10 % of a block's neurons have {top} of it"
    if r2 := _range([block["sensitivity_r2"] for block in blocks]):
        text += f"; sensitivity explains {r2} of the variance of log |g|^2 on held-out tokens"
    return f"{text}."


def prediction_text(report: PredictionReport) -> list[str]:
    """Return how good predictors are: sentences, a table of recalls and one of blocks."""
    return [
        " ".join(prediction_sentences(report)), format_table(*recall_cells(report)), format_table(*block_cells(report))
    ]  # fmt: skip


def _range(shares: Sequence[float | None]) -> str:
    """Return the lowest and the highest of some shares, or the one that there is; empty if none is known."""
    known = [share for share in shares if share is not None]
    return " to ".join(dict.fromkeys(percent(share) for share in (min(known), max(known)))) if known else ""
