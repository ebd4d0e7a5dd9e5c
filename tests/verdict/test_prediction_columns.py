"""How good predictors are, in words and cells, by hand; and on the page."""

from __future__ import annotations

from dataclasses import replace

from ripple_place.pages.prediction_section import PredictionSection
from ripple_place.predict.judging import PredictionCount
from ripple_place.predict.predictor import PredictorNote
from ripple_place.predict.report import BlockPrediction, PredictionPoint, PredictionReport
from ripple_place.verdict.prediction_columns import block_cells, prediction_sentences, recall_cells


def block(cost: float | None, share: float, n_active: int = 40) -> BlockPrediction:
    """Return the judgement of a block: nine tenths are named, and as many in vain."""
    count = PredictionCount(10, 100, n_active, 2 * n_active * 9 // 10, n_active * 9 // 10, 0.5)
    points = (PredictionPoint(0.9, count, None if cost is None else 1.5 * cost),)
    return BlockPrediction("logistic", 4, 2048, points, points, cost, share)


def report(*blocks: BlockPrediction) -> PredictionReport:
    """Return the report of blocks in flash times."""
    note = PredictorNote("activity", (0.9,), 80, {})
    return PredictionReport(note, 10, {f"layers.{i}": one for i, one in enumerate(blocks)}, "us")


def test_blocks_add_up() -> None:
    """Neurons and bytes are summed; a block that half of the tokens reach costs half as much a token."""
    both = report(block(100.0, 1.0), block(300.0, 0.5)).overall
    assert (both.n_bytes, both.cost) == (4096, 250)
    assert both.curve[0].cost == 375
    assert (both.curve[0].count.n_neurons, both.curve[0].count.recall, both.curve[0].count.precision) == (200, 0.9, 0.5)
    assert report(block(None, 1.0), block(3.0, 1.0)).overall.cost is None


def test_cells() -> None:
    """Shares in percent, misses in nats a token, cost in time and over that of what fires."""
    head, rows = recall_cells(report(block(100.0, 1.0)))
    assert dict(zip(head, rows[0], strict=True)) == {
        "wanted recall": "0.9", "recall": "90.00%", "precision": "50.0%", "read in vain": "+90%",
        "missed, nats": "0.05", "flash time": "150 us", "times true": "1.50x",
    }  # fmt: skip
    head, rows = block_cells(report(block(None, 1.0)))
    assert rows[0][0] == "layers.0"
    assert rows[0][-1] == "-"


def test_sentences_say_on_what_they_rest() -> None:
    """On tokens held out or not, with thresholds that were set there or before; and what is not predicted."""
    held_out = report(block(100.0, 1.0))
    first, second = prediction_sentences(held_out)
    assert "10 tokens that they were not fitted on." in first
    assert "costs 1.50x" in second
    assert "Thresholds were set on these" in prediction_sentences(replace(held_out, sets_thresholds=True))[0]
    assert "those that they were fitted on" in prediction_sentences(replace(held_out, is_held_out=False))[0]
    lacking = replace(held_out, unpredicted=("layers.7",))
    assert "No predictor for layers.7" in prediction_sentences(lacking)[-1]


def test_the_page_draws_a_curve_where_costs_are_known() -> None:
    """A curve for each block and for all, at phones' width, too."""
    section = PredictionSection.of(report(block(100.0, 1.0), block(300.0, 1.0)))
    assert section.curve is not None
    assert section.curve.narrow.width < section.curve.wide.width
    assert PredictionSection.of(report(block(None, 1.0))).curve is None
