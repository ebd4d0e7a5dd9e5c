"""What is said of each rule on each layout: the columns that the command line's table and the page have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.units import format_time_us

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Column = tuple[str, Callable[[Any], str]]

COLUMNS: dict[str, Column] = {
    "layout": ("name", str),
    "rule": ("select", str),
    "flash time/token": ("flash_time_us_per_token", format_time_us),
    "speedup": ("speedup", "{:.2f}x".format),
    "token time": ("token_time_us_per_token", format_time_us),
    "token speedup": ("token_speedup", "{:.2f}x".format),
    "reads": ("reads_per_token", "{:,.2f}".format),
    "DRAM hits": ("cache_hit_ratio", "{:.1%}".format),
    "kept": ("kept_share", "{:.1%}".format),
    "precision": ("precision", "{:.1%}".format),
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


def selection_cells(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells, without the columns that no row has a value for.

    Parameters
    ----------
    rows : sequence of mapping
        Entries of ``layouts`` of the JSON document.
    """
    known = {
        heading: column for heading, column in COLUMNS.items() if any(row.get(column[0]) is not None for row in rows)
    }
    if not any(row["cache_hit_ratio"] for row in rows):
        known.pop("DRAM hits", None)
    headings = ["flash speedup" if heading == "speedup" and "token time" in known else heading for heading in known]
    return headings, [
        ["-" if row.get(key) is None else write(row[key]) for key, write in known.values()] for row in rows
    ]
