"""What ``simulate --select`` prints: what each rule costs on flash, and in loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.cli.rendering import format_table, number, percent
from ripple_place.printable import one_line
from ripple_place.units import format_time_us

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "layout": ("name", one_line),
    "rule": ("select", str),
    "flash time/token": ("flash_time_us_per_token", format_time_us),
    "speedup": ("speedup", "{:.2f}x".format),
    "reads": ("reads_per_token", number),
    "DRAM hits": ("cache_hit_ratio", percent),
    "kept": ("kept_share", percent),
    "kept value": ("kept_value", "{:.2%}".format),
    "predicted loss": ("predicted_loss", "{:.5f}".format),
    "NLL": ("nll", "{:.4f}".format),
    "rise": ("nll_rise", "{:+.5f}".format),
    "± s.e.": ("nll_rise_se", "{:.5f}".format),
    "KL": ("kl", "{:.5f}".format),
    "perplexity": ("perplexity", "{:.2f}".format),
    "same top-1": ("agreement", "{:.1%}".format),
    "needs": ("needs", str),
}
"""By heading, the key of the JSON document and how its value is written."""


def selection_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the scores of layouts and rules as a table, without the columns that no row has a value for."""
    known = {
        heading: column for heading, column in _COLUMNS.items()
        if any(row.get(column[0]) is not None for row in rows) and not (heading == "DRAM hits" and _no_hits(rows))
    }  # fmt: skip
    return format_table(
        list(known),
        [
            ["-" if row.get(key) is None else write(row[key]) for key, write in known.values()]
            for row in rows
        ],
    )  # fmt: skip


def _no_hits(rows: Sequence[dict[str, Any]]) -> bool:
    return not any(row["cache_hit_ratio"] for row in rows)
