"""What ``simulate`` prints: scores of layouts as tables, and the line above them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.cli.extras_tables import measured_text, sweep_text, transfer_text
from ripple_place.cli.rendering import format_table, number, percent
from ripple_place.cli.selection_table import selection_text
from ripple_place.printable import one_line
from ripple_place.units import format_bytes, format_rate, format_time_us

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.scoring.report import SimulateReport


def simulate_text(report: SimulateReport, *, verbose: bool) -> str:
    """Return the scores and what was asked for beside them; `verbose`: by form of the latency, and by block."""
    document = report.to_json()
    is_timed = report.params.compute is not None
    if report.rules:
        table = selection_text(document["layouts"], document["baseline"])
    else:
        table = _score_table(document["layouts"], "layout", is_timed=is_timed)
    parts = [_header(report, document), table]
    if report.params.batch_of_step is not None:
        parts.append(_steps_table(document["layouts"]))
    if any("pipeline" in row for row in document["layouts"]):
        parts.append(_pipeline_table(document["layouts"]))
    if report.predicted is not None:
        parts.append(report.predicted.sentences)
    if report.gates is not None:
        parts.append(report.gates.sentence)
    if verbose:
        parts.append(_form_table(document["layouts"]))
        with_hits = report.params.cache != "none"
        parts += [_block_text(layout, with_hits=with_hits, is_timed=is_timed) for layout in document["layouts"]]
    if report.sweep is not None:
        parts.append(sweep_text(report.sweep))
    if report.transfer is not None:
        parts.append(transfer_text(report.transfer))
    if report.measured is not None:
        parts.append(measured_text(report.measured))
    return "\n\n".join(parts)


def device_list(devices: Sequence[DeviceProfile]) -> str:
    """Return device profiles with their forms and descriptions, a line each."""
    rows = [
        [device.name, device.form + (" (estimated)" if device.estimated else ""), device.description]
        for device in devices
    ]
    width = max(len(row[0]) for row in rows)
    form_width = max(len(row[1]) for row in rows)
    return "\n".join(f"{row[0]:<{width}}  {row[1]:<{form_width}}  {row[2]}" for row in rows)


def _header(report: SimulateReport, document: dict[str, Any]) -> str:
    """Return the line above the table: device, trace, what is read through, copies, and DRAM."""
    parts = [
        one_line(report.device.name),
        f"{report.n_tokens:,} tokens{_steps_phrase(report)}, {len(report.trace.blocks)} blocks",
        _collapse_phrase(report, document["gap"]),
    ]
    if document["break_even_gap"] is not None:
        parts[-1] += f" (break-even {document['break_even_gap']:.2f})"
    if copies := _copies_phrase(report):
        parts.append(copies)
    if report.params.cache != "none":
        pool = report.params.pool_neurons
        n_held = sum(report.params.capacity_neurons.values()) if pool is None else pool
        share = n_held / sum(block.n_neurons for block in report.trace.blocks.values())
        admission = "" if document["admission"] == "all" else f", admission {document['admission']}"
        split = "" if report.split_by is None else f", split as {one_line(report.split_by)} records"
        shared = "" if pool is None else ", one pool"
        parts.append(f"{report.params.cache} cache of {percent(share)} of the neurons{shared}{split}{admission}")
    return "; ".join(parts)


def _steps_phrase(report: SimulateReport) -> str:
    """Return how tokens were served together; empty where each was by itself."""
    if report.params.batch_of_step is None:
        return ""
    return f" in {report.trace.n_tokens:,} steps of {', then '.join(map(str, report.batch))} sequences"


def _steps_table(layouts: list[dict[str, Any]]) -> str:
    """Return the times of steps by layout and stretch of the trace."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "sequences": lambda row: str(row["batch"]),
        "steps": lambda row: f"{row['n_steps']:,}",
        "flash time/step": lambda row: format_time_us(row["flash_time_us_per_step"]),
        "step time": lambda row: format_time_us(row["step_time_us_per_step"]),
        "flash time/token": lambda row: format_time_us(row["flash_time_us_per_token"]),
    }
    rows = [(layout["label"], stretch) for layout in layouts for stretch in layout["steps"]]
    if any(stretch["step_time_us_per_step"] is None for _, stretch in rows):
        del columns["step time"]
    cells = [[label, *(cell(stretch) for cell in columns.values())] for label, stretch in rows]
    return format_table(["layout", *columns], cells)


def _collapse_phrase(report: SimulateReport, gap: int | None) -> str:
    """Return what is read through."""
    if report.device.is_mapped:
        return f"memory-mapped, {format_bytes(report.device.read_ahead_bytes or 0)} read ahead"
    if report.params.planner != "fixed":
        return f"{report.params.planner} access collapse"
    if gap is None:
        return "access collapse by block" if report.gates is None else "access collapse by what is read"
    return f"access collapse over gaps up to {gap}"


def _copies_phrase(report: SimulateReport) -> str:
    """Return which layouts are read from two copies; empty if none is."""
    names = [layout.name for layout in report.layouts if any(block.n_copies == 2 for block in layout.blocks.values())]
    return f"{', '.join(map(one_line, names))} read from either of two copies" if names else ""


def _score_table(rows: list[dict[str, Any]], first: str, *, is_timed: bool) -> str:
    """Return scores as a table, without the columns that say nothing here.

    `first` heads the names. `is_timed`: computing was timed too, so that the speedup must say of which time it is.
    """
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        first: lambda row: str(row["name"]),
        "flash time/token": lambda row: format_time_us(row["flash_time_us_per_token"]),
        "p99": lambda row: format_time_us(row["flash_time_us_percentiles"]["99"]),
        "token time": lambda row: format_time_us(row["token_time_us_per_token"]),
        "token p99": lambda row: format_time_us(row["token_time_us_percentiles"]["99"]),
        "reads": lambda row: number(row["reads_per_token"]),
        "length": lambda row: number(row["read_length_mean"]),
        "fetched": lambda row: format_bytes(row["bytes_read_per_token"]),
        "gate time": lambda row: format_time_us(row["gate"]["flash_time_us_per_token"]) if row["gate"] else "-",
        "rest saved": lambda row: percent(row["gate"]["rest_saved_share"]) if row["gate"] else "-",
        "amplification": lambda row: number(row["read_amplification"]),
        "eff. bandwidth": lambda row: _rate(row["effective_bandwidth_bytes_per_s"]),
        "DRAM hits": lambda row: percent(row["cache_hit_ratio"]),
        "best hits": lambda row: percent(row["cache_hit_ratio_belady"]),
        "flash speedup" if is_timed else "speedup": lambda row: _speedup(row["speedup"]),
        "token speedup": lambda row: _speedup(row["token_speedup"]),
    }
    if not any(row.get("gate") for row in rows):
        del columns["gate time"], columns["rest saved"]
    if not any(row["cache_hit_ratio"] for row in rows):
        del columns["DRAM hits"]
    if not any(row["cache_hit_ratio_belady"] for row in rows):
        del columns["best hits"]
    if any(row.get("token_time_us_per_token") is None for row in rows):
        del columns["token time"], columns["token p99"], columns["token speedup"]
    return format_table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])


def _form_table(rows: list[dict[str, Any]]) -> str:
    """Return the flash time in the device's own form beside that on its line and under its ceiling."""
    forms = {
        "flash time/token, own form": "flash_time_us_per_token",
        "additive line": "flash_time_linear_us_per_token",
        "ceiling of IOPS and bandwidth": "flash_time_ceiling_us_per_token",
    }
    own = "flash_time_us_per_token"

    def cell(row: dict[str, Any], key: str) -> str:
        share = "" if key == own or not row[own] else f" ({row[key] / row[own] - 1:+.1%})"
        return format_time_us(row[key]) + share

    return format_table(
        ["layout", *forms], [[row["label"], *(cell(row, key) for key in forms.values())] for row in rows]
    )


def _pipeline_table(rows: list[dict[str, Any]]) -> str:
    """Return what the threads of the pipeline do: what of reading shows, and how busy they are."""
    return format_table(
        ["layout", "token time", "computing alone", "exposed I/O", "I/O thread busy", "compute threads busy"],
        [
            [
                row["label"], format_time_us(row["token_time_us_per_token"]),
                format_time_us(row["compute_us_per_token"]),
                format_time_us(row["pipeline"]["exposed_io_us_per_token"]), percent(row["pipeline"]["io_busy_share"]),
                percent(row["pipeline"]["compute_busy_share"]),
            ]
            for row in rows
        ],
    )  # fmt: skip


def _block_text(layout: dict[str, Any], *, with_hits: bool, is_timed: bool) -> str:
    """Return the scores of a layout's blocks, and its hits as the cache fills."""
    rows = [{"name": name, **block} for name, block in layout["blocks"].items()]
    text = f"{one_line(layout['label'])}:\n{_score_table(rows, 'block', is_timed=is_timed)}"
    if with_hits:
        tenths = " ".join(percent(ratio) for ratio in layout["cache_hit_ratio_by_tenth"])
        text += f"\nDRAM hits by tenth of the trace: {tenths}"
    return text


def _rate(bytes_per_s: float | None) -> str:
    return "-" if bytes_per_s is None else format_rate(bytes_per_s)


def _speedup(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
