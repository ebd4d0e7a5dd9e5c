"""What ``calibrate`` prints: bandwidth by size and depth, the table, its lines, and how well times add up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.cli.rendering import format_table, number, percent
from ripple_place.printable import one_line
from ripple_place.units import format_bytes, format_rate, format_time_us

if TYPE_CHECKING:
    from ripple_place.flash.storage.calibration_report import CalibrateReport


def calibrate_text(report: CalibrateReport) -> str:
    """Return the tables of a calibration, and a sentence on additivity."""
    additivity = report.additivity
    sentence = (
        f"Times of {additivity.measured_us.size} mixtures of sizes add up with R^2 {additivity.r_squared:.4f}, "
        f"median error {percent(additivity.median_error)}. Wrote {one_line(report.out)}"
    )
    return "\n\n".join([_bandwidths(report), _profile(report), _lines(report), sentence])


def _bandwidths(report: CalibrateReport) -> str:
    depths = sorted({cell.depth for cell in report.survey})
    by_cell = {(cell.size_bytes, cell.depth): cell for cell in report.survey}
    return format_table(
        ["read", *(f"depth {depth}" for depth in depths)],
        [
            [format_bytes(size), *(format_rate(by_cell[size, depth].bandwidth_bytes_per_s) for depth in depths)]
            for size in sorted({cell.size_bytes for cell in report.survey})
        ],
    )


def _profile(report: CalibrateReport) -> str:
    return format_table(
        [f"depth {report.depth}", "time/read", "reads/s", "bandwidth", "p50", "p99", "spread"],
        [
            [
                format_bytes(cell.size_bytes), format_time_us(cell.read_us), number(1e6 / cell.read_us, 0),
                format_rate(cell.bandwidth_bytes_per_s), *map(format_time_us, cell.latency_us), percent(cell.spread),
            ]
            for cell in report.cells
        ],
    )  # fmt: skip


def _lines(report: CalibrateReport) -> str:
    return format_table(
        ["bundle", "overhead", "bandwidth", "break-even gap"],
        [
            [
                format_bytes(int(size)), format_time_us(line["overhead_us"]),
                format_rate(line["bandwidth_bytes_per_s"]), number(line["break_even_gap"]),
            ]
            for size, line in report.to_json()["lines"].items()
        ],
    )  # fmt: skip
