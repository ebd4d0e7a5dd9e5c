"""Options of ``simulate`` for what it does beside scoring: files, further simulations, and real reads."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from ripple_place.cli.options import PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.scoring.extras import SimulateExtras

_OPTIONS = (
    click.option("--html", type=PATH, help="Write a page with scores and pictures."),
    click.option("--svg", type=PATH, help="Write the page's first picture alone: where one token's reads fall."),
    click.option("--timeline", metavar="FILE.svg", type=PATH, help="Draw what each thread does in the layer in the "
                 "middle of the model, for the token of median time; with --overlap pipeline."),
    click.option("--sweep", metavar="NAME=A,B,C", help="Also simulate at each of these values of dram-budget, "
                 "bundle-bytes, collapse, device or cache."),
    click.option("--transfer", is_flag=True, help="Also score every layout on every TRACE by itself."),
    click.option("--measure", "measured_file", metavar="FILE", type=PATH,
                 help="Replay the same reads on FILE (OUT/ripple_place/bundled.safetensors, or any large file)."),
    click.option("--measure-depth", type=click.IntRange(1, 256), help="Reads in flight.  "
                 "[default: those that the device profile was measured with, or 8]"),
    click.option("--measure-tokens", type=click.IntRange(1), help="Tokens to replay, spread over the trace.  "
                 "[default: half a second's worth]"),
    click.option("--emit-fio", "fio", metavar="FILE", type=PATH,
                 help="Write the same reads as an I/O log for fio, and its job beside it (docs/measuring.md)."),
)  # fmt: skip


def extras_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add these options; `take_extras` turns their values, and that of ``--force``, into `SimulateExtras`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_extras(options: dict[str, Any]) -> tuple[SimulateExtras, dict[str, Any]]:
    """Return the extras that options give, and the other options.

    Raises
    ------
    UsageError
        If the sweep does not parse.
    """
    from ripple_place.scoring.extras import SimulateExtras
    from ripple_place.scoring.measure import MeasureParams
    from ripple_place.scoring.sweep import Sweep

    others = dict(options)
    sweep = others.pop("sweep")
    measure = MeasureParams(*(others.pop(name) for name in ("measured_file", "fio", "measure_depth", "measure_tokens")))
    extras = SimulateExtras(
        command=shlex.join(["ripple-place", *sys.argv[1:]]),
        sweep=None if sweep is None else Sweep.parse(sweep),
        measure=None if measure.file is None and measure.fio is None else measure,
        **{name: others.pop(name) for name in ("html", "svg", "transfer", "force", "timeline")},
    )
    return extras, others
