"""``ripple-place calibrate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ripple_place.cli.options import PATH, SIZE, TIME, Common, common_options
from ripple_place.cli.rendering import ProgressBars, echo_json, echo_warnings, format_table, number, percent
from ripple_place.units import format_bytes, format_rate, format_time_us

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.workflows.calibrate import CalibrateReport


_EXAMPLE = """\b
Example:
  ripple-place calibrate ~/models --out my-device.toml
  ripple-place simulate held-out.trace.safetensors --layout ./opt-relu-flash --device ./my-device.toml
"""


@click.command(epilog=_EXAMPLE)
@click.argument("directory", metavar="DIR", type=PATH)
@click.option("--out", required=True, type=PATH, help="The device profile to write, a TOML file.")
@click.option("--size", "scratch_bytes", type=SIZE, default="1GiB", show_default=True,
              help="Size of the scratch file.")  # fmt: skip
@click.option("--depth", type=click.IntRange(1, 256), help="Reads in flight that the profile is for.  "
              "[default: the smallest depth that saturates]")  # fmt: skip
@click.option("--repeats", "n_repeats", type=click.IntRange(1), default=5, show_default=True,
              help="Interleaved repeats, of which medians count.")  # fmt: skip
@click.option("--max-size", "max_request_bytes", type=SIZE, default="512KiB", show_default=True,
              help="Largest read to time; readers split longer ones.")  # fmt: skip
@click.option("--time", "time_us", metavar="TIME", type=TIME, default="50s", show_default=True,
              help="Time to measure for, the scratch file not counted.")  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite existing output.")
@common_options
def calibrate(
    directory: Path,
    out: Path,
    scratch_bytes: int,
    depth: int | None,
    n_repeats: int,
    max_request_bytes: int,
    time_us: float,
    force: bool,
    common: Common,
) -> None:
    """Measure the storage under DIR, and write its device profile.

    Writes a scratch file of random bytes in DIR (it is gone afterwards, whatever happens), reads it at random places
    past the page cache (O_DIRECT), by size and number of reads in flight, and fits a latency table. Takes about a
    minute (--time); let nothing else use the storage meanwhile. Linux only; docs/measuring.md has a way for phones.

    Prints bandwidth by size and depth; the least-squares line through the table for bundles of 4, 8 and 16 KiB, with
    the gap that is worth reading through; and how well the times of mixed sizes add up.
    """
    from ripple_place.workflows.calibrate import CalibrateParams
    from ripple_place.workflows.calibrate import calibrate as run

    params = CalibrateParams(scratch_bytes, depth, n_repeats, max_request_bytes, time_us, common.seed)
    report = run(directory, out, params, force=force, track=ProgressBars(quiet=common.quiet))
    if common.as_json:
        echo_json(report.to_json())
    else:
        click.echo(_bandwidths(report))
        click.echo(f"\n{_profile(report)}\n\n{_lines(report)}\n")
        additivity = report.additivity
        click.echo(
            f"Times of {additivity.measured_us.size} mixtures of sizes add up with R^2 {additivity.r_squared:.4f}, "
            f"median error {percent(additivity.median_error)}. Wrote {out}"
        )
    echo_warnings(report.warnings, quiet=common.quiet)


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
