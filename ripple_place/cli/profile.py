"""``ripple-place profile``."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import click

from ripple_place.cli.capture_options import capture_options
from ripple_place.cli.options import BUNDLE_SIZE, PATH, Common, common_options
from ripple_place.cli.profile_tables import profile_text
from ripple_place.cli.rendering import ProgressBars, echo, echo_json, echo_warnings
from ripple_place.predict.params import ACTIVITIES
from ripple_place.workflows.profile_params import MAX_NEIGHBORS, ProfileParams

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.bundle_sizes import BundleBytes
    from ripple_place.cli.capture_options import CaptureOptions


_EXAMPLE = """\b
Example:
  ripple-place profile ./model --text wiki.txt --out model.profile
  ripple-place profile wiki.trace.safetensors --out wiki.profile
"""


@click.command(epilog=_EXAMPLE)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=PATH)
@click.option("--out", required=True, type=PATH, help="The profile to write.")
@capture_options
@click.option("--union", type=click.IntRange(1), default=ProfileParams.union, show_default=True,
              help="Sequences served together: a neuron is active if any of them needs it.")  # fmt: skip
@click.option("--activity", type=click.Choice(ACTIVITIES), default=ProfileParams.activity, show_default=True,
              help="What is counted of traces: what fired, or what predictors said, where it is recorded.")  # fmt: skip
@click.option("--append", is_flag=True, default=ProfileParams.append,
              help="Add to OUT, and go on with a capture that was interrupted.")  # fmt: skip
@click.option("--neighbors", type=click.IntRange(1, MAX_NEIGHBORS), default=ProfileParams.n_neighbors,
              show_default=True, help="Neighbours kept of each neuron in the co-activation graph.")  # fmt: skip
@click.option("--graphml", type=PATH, help="Also write the co-activation graph as GraphML.")
@click.option("--powerinfer", type=PATH, metavar="DIR", help="Also write the predictors as PowerInfer reads them; "
              "needs the capture extra.")  # fmt: skip
@click.option("--verdict/--no-verdict", default=True, show_default=True,
              help="Say how much reordering can help, and whether the trace is long enough.")  # fmt: skip
@click.option("--bundle-bytes", type=BUNDLE_SIZE, help="Bytes of a neuron's weights, or of an input column and a down "
              "column: the verdict is in flash times then.  [default: those of the model, if any]")  # fmt: skip
@click.option("--device", help="Device profile (name or file) of the verdict.  [default: ufs4-oneplus12-neuralink]")
@click.option("--break-even-gap", type=click.FloatRange(0), help="Lambda of the verdict, in place of a device's.")
@click.option("--html", type=PATH, help="Write a page with the verdict and pictures.")
@click.option("--force", is_flag=True, default=ProfileParams.force, help="Overwrite existing output.")
@common_options
def profile(
    sources: tuple[Path, ...], out: Path, capture: CaptureOptions, union: int, activity: str, append: bool,
    neighbors: int, graphml: Path | None, powerinfer: Path | None, verdict: bool, bundle_bytes: BundleBytes | None,
    device: str | None, break_even_gap: float | None, html: Path | None, force: bool, common: Common,
) -> None:  # fmt: skip
    """Count which FFN neurons fire, and fire together.

    SOURCE is a model, a Hugging Face checkpoint directory that reads the --text (needs the extra `capture`:
    docs/profiling.md), or an activation trace (.trace.safetensors, .npz, .npy; docs/formats.md). Other tools' traces
    are read as dejavu:DIR,neurons=N, dense:FILE, packed:FILE and powerinfer:DIR, routes of experts as .csv, .jsonl or
    routes:FILE, their counts as mbolt:FILE (docs/profiling.md). Several traces of
    the same blocks are joined one after the other, traces of different blocks side by side. Without a trace at hand,
    synthetic:opt-6.7b and synthetic:llama-2-7b are drawn (options such as ,tokens=4096 in docs/formats.md).

    Prints, for each block: the share of neurons active for a token; neurons that never fire; the share of all
    activations that the hottest 10 % of neurons make; the median lift of the 8 best neighbours (how many times likelier
    than by chance they fire together, on the half of the trace that did not choose them); and the rank correlation of
    those lifts between the halves (near 1: the trace is long enough).

    Then the verdict: what ordering on the first half of the trace saves on the second, for each block and for all, and
    whether more text would help. The columns are explained in docs/profiling.md.
    """
    from ripple_place.verdict.judge import VerdictParams
    from ripple_place.workflows.profile import profile as run

    recording = capture.params(sources, common)
    costs = VerdictParams(device, bundle_bytes, break_even_gap)
    params = ProfileParams(
        n_neighbors=neighbors, union=union, activity=activity, capture=recording, append=append, graphml=graphml,
        powerinfer=powerinfer, verdict=costs if verdict else None, html=html,
        command=shlex.join(["ripple-place", *sys.argv[1:]]), force=force,
    )  # fmt: skip
    report = run(sources, out, params, ProgressBars(quiet=common.quiet))
    if common.as_json:
        echo_json({"out": str(out), **report.to_json()})
    else:
        written = [path for path in (out, graphml, powerinfer, html) if path is not None]
        echo(profile_text(report, written))
    echo_warnings(report.warnings, quiet=common.quiet)
