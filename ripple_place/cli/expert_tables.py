"""What ``simulate`` prints of experts: layouts, phases, and what a sweep compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.cli.rendering import format_table, number, percent
from ripple_place.printable import one_line
from ripple_place.units import format_bytes, format_rate, format_time_us

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.experts.results import ExpertReport


def experts_text(report: ExpertReport, *, verbose: bool) -> str:
    """Return the scores as tables; `verbose`: by layer."""
    document = report.to_json()
    parts = [_header(document), _table("layout", [(row["label"], row) for row in document["layouts"]]), _hits(document)]
    if prompts := [(row["label"], row["prefill"]) for row in document["layouts"] if row["prefill"] is not None]:
        parts.append(_prompts(prompts))
    if verbose:
        parts += [
            f"{one_line(row['label'])}:\n{_table('layer', list(row['blocks'].items()))}" for row in document["layouts"]
        ]
    if "sweep" in document:
        option, points = document["sweep"]["option"], document["sweep"]["points"]
        rows = [(f"{option} {point['value']}, {row['label']}", row) for point in points for row in point["layouts"]]
        parts.append(_table(f"by {option}", rows))
    return "\n\n".join(parts)


def _header(document: dict[str, Any]) -> str:
    """Return the line above the table: device, trace, DRAM, and what is read ahead."""
    sizes = sorted(set(document["unit_bytes"].values()))
    length = format_bytes(sizes[0]) + (f" to {format_bytes(sizes[-1])}" if len(sizes) > 1 else "")
    parts = [
        one_line(document["device"]),
        f"{document['n_decode_tokens']:,} generated tokens after {document['n_prefill_tokens']:,} of prompts, "
        f"{len(document['unit_bytes'])} layers of experts of {length}",
    ]
    if document["dram_budget"] is not None:
        where = "in one pool" if document["dram_pool"] else "split by layer"
        prompts = "" if document["prefill_admitted"] else ", prompts not admitted"
        parts.append(f"{document['cache']} cache of {format_bytes(document['capacity_bytes'])} {where}{prompts}")
    if document["prefetch"] is not None:
        parts.append(f"reading ahead {document['prefetch']}")
    return "; ".join(parts)


def _table(first: str, rows: list[tuple[str, dict[str, Any]]]) -> str:
    """Return scores of generated tokens, without the columns that say nothing here."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "hits": lambda row: percent(row["cache_hit_ratio_by_phase"]["decode"]),
        "best hits": lambda row: percent(row["cache_hit_ratio_belady"]),
        "misses/token": lambda row: number(row["misses_per_token"]),
        "reads/token": lambda row: number(row["reads_per_token"]),
        "split at": lambda row: format_bytes(row["request_bytes"]),
        "requests/token": lambda row: number(row["requests_per_token"]),
        "read/token": lambda row: format_bytes(row["bytes_read_per_token"]),
        "bandwidth": _bandwidth,
        "flash time/token": lambda row: format_time_us(row["flash_time_us_per_token"]),
        "flash p99": lambda row: _percentile(row["flash_time_us_percentiles"]),
        "token time": lambda row: format_time_us(row["token_time_us_per_token"]),
        "token p99": lambda row: _percentile(row["token_time_us_percentiles"]),
        "tokens/s": lambda row: number(row["tokens_per_s"]),
        "flash speedup": lambda row: _speedup(row["speedup"]),
        "token speedup": lambda row: _speedup(row["token_speedup"]),
    }
    values = [row for _, row in rows]
    if any("request_bytes" not in row for row in values):
        del columns["split at"]
    if all(row["cache_hit_ratio_belady"] is None for row in values):
        del columns["best hits"]
    if any(row.get("token_time_us_per_token") is None for row in values):
        for name in ("token time", "token p99", "tokens/s", "token speedup"):
            del columns[name]
    if any("speedup" not in row for row in values):
        del columns["flash p99"], columns["flash speedup"]
    cells = [[label, *(cell(row) for cell in columns.values())] for label, row in rows]
    return format_table([first, *columns], cells)


def _prompts(rows: list[tuple[str, dict[str, Any]]]) -> str:
    """Return what prompts cost, without the columns that nothing is known of."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "tokens at once": lambda row: number(row["n_tokens"] / row["n_chunks"]),
        "experts at once": lambda row: number(row["experts_per_chunk"]),
        "read/token": lambda row: format_bytes(row["bytes_read_per_token"]),
        "bandwidth": _bandwidth,
        "flash time/token": lambda row: format_time_us(row["flash_time_us_per_token"]),
        "flash time": lambda row: format_time_us(row["flash_time_us"]),
        "time": lambda row: format_time_us(row["time_us"]),
        "tokens/s": lambda row: number(row["tokens_per_s"]),
    }
    if any(row["time_us"] is None for _, row in rows):
        del columns["time"], columns["tokens/s"]
    cells = [[label, *(cell(row) for cell in columns.values())] for label, row in rows]
    return format_table(["prompts", *columns], cells)


def _bandwidth(row: dict[str, Any]) -> str:
    rate = row["bandwidth_bytes_per_s"]
    return "-" if rate is None else format_rate(rate)


def _hits(document: dict[str, Any]) -> str:
    """Return the hits by phase in a sentence, and those of what was read ahead in another."""
    row = document["layouts"][0]
    phases = row["cache_hit_ratio_by_phase"]
    text = f"Found in DRAM: {percent(phases['decode'])} of what generated tokens use"
    if phases["prefill"] is not None:
        text += (
            f", {percent(phases['prefill'])} of what prompts use (each expert of a layer once a "
            f"{'prompt' if document['prefill_chunk'] is None else 'chunk'}), "
            f"{percent(row['cache_hit_ratio'])} in all"
        )
    text += "."
    if (ahead := row["prefetch"]) is not None:
        text += (
            f" Read ahead: {number(ahead['experts_per_token'])} experts a token that were not in DRAM, of "
            f"{number(ahead['guesses_per_token'])} guessed; they serve "
            f"{percent(ahead['hit_ratio'])} of the misses; {format_bytes(ahead['wasted_bytes_per_token'])} a token "
            f"({percent(ahead['wasted_share'])}) are read in vain."
        )
    return text


def _percentile(values: dict[str, float] | None) -> str:
    return "-" if values is None else format_time_us(values["99"])


def _speedup(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
