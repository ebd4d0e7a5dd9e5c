"""What ``simulate`` prints beside the scores: sweeps, the transfer matrix, and measured times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.cli.rendering import format_table, percent
from ripple_place.printable import one_line
from ripple_place.units import format_time_us

if TYPE_CHECKING:
    from ripple_place.scoring.measure import MeasureReport
    from ripple_place.scoring.sweep import SweepReport
    from ripple_place.scoring.transfer import TransferReport


def sweep_text(report: SweepReport) -> str:
    """Return the flash time of each layout at each value as a table, with speedups over the baseline."""
    rows = [
        [point["value"], *(_time_and_speedup(layout) for layout in point["layouts"])]
        for point in report.to_json()["points"]
    ]
    names = [result.label for result in report.points[0].results]
    return f"Flash time per token:\n{format_table([report.sweep.option, *names], rows)}"


def transfer_text(report: TransferReport) -> str:
    """Return the flash time of each layout on each trace as a table."""
    document = report.to_json()
    rows = [
        [trace, *(_time_and_speedup({"flash_time_us_per_token": time_us, "speedup": speedup})
                  for time_us, speedup in zip(times_us, speedups, strict=True))]
        for trace, times_us, speedups in zip(
            document["traces"], document["flash_time_us_per_token"], document["speedup"], strict=True
        )
    ]  # fmt: skip
    return f"Flash time per token by trace:\n{format_table(['trace', *document['labels']], rows)}"


def _time_and_speedup(layout: dict[str, Any]) -> str:
    speedup = "" if layout["speedup"] is None else f" ({layout['speedup']:.2f}x)"
    return format_time_us(layout["flash_time_us_per_token"]) + speedup


def measured_text(report: MeasureReport) -> str:
    """Return predicted and measured times as a table, and which files were written."""
    parts = []
    if report.measurements:
        first = report.measurements[0]
        parts.append(
            f"Measured with {report.depth} reads in flight: {first.requests.tokens.size} tokens, medians of "
            f"{first.full_us.size} interleaved repeats\n{_measured_table(report)}"
        )
    if report.written:
        counts = ", ".join(
            f"{requests.n_requests:,} reads of {one_line(requests.layout)}" for requests in report.requests
        )
        parts.append(f"Wrote {', '.join(map(one_line, report.written))}: {counts}")
    return "\n\n".join(parts)


def _measured_table(report: MeasureReport) -> str:
    baseline = report.measurements[report.baseline]
    rows = []
    for measured in report.measurements:
        scores = measured.to_json(baseline)
        low, high = scores["speedup_range"]
        rows.append(
            [
                measured.requests.layout,
                format_time_us(scores["predicted_us_per_token"]),
                format_time_us(scores["flash_time_us_per_token"]),
                f"{100 * scores['error']:+.1f}%",
                percent(measured.spread),
                format_time_us(scores["waiting_us_per_token"]),
                f"{scores['predicted_speedup']:.2f}x",
                f"{scores['speedup']:.2f}x ({low:.2f}-{high:.2f})",
            ]
        )
    headers = ["layout", "predicted", "measured", "error", "spread", "waiting for blocks", "predicted speedup",
               "measured speedup"]  # fmt: skip
    return format_table(headers, rows)
