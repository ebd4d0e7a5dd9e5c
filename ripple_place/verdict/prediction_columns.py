"""How good predictors are, in words and in cells: for the terminal and for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.printable import listed
from ripple_place.units import format_bytes, format_time_us

if TYPE_CHECKING:
    from ripple_place.predict.report import BlockPrediction, PredictionPoint, PredictionReport

MAX_BLOCKS = 48
"""Rows of the table of blocks: a longer one is not read."""


def prediction_sentences(report: PredictionReport) -> list[str]:
    """Return on how many tokens predictors were judged, what they take, and what they miss."""
    overall = report.overall
    what = "what fires and how much it puts out" if report.note.predicts == "magnitude" else "what fires"
    judged = f"They were judged on {report.n_rows:,} tokens"
    judged += (
        " that they were not fitted on."
        if report.is_held_out
        else ", in some blocks those that they were fitted on: the text is too short to hold any out."
    )
    if report.sets_thresholds:
        judged += " Thresholds were set on these; --predictor-from judges them on other text."
    sentences = [f"The predictors tell {what}, and take {format_bytes(overall.n_bytes)} of DRAM. {judged}"]
    middle = point_nearest(overall.at_thresholds, 0.99)
    costs = _more(middle.cost, overall.cost)
    if costs is not None:
        sentences.append(
            f"At the thresholds for {middle.wanted_recall:g} they name {middle.count.recall:.2%} of what fires, and "
            f"reading what they name costs {costs} what fires alone would, in the model's order and without DRAM."
        )
    if report.unpredicted:
        sentences.append(f"No predictor for {listed(report.unpredicted)}: the input of the FFN is not known.")
    return sentences


def recall_cells(report: PredictionReport) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of recalls, all blocks together."""
    overall = report.overall
    head = ["wanted recall", "recall", "precision", "read in vain", "missed, nats", _cost_head(report), "times true"]
    return head, [
        [
            f"{point.wanted_recall:g}", f"{point.count.recall:.2%}", f"{point.count.precision:.1%}",
            f"{point.count.over_predicted:+.0%}", _nats(point), _cost(report, point.cost),
            _more(point.cost, overall.cost) or "-",
        ]
        for point in overall.at_thresholds
    ]  # fmt: skip


def block_cells(report: PredictionReport) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of blocks, at the recall nearest to 0.99; of many blocks, the first ones."""
    head = ["block", "fitted by", "rank", "bytes", "recall", "precision", "read in vain", "missed, nats", "times true"]
    rows = []
    for name, block in [*report.blocks.items()][:MAX_BLOCKS]:
        point = point_nearest(block.at_thresholds, 0.99)
        rows.append(
            [
                name, block.method, str(block.rank), format_bytes(block.n_bytes), f"{point.count.recall:.2%}",
                f"{point.count.precision:.1%}", f"{point.count.over_predicted:+.0%}", _nats(point),
                _more(point.cost, block.cost) or "-",
            ]
        )  # fmt: skip
    return head, rows


def point_nearest(points: tuple[PredictionPoint, ...], recall: float) -> PredictionPoint:
    """Return the point whose wanted recall is nearest."""
    return min(points, key=lambda point: abs(point.wanted_recall - recall))


def curve_of(block: BlockPrediction) -> list[tuple[float, float]]:
    """Return points (recall, cost of the predicted over that of what fires); empty where costs are not known."""
    if not block.cost:
        return []
    return [(point.wanted_recall, point.cost / block.cost) for point in block.curve if point.cost is not None]


def _nats(point: PredictionPoint) -> str:
    nats = point.count.missed_nats
    return "-" if nats is None else f"{nats / max(1, point.count.n_rows):.2g}"


def _cost_head(report: PredictionReport) -> str:
    return "flash time" if report.unit == "us" else "cost"


def _cost(report: PredictionReport, cost: float | None) -> str:
    if cost is None:
        return "-"
    return format_time_us(cost) if report.unit == "us" else f"{cost:,.1f}"


def _more(cost: float | None, true_cost: float | None) -> str | None:
    return f"{cost / true_cost:.2f}x" if cost is not None and true_cost else None
