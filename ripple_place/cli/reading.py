"""Options of ``simulate`` that say how the reader works: its gaps, its conditions, and what computes meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ripple_place.cli.options import COLLAPSE, TIME
from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_OPTIONS = (
    click.option(
        "--collapse", "gap", metavar="auto|off|N|adaptive|optimal", default="auto", show_default=True, type=COLLAPSE,
        help="Read through gaps of up to N unwanted neurons; auto: the device's break-even gap; adaptive: a gap that "
        "follows the times seen; optimal: the reads of least time.",
    ),
    click.option("--core", metavar="NAME", help="Core that issues reads, such as big, mid or little."),
    click.option("--queue-depth", type=click.IntRange(1), help="Reads kept in flight.  [default: a full queue]"),
    click.option("--thermal", type=click.Choice(["cold", "warm"]), default="cold", show_default=True,
                 help="Temperature of the device."),
    click.option("--access", type=click.Choice(["direct", "mmap", "sync"]), default="direct", show_default=True,
                 help="Requests past the page cache, page faults in a mapped file, or one request at a time, each "
                 "waiting for the one before."),
    click.option("--compute-us-per-layer", metavar="TIME", type=TIME,
                 help="Time to compute a layer for one token (with --batch, for one step), such as 800us: adds the "
                 "time of a token end to end."),
    click.option("--overlap", type=click.Choice(["serial", "layer", "cluster", "pipeline"]), default=None,
                 help="How reading hides under computing: not at all; while the layer before is computed (its "
                 "activity must be predicted); cluster by cluster; stage by stage on several threads, at the "
                 "device's compute rates where no --compute-us-per-layer is given.  [default: serial]"),
    click.option("--pipeline", metavar="KEY=VALUE,...", help="Threads, clusters, barriers and times of --overlap "
                 "pipeline, such as threads=4,barriers=none,attention=430us (docs/pipeline.md)."),
    click.option("--batch", metavar="B[,B...]", default="1", show_default=True,
                 help="Segments of the trace that are served together, as the sequences of a batch; 4,2,1: equal "
                 "stretches of the trace, one after the other."),
)  # fmt: skip


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the reader; `reading_params` turns their values into parameters."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def reading_params(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `SimulateParams` that options give, conditions and computing put together.

    Raises
    ------
    UsageError
        If there is an overlap but nothing to overlap with, or a batch size is no number.
    """
    from ripple_place.flash.device.conditions import ReadConditions
    from ripple_place.flash.pipeline.text import parse_pipeline
    from ripple_place.flash.token_time import PIPELINE, ComputeParams
    from ripple_place.scoring.batch import parse_batch

    params = dict(options)
    params["batch"] = parse_batch(params["batch"])
    conditions = ReadConditions(*(params.pop(name) for name in ("core", "queue_depth", "thermal", "access")))
    compute_us, overlap, pipeline = (params.pop(name) for name in ("compute_us_per_layer", "overlap", "pipeline"))
    if overlap == PIPELINE or pipeline is not None:
        parsed = None if pipeline is None else parse_pipeline(pipeline)
        scheduled = ComputeParams(compute_us or 0.0, overlap or "serial", pipeline=parsed)
        return {**params, "conditions": conditions, "compute": scheduled}
    if compute_us is None and overlap is not None:
        raise UsageError(
            f"--overlap {overlap}", found="no time to compute", expected="one",
            remedy="add --compute-us-per-layer (for instance 800us)",
        )  # fmt: skip
    compute = None if compute_us is None else ComputeParams(compute_us, overlap or "serial")
    return {**params, "conditions": conditions, "compute": compute}
