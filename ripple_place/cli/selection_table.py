"""What ``simulate --select`` prints: what each rule costs on flash, and in loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.cli.rendering import format_table
from ripple_place.printable import one_line
from ripple_place.scoring.selection_columns import selection_cells

if TYPE_CHECKING:
    from collections.abc import Sequence


def selection_text(rows: Sequence[dict[str, Any]], baseline: str) -> str:
    """Return the scores of layouts and rules as a table, and which of them speedups are against."""
    return f"{format_table(*selection_cells(rows))}\n\nSpeedup is against {one_line(baseline)}."
