"""``ripple-place profile``."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from ripple_place.cli.options import PATH, SIZE, Common, common_options
from ripple_place.cli.rendering import ProgressBars, echo_json, echo_warnings, format_table, number, percent
from ripple_place.cli.verdict_table import verdict_text
from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.workflows.profile import ProfileReport


_EXAMPLE = """\b
Example:
  ripple-place profile ./model --text wiki.txt --out model.profile
  ripple-place profile wiki.trace.safetensors --out wiki.profile
"""

_CAPTURE_FLAGS = {
    "max_tokens": "--max-tokens", "segment_length": "--segment-length", "sequence_length": "--sequence-length",
    "rule": "--active", "magnitudes": "--magnitudes", "perplexity": "--perplexity/--no-perplexity",
    "layer_by_layer": "--layer-by-layer/--whole-model", "torch_device": "--torch-device", "dtype": "--dtype",
}  # fmt: skip
"""Options by parameter that only a capture has a use for."""

_DTYPES = ["float32", "bfloat16", "float16"]


@click.command(epilog=_EXAMPLE)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=PATH)
@click.option("--out", required=True, type=PATH, help="The profile to write.")
@click.option("--text", "texts", type=PATH, multiple=True,
              help="Text for the model to read; may be given several times.")  # fmt: skip
@click.option("--max-tokens", type=click.IntRange(1), default=8192, show_default=True,
              help="Tokens of the text to record, in segments spread evenly over it.")  # fmt: skip
@click.option("--segment-length", type=click.IntRange(1), default=2048, show_default=True,
              help="Tokens of a segment.")  # fmt: skip
@click.option("--sequence-length", type=click.IntRange(2), default=256, show_default=True,
              help="Tokens that the model sees at a time; windows overlap by half.")  # fmt: skip
@click.option("--active", "rule", metavar="RULE", default="relu", show_default=True,
              help="When a neuron is active: relu, threshold=X, top-k=K, top-k=P%, cats=P%, teal=P%.")  # fmt: skip
@click.option("--magnitudes", is_flag=True, help="Also record what the active neurons put out.")
@click.option("--perplexity/--no-perplexity", default=True, show_default=True,
              help="Score the text with and without a rule that changes the output.")  # fmt: skip
@click.option("--layer-by-layer/--whole-model", default=None,
              help="One layer's weights in memory at a time, or all.  [default: all if there is room]")  # fmt: skip
@click.option("--torch-device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
              help="Where the model runs; auto takes the GPU if there is one.")  # fmt: skip
@click.option("--dtype", type=click.Choice(_DTYPES), default="float32", show_default=True,
              help="What the model computes in.")  # fmt: skip
@click.option("--union", type=click.IntRange(1), default=1, show_default=True,
              help="Sequences served together: a neuron is active if any of them needs it.")  # fmt: skip
@click.option("--append", is_flag=True, help="Add to OUT, and go on with a capture that was interrupted.")
@click.option("--neighbors", type=click.IntRange(1, 4096), default=64, show_default=True,
              help="Neighbours kept of each neuron in the co-activation graph.")  # fmt: skip
@click.option("--graphml", type=PATH, help="Also write the co-activation graph as GraphML.")
@click.option("--verdict/--no-verdict", default=True, show_default=True,
              help="Say how much reordering can help, and whether the trace is long enough.")  # fmt: skip
@click.option("--bundle-bytes", type=SIZE, help="Bytes of a neuron's weights: the verdict is in flash times then.")
@click.option("--device", help="Device profile (name or file) of the verdict.  [default: ufs4-oneplus12-neuralink]")
@click.option("--break-even-gap", type=click.FloatRange(0), help="Lambda of the verdict, in place of a device's.")
@click.option("--html", type=PATH, help="Write a page with the verdict and pictures.")
@click.option("--force", is_flag=True, help="Overwrite existing output.")
@common_options
def profile(
    sources: tuple[Path, ...], out: Path, texts: tuple[Path, ...], max_tokens: int, segment_length: int,
    sequence_length: int, rule: str, magnitudes: bool, perplexity: bool, layer_by_layer: bool | None,
    torch_device: str, dtype: str, union: int, append: bool, neighbors: int, graphml: Path | None, verdict: bool,
    bundle_bytes: int | None, device: str | None, break_even_gap: float | None, html: Path | None, force: bool,
    common: Common,
) -> None:  # fmt: skip
    """Count which FFN neurons fire, and fire together.

    SOURCE is a model, a Hugging Face checkpoint directory that reads the --text (needs the extra `capture`:
    docs/profiling.md), or an activation trace (.trace.safetensors, .npz, .npy; docs/formats.md). Other tools' traces
    are read as dejavu:DIR,neurons=N, dense:FILE, packed:FILE and powerinfer:DIR (docs/profiling.md). Several traces of
    the same blocks are joined one after the other, traces of different blocks side by side. Without a trace at hand,
    synthetic:opt-6.7b and synthetic:llama-2-7b are drawn (options such as ,tokens=4096 in docs/formats.md).

    Prints, for each block: the share of neurons active for a token; neurons that never fire; the share of all
    activations that the hottest 10 % of neurons make; the median lift of the 8 best neighbours (how many times likelier
    than by chance they fire together, on the half of the trace that did not choose them); and the rank correlation of
    those lifts between the halves (near 1: the trace is long enough).

    Then the verdict: what ordering on the first half of the trace saves on the second, for each block and for all, and
    whether more text would help. The columns are explained in docs/profiling.md.
    """
    from ripple_place.capture.capture import CaptureParams
    from ripple_place.capture.text import WindowParams
    from ripple_place.flash.device.files import load_device
    from ripple_place.trace.activity_rules import ActivityRule
    from ripple_place.verdict.judge import VerdictParams
    from ripple_place.workflows.profile import profile as run

    if not texts and not any(path.is_dir() for path in sources):
        _refuse_capture_options()
    windows = WindowParams(max_tokens, segment_length, sequence_length)
    activity = ActivityRule.parse(rule)
    capture = (
        CaptureParams(
            texts, windows, activity, magnitudes=magnitudes, layer_by_layer=layer_by_layer, perplexity=perplexity,
            device=torch_device, dtype=dtype, n_threads=common.n_threads if common.n_threads_given else None,
        )
        if texts
        else None
    )  # fmt: skip
    charge = VerdictParams(None if device is None else load_device(device), bundle_bytes, break_even_gap)
    report = run(
        sources, out, n_neighbors=neighbors, union=union, capture=capture, append=append, graphml=graphml,
        verdict=charge if verdict else None, html=html, command=shlex.join(["ripple-place", *sys.argv[1:]]),
        force=force, track=ProgressBars(quiet=common.quiet),
    )  # fmt: skip
    if common.as_json:
        echo_json({"out": str(out), **report.to_json()})
    else:
        click.echo(_table(report))
        if report.capture is not None and report.capture.perplexity is not None:
            click.echo(
                f"\nPerplexity of the text: {number(report.capture.perplexity_without_rule)} with every neuron, "
                f"{number(report.capture.perplexity)} by the rule {activity}."
            )
        amount = "Counts"
        if report.trace is not None:
            amount = f"{report.trace.n_tokens:,} tokens in {report.trace.segment_starts.size} segments"
        click.echo(f"\n{amount}. Wrote {' and '.join(map(str, filter(None, (out, graphml, html))))}")
        if report.verdict is not None:
            click.echo(f"\n{verdict_text(report.verdict)}")
    echo_warnings(report.warnings, quiet=common.quiet)


def _refuse_capture_options() -> None:
    """Raise if options were given that only mean something where a model reads text."""
    context = click.get_current_context()
    for name, flag in _CAPTURE_FLAGS.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(
                flag, found="traces, which were recorded before", expected="a model and --text FILE",
                remedy=f"leave {flag} out, or profile the model",
            )  # fmt: skip


def _table(report: ProfileReport) -> str:
    return format_table(
        ["block", "neurons", "active", "dead", "hottest 10%", "lift", "lift rank corr."],
        [
            [
                name, f"{block.n_neurons:,}", percent(block.active_share), f"{block.dead_neurons:,}",
                percent(block.hottest_tenth_share), number(block.lift_of_best_neighbors, 1),
                number(block.lift_rank_correlation),
            ]
            for name, block in report.statistics.items()
        ],
    )  # fmt: skip
