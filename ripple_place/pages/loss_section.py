"""The first section of a page with rules: what they cost in loss, drawn against flash time, and as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.pages.loss_chart import LossPanel, loss_chart
from ripple_place.pages.loss_points import loss_points
from ripple_place.pages.page import Figure, Table
from ripple_place.scoring.selection_columns import selection_cells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.pages.report import Report

_MEASURED = (("KL divergence, nats a token", "kl", None), ("rise of NLL, nats a token", "nll_rise", "nll_rise_se"))
_PREDICTED = (("predicted loss, nats a token", "predicted_loss", None),)


@dataclass(frozen=True)
class LossSection:
    """What the section shows.

    Attributes
    ----------
    is_measured : bool
        The rules ran inside the model.
    figure : Figure or None
        None where no loss is known.
    tables : sequence of (str, Table)
        By layout, a row for each rule.
    """

    is_measured: bool
    figure: Figure | None
    tables: Sequence[tuple[str, Table]]


def loss_section(report: Report) -> LossSection | None:
    """Return the section; None without rules."""
    if not report.rules:
        return None
    rows = [result.to_json(report.baseline) for result in report.results]
    is_measured = any(row["kl"] is not None for row in rows)
    panels = [
        LossPanel(title, loss_points(rows, len(report.rules), key, error_key), is_log=error_key is None)
        for title, key, error_key in (_MEASURED if is_measured else _PREDICTED)
    ]
    panels = [panel for panel in panels if not all(point.is_exact for point in panel.points)]
    names = [group.title for group in report.groups]
    figure = Figure.drawn(lambda width: loss_chart(panels, names, width)) if panels else None
    return LossSection(is_measured, figure, list(zip(names, _tables(rows, len(report.rules)), strict=True)))


def _tables(rows: Sequence[Mapping[str, Any]], n_rules: int) -> list[Table]:
    """Return a table for each layout, all with the same columns; the layout is named above it."""
    head, cells = selection_cells(rows)
    without_layout = [row[1:] for row in cells]
    return [Table(head[1:], without_layout[at : at + n_rules]) for at in range(0, len(cells), n_rules)]
