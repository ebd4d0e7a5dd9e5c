"""``ripple-place calibrate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ripple_place.cli.calibrate_tables import calibrate_text
from ripple_place.cli.options import PATH, SIZE, TIME, Common, common_options
from ripple_place.cli.rendering import ProgressBars, echo, echo_json, echo_warnings

if TYPE_CHECKING:
    from pathlib import Path


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
@click.option("--max-depth", type=click.IntRange(1, 256), default=32, show_default=True,
              help="Deepest queue to try; 128 for NVMe drives.")  # fmt: skip
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
    max_depth: int,
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
    from ripple_place.flash.storage.calibration_params import CalibrateParams
    from ripple_place.workflows.calibrate import calibrate as run

    params = CalibrateParams(scratch_bytes, depth, n_repeats, max_request_bytes, time_us, common.seed, max_depth)
    report = run(directory, out, params, force=force, track=ProgressBars(quiet=common.quiet))
    if common.as_json:
        echo_json(report.to_json())
    else:
        echo(calibrate_text(report))
    echo_warnings(report.warnings, quiet=common.quiet)
