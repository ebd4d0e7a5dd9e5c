"""``ripple-place simulate``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003
from typing import TYPE_CHECKING, Any

import click

from ripple_place.blocks import NEURON, WEIGHT_UNITS
from ripple_place.cli.expert_options import expert_options, run_experts, take_expert_options
from ripple_place.cli.expert_tables import experts_text
from ripple_place.cli.extras import extras_options, take_extras
from ripple_place.cli.options import BUDGET, BUNDLE_SIZE, PATH, Common, adapter_option, common_options, family_option
from ripple_place.cli.reading import reading_options, reading_params
from ripple_place.cli.rendering import ProgressBars, echo, echo_json, echo_warnings
from ripple_place.cli.simulate_tables import device_list, simulate_text
from ripple_place.cli.system_options import check_systems, system_options, system_params
from ripple_place.cli.system_table import systems_text
from ripple_place.cli.text_options import text_options, text_params
from ripple_place.errors import UsageError
from ripple_place.predict.params import ACTIVITIES, TRUE

if TYPE_CHECKING:
    from ripple_place.capture.params import CaptureParams
    from ripple_place.scoring.extras import SimulateExtras
    from ripple_place.trace.activation_trace import ActivationTrace


def _list_devices(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    """Print the shipped device profiles and stop."""
    if wanted and not context.resilient_parsing:
        from ripple_place.flash.device.files import list_devices, load_device

        echo(device_list([load_device(name) for name in list_devices()]))
        context.exit()


_EXAMPLE = """\b
Example:
  ripple-place simulate held-out.trace.safetensors --layout original --layout ./opt-relu-flash
  ripple-place simulate held-out.trace.safetensors --layout greedy.placement --bundle-bytes 4KiB --dram-budget 10%
  ripple-place simulate qwen.route.csv --dram-budget 4000MiB --dram-pool --cache lru --device ufs4-oneplus15r
  ripple-place simulate ./opt-relu --text test.txt --layout ./opt-relu-flash --select exact --select flash-aware=0.001
"""


@click.command(epilog=_EXAMPLE)
@click.argument("traces", metavar="SOURCE...", nargs=-1, required=True, type=PATH)
@click.option("--layout", "layouts", metavar="LAYOUT", multiple=True,
              help="An output of reorder, a placement file, or `original`; repeat to compare.")  # fmt: skip
@click.option(
    "--device", default="ufs4-oneplus12-neuralink", show_default=True, help="Device profile: a name or a TOML file."
)
@click.option("--layers", metavar="0-3,7", help="Simulate only these layers.")
@click.option("--bundle-bytes", type=BUNDLE_SIZE, help="Bytes of a neuron's weights, or of an input column and a down "
              "column, packed; overrides what layouts know.")  # fmt: skip
@system_options
@reading_options
@expert_options
@click.option("--dram-budget", type=BUDGET, help="DRAM for neurons or experts: 10% of each block, 512MiB in all, or "
              "16experts of each layer; placement: what the layouts were made for.")  # fmt: skip
@click.option("--dram-pool", is_flag=True, help="One cache for all blocks, of the same size in all, instead of one for "
              "each block.")  # fmt: skip
@click.option("--cache", metavar="POLICY", help="none, lru, fifo, lfu, s3fifo, sieve, greedydual, pinned, pinned+lru, "
              "belady (the bound), window:K (the last K tokens'), DIP's mask-first-lru, mask-first-lfu or "
              "mask-first-belady, or segmented (one pool, by the plan of the first layout of reorder --plan).  "
              "[default: s3fifo with a budget]")  # fmt: skip
@click.option("--admission", metavar="RULE", default="all", show_default=True,
              help="Which misses may enter the cache: all, or linking[:CUTOFF,PROBABILITY]: those in runs of CUTOFF or "
              "more active slots only with PROBABILITY.")  # fmt: skip
@click.option("--reset-at-segments", is_flag=True, help="Empty the cache where a segment of the trace begins.")
@click.option("--bound", is_flag=True, help="Show how many hits the best replacement (Belady's) would have had; takes "
              "about twice as long.")  # fmt: skip
@click.option("--profile", "profiles", type=PATH, multiple=True, help="Profile whose firing counts decide what is "
              "pinned, and whose predictors --activity predicted asks; systems make their orders from it, and take one "
              "of neurons and one of columns.  [default: what the layouts record]")  # fmt: skip
@click.option("--select", metavar="RULE", multiple=True, help="What a token uses, chosen by exact, threshold=X, "
              "top-k=P%, cats=P%, teal=P%, partial-glu=KEEP, dip=KEEP, dip-ca=KEEP, glu-pruning=KEEP, chunk=KEEP, "
              "fisher=NATS or flash-aware=NATS (docs/selection.md); repeat to compare.  [default: everything that "
              "fires]")  # fmt: skip
@click.option("--magnitude-noise", metavar="SIGMA", type=click.FloatRange(0), default=0.0, show_default=True,
              help="What a predictor of magnitudes gets wrong: rules see outputs times exp(SIGMA z).")  # fmt: skip
@click.option("--activity", type=click.Choice(ACTIVITIES), default=TRUE, show_default=True,
              help="What is read: what fires, or what predictors say: a model's now, or as a trace recorded "
              "it.")  # fmt: skip
@click.option("--recall", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
              help="Recall of a model's predictors, one that thresholds were set for.  [default: 0.99, or the "
              "highest]")  # fmt: skip
@click.option("--gate-first", metavar="MODE", help="Read gates, then up and down rows of what fires: predicted (gates "
              "of what a predictor named), predicted,over-predict=1.25 (of so many neurons for each one that fires), "
              "full-gate (all gates, in one read) or resident (gates in DRAM).")  # fmt: skip
@click.option("--bundle-form", metavar="FORM", help="Suppose that bundles are whole, gate-first (a gate is read by "
              "itself), gates-apart (all gates in a region of their own) or int4[:WEIGHTS] (four bits, gate on the "
              "first page).  [default: as the output has them]")  # fmt: skip
@text_options("--text", "--max-tokens", "Text for the model to read, where SOURCE is a model")
@click.option("--unit", type=click.Choice(WEIGHT_UNITS), help="What a model's blocks are made of: neurons, or the "
              "columns of up and gate, and those of down (DIP).  [default: neuron]")  # fmt: skip
@adapter_option
@family_option
@click.option(
    "--baseline",
    metavar="LAYOUT",
    help="What speedup is against; with --select, under the first RULE.  [default: the first layout]",
)
@extras_options
@click.option("--list-devices", is_flag=True, is_eager=True, expose_value=False, callback=_list_devices,
              help="List the shipped device profiles.")  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite existing output.")
@common_options
def simulate(
    traces: tuple[Path, ...],
    layouts: tuple[str, ...],
    profiles: tuple[Path, ...],
    text: dict[str, Any],
    unit: str | None,
    adapter: Path | None,
    family: Path | None,
    common: Common,
    **options: Any,
) -> None:
    """Score layouts on a trace: what each token's reads cost on a flash device.

    SOURCE is a trace, a profile with one, or several of them; or a model with --text, whose rules of --select then run
    inside it, so that the table also says what they cost in loss. Of a trace of experts, the table says what serving
    them from flash costs (docs/experts.md).

    Scores are means per token over all blocks: flash time; reads of the plan and their length in neurons; requests
    (reads rounded out to pages and split at the device's largest request) and the bytes they fetch; amplification,
    bytes fetched for each byte of an active neuron; and effective bandwidth, which counts only those.
    """
    from ripple_place.experts.sources import read_expert_trace
    from ripple_place.scoring.params import SimulateParams
    from ripple_place.workflows.simulate import simulate as run

    if text["texts"] == () and (routes := read_expert_trace(traces)) is not None:
        _simulate_experts(routes, traces, layouts, profiles, options, common)
        return
    take_expert_options(options)
    compares_systems = check_systems(options)
    extras, options = take_extras(options)
    capture = text_params(text, common, family=family, unit=unit or NEURON, adapter=adapter)
    tune_texts = options.get("tune_texts") or None
    for flag, given in (("--family", family), ("--unit", unit), ("--adapter", adapter), ("--tune-text", tune_texts)):
        if given is not None and capture is None:
            raise UsageError(
                flag, found="traces, which were recorded before", expected="a model and --text FILE",
                remedy=f"leave {flag} out",
            )  # fmt: skip
    if compares_systems:
        _simulate_systems(traces, profiles, options, capture, text, extras, common)
        return
    if not layouts:
        raise UsageError(
            "simulate", found="no layout and no system", expected="something to score",
            remedy="add --layout original, or --system neuralink",
        )  # fmt: skip
    if len(profiles) > 1:
        raise UsageError("--profile", found=f"{len(profiles)} profiles", expected="at most one without --system",
                         remedy="leave one out")  # fmt: skip
    options["profile"] = profiles[0] if profiles else None
    params = SimulateParams(**reading_params(options), n_threads=common.n_threads, seed=common.seed, capture=capture)
    report = run(traces, layouts, params, ProgressBars(quiet=common.quiet), extras)
    if common.as_json:
        echo_json(report.to_json())
    else:
        echo(simulate_text(report, verbose=common.verbose))
    echo_warnings(report.warnings, quiet=common.quiet)


def _simulate_experts(
    routes: ActivationTrace, traces: tuple[Path, ...], layouts: tuple[str, ...], profiles: tuple[Path, ...],
    options: dict[str, Any], common: Common,
) -> None:  # fmt: skip
    """Say what serving experts costs."""
    extras, options = take_extras(options)
    report = run_experts(routes, [path.name for path in traces], layouts, profiles, options, extras, common, traces)
    if common.as_json:
        echo_json(report.to_json())
    else:
        echo(experts_text(report, verbose=common.verbose))
    echo_warnings(report.scores.warnings, quiet=common.quiet)


def _simulate_systems(
    traces: tuple[Path, ...], profiles: tuple[Path, ...], options: dict[str, Any], capture: CaptureParams | None,
    text: dict[str, Any], extras: SimulateExtras, common: Common,
) -> None:  # fmt: skip
    """Compare systems at one DRAM budget."""
    from ripple_place.workflows.simulate_systems import simulate_systems

    read = reading_params(options)
    more = {
        name: read[name]
        for name in (
            "device", "layers", "bundle_bytes", "dram_budget", "conditions", "compute", "reset_at_segments", "activity",
            "recall",
        )
    }  # fmt: skip
    params = system_params(options, profiles, text, common, capture=capture, **more)
    scores = simulate_systems(traces, params, ProgressBars(quiet=common.quiet), extras)
    if common.as_json:
        echo_json(scores.to_json())
    else:
        echo(systems_text(scores))
    echo_warnings(scores.warnings, quiet=common.quiet)
