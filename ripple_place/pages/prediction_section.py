"""The section of a profile's page about predictors: what reading the predicted costs by recall, and tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.pages.charts import line_chart
from ripple_place.pages.page import Figure, Table
from ripple_place.verdict.prediction_columns import block_cells, curve_of, prediction_sentences, recall_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.predict.report import PredictionReport

MAX_CURVES = 4


@dataclass(frozen=True)
class PredictionSection:
    """What the section shows.

    Attributes
    ----------
    sentences : sequence of str
    curve : Figure or None
        None where nothing says what reads cost.
    overall, blocks : Table
    """

    sentences: Sequence[str]
    curve: Figure | None
    overall: Table
    blocks: Table

    @classmethod
    def of(cls, report: PredictionReport) -> PredictionSection:
        """Return the section of a report."""
        blocks = dict([*report.blocks.items()][:MAX_CURVES])
        named = {"all blocks": report.overall, **(blocks if len(report.blocks) > 1 else {})}
        curves = {name: curve_of(block) for name, block in named.items()}
        curves = {name: [(_nines(recall), cost) for recall, cost in curve] for name, curve in curves.items() if curve}
        figure = Figure.drawn(
            lambda width: line_chart(
                [*curves.values()], [*curves], width, title="Flash time against recall", x_title="recall",
                y_title="cost of reading what is predicted, over that of what fires",
                write_x=lambda nines: f"{1 - 10**-nines:.1%}", write_y="{:.1f}x".format,
            )
        ) if curves else None  # fmt: skip
        return cls(
            prediction_sentences(report), figure, _table(*recall_cells(report)), _table(*block_cells(report))
        )  # fmt: skip


def _nines(recall: float) -> float:
    """Return how many nines a recall has, so that .9, .99 and .999 lie as far apart on a page as they matter."""
    return -math.log10(1 - recall)


def _table(head: list[str], rows: list[list[str]]) -> Table:
    return Table([text[0].upper() + text[1:] for text in head], rows)
