"""What is said of each system: the columns that the command line's table and the picture have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.units import format_bytes, format_time_us

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Column = tuple[str, Callable[[Any], str]]

COLUMNS: dict[str, Column] = {
    "system": ("system", str),
    "flash time/token": ("flash_time_us_per_token", format_time_us),
    "speedup": ("speedup", "{:.2f}x".format),
    "p99": ("flash_time_us_p99", format_time_us),
    "token time": ("token_time_us_per_token", format_time_us),
    "tokens/s": ("tokens_per_s", "{:,.2f}".format),
    "DRAM hits": ("cache_hit_ratio", "{:.1%}".format),
    "reads": ("reads_per_token", "{:,.1f}".format),
    "fetched": ("bytes_read_per_token", format_bytes),
    "perplexity": ("perplexity", "{:.2f}".format),
    "rise": ("nll_rise", "{:+.4f}".format),
    "KL": ("kl", "{:.4f}".format),
    "must know": ("knows", str),
    "predictor": ("predictor_bytes", format_bytes),
}
"""By heading, the key of the JSON document and how its value is written."""


def system_cells(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells, without the columns that no row has a value for.

    Parameters
    ----------
    rows : sequence of mapping
        Entries of ``layouts`` of the JSON document.
    """
    flat = [{**row, "flash_time_us_p99": row["flash_time_us_percentiles"]["99"]} for row in rows]
    known = {
        heading: column for heading, column in COLUMNS.items() if any(row.get(column[0]) is not None for row in flat)
    }
    return list(known), [
        ["-" if row.get(key) is None else write(row[key]) for key, write in known.values()] for row in flat
    ]
