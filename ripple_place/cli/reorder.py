"""``ripple-place reorder``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ripple_place.blocks import EXPERT
from ripple_place.cli.options import BUNDLE_SIZE, PATH, SHARE_OR_SIZE, TIME, Common, common_options, family_option
from ripple_place.cli.pack import run_pack
from ripple_place.cli.rendering import ProgressBars, echo, echo_json, echo_warnings
from ripple_place.cli.reorder_text import plan_figures, reorder_text
from ripple_place.cli.text_options import text_options, text_params
from ripple_place.errors import UsageError
from ripple_place.ordering.registry import AUTO, ORDERINGS
from ripple_place.predict.params import ACTIVITIES, TRUE

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.capture.params import CaptureParams
    from ripple_place.workflows.tune_selection import TuneParams

_EXAMPLE = """\b
Example:
  ripple-place reorder ./opt-relu --profile wiki.profile --out ./opt-relu-flash
  ripple-place reorder ./opt-relu --profile wiki.profile --out ./opt-relu-10 --ordering flash-time --dram-budget 10%
  ripple-place reorder ./opt-relu --profile wiki.profile --out ./opt-relu-s --select flash-aware=0.001 --tune-text a.txt
  ripple-place reorder ./qwen3-30b.gguf --unit expert --profile routes.profile --out ./qwen3-30b-experts
"""

_ORDERINGS = (
    "; ".join(f"{ordering.name}: {ordering.summary}" for ordering in ORDERINGS.values() if ordering.summary)
    + f"; {AUTO}: flash-time, or greedy where nothing says what a read costs."
)


@click.command(epilog=_EXAMPLE)
@click.argument("checkpoint", required=False, type=PATH)
@click.option("--profile", type=PATH, help="What `ripple-place profile` wrote for this model.")
@click.option(
    "--placement", type=PATH, help="Apply this placement, computed elsewhere, instead of ordering by a profile."
)
@click.option("--out", required=True, type=PATH, help="Directory to write; without CHECKPOINT, a placement file.")
@click.option("--unit", type=click.Choice([EXPERT]), help="expert: write all bytes of each expert of a mixture side by "
              "side, from a checkpoint or a GGUF file; the model stays as it is. --profile, of routes, orders the "
              "experts of each layer by --ordering original, frequency or greedy (docs/experts.md).  "
              "[default: the profile's]")  # fmt: skip
@click.option("--permute-experts", is_flag=True, help="With --unit expert: number experts by their place on storage, "
              "in the drop-in shards too; the rows of routers follow.")  # fmt: skip
@click.option("--ordering", default=AUTO, show_default=True, type=click.Choice([AUTO, *ORDERINGS]), help=_ORDERINGS)
@click.option("--format", "format_", type=click.Choice(["drop-in", "bundled", "both"]), default="both",
              show_default=True, help="drop-in: any tool loads it; bundled: for pread.")  # fmt: skip
@click.option("--stride", type=click.Choice(["packed", "page", "auto"]), default="auto", show_default=True,
              help="Bundles packed, or each on a page; auto takes what the simulator finds cheaper.")  # fmt: skip
@click.option("--gates", type=click.Choice(["inside", "apart"]), default="inside", show_default=True,
              help="Gate rows inside the bundles, or all of a block's in a region of their own, so that they can be "
              "read first (docs/gatefirst.md).")  # fmt: skip
@click.option("--layers", metavar="0-3,7", help="Reorder only these layers.")
@click.option("--device", help="Device profile (name or file) that --stride auto judges by, and that is recorded.  "
              "[default: ufs4-oneplus12-neuralink]")  # fmt: skip
@click.option("--break-even-gap", type=click.FloatRange(0), help="Recorded in place of the device's.")
@click.option("--bundle-bytes", type=BUNDLE_SIZE, help="Bytes of a neuron's weights, or of an input column and a down "
              "column; recorded in a placement file.")  # fmt: skip
@click.option("--effort", type=click.IntRange(0), default=10, show_default=True,
              help="Rounds of perturbations of flash-time and path.")  # fmt: skip
@click.option("--time-limit", type=TIME, help="Wall clock for all searches, such as 60s; they keep the best so far. "
              "Ctrl-C does the same.")  # fmt: skip
@click.option("--dram-budget", type=SHARE_OR_SIZE, help="Place for this much DRAM: 10% of all neurons, or 512MiB; "
              "split over the blocks, and recorded for simulate.")  # fmt: skip
@click.option("--cache", metavar="POLICY", help="Policy of that DRAM, as of simulate; auto: the best on tokens held "
              "out.  [default: s3fifo with a budget]")  # fmt: skip
@click.option("--refit/--no-refit", default=None, help="Once judged, search on over the whole trace, held-out tokens "
              "included.  [default: with flash-time]")  # fmt: skip
@click.option("--compare", is_flag=True, help="Compute the other orderings too, and compare what they cost.")
@click.option("--granule", type=click.IntRange(1), default=1, show_default=True,
              help="Neighbours that move as one (32, 64, 128), where quantised weights share scales.")  # fmt: skip
@click.option("--adapter", type=PATH, help="LoRA adapter directory that is permuted along.")
@click.option("--carrier", "carriers", type=PATH, multiple=True,
              help="Importance matrix, predictors or counts that are permuted along; repeatable.")  # fmt: skip
@family_option
@click.option("--gguf", type=PATH, help="Write the FFNs as GGUF too, a row per neuron; needs the gguf extra.")
@click.option("--copies", type=click.IntRange(1, 2), default=1, show_default=True,
              help="2: the bundled file has each neuron twice, the second time in an order made for what the first "
              "leaves fragmented; simulate reads from either.")  # fmt: skip
@click.option("--plan", "neuron_plan", metavar="PLAN", help="powerinfer2[,batches=1-4][,cold-share=50%]...: the "
              "hottest neurons first and in sequence, as many as PowerInfer-2's planner computes densely and keeps in "
              "--dram-budget; the others as --ordering places them (docs/systems.md).")  # fmt: skip
@click.option("--select", "rules", metavar="RULE", multiple=True, help="Tune a rule that chooses what a token uses, "
              "such as flash-aware=0.001 (wanted rise of the loss, in nats a token), for the output; repeatable; needs "
              "the capture extra.")  # fmt: skip
@click.option("--activity", type=click.Choice(ACTIVITIES), default=TRUE, show_default=True,
              help="What rules see when they are tuned: what fires, or what the profile's predictors say.")  # fmt: skip
@click.option("--recall", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
              help="Recall of the predictors, one that thresholds were set for.  [default: 0.99, or the "
              "highest]")  # fmt: skip
@text_options("--tune-text", "--tune-tokens", "Text that rules are tuned on, other than what they are judged on")
@click.option("--dry-run", is_flag=True, help="Order, print the plan, write nothing.")
@click.option("--force", is_flag=True, help="Replace an earlier output.")
@click.option("--resume", is_flag=True, help="Continue a run of the same command that was killed.")
@common_options
def reorder(
    checkpoint: Path | None,
    profile: Path | None,
    placement: Path | None,
    out: Path,
    unit: str | None,
    permute_experts: bool,
    format_: str,
    stride: str,
    gates: str,
    adapter: Path | None,
    carriers: tuple[Path, ...],
    gguf: Path | None,
    family: Path | None,
    dry_run: bool,
    force: bool,
    resume: bool,
    time_limit: float | None,
    neuron_plan: str | None,
    rules: tuple[str, ...],
    activity: str,
    recall: float | None,
    text: dict[str, Any],
    common: Common,
    **placing: Any,
) -> None:
    """Order each block's neurons and rewrite the checkpoint in that order.

    With CHECKPOINT (a Hugging Face directory; docs/families.md lists the models), writes a directory: the same model
    with its neurons permuted, under the same names, which any tool loads; and in ripple_place/ a file in which each
    neuron's weights are contiguous, the placement, and a manifest. What was written is verified before it appears.
    Without CHECKPOINT, writes the placement file alone.

    With --unit expert, CHECKPOINT is a mixture of experts, as a directory or a GGUF file. Its experts are written one
    after the other, each whole and on a page; no weight changes, and no profile is needed.
    """
    from ripple_place.checkpoint.output.plan import FORMATS
    from ripple_place.checkpoint.writing import WritingParams
    from ripple_place.placing.params import PlacingParams
    from ripple_place.systems.plan_params import PlanParams
    from ripple_place.workflows.reorder import apply_placement
    from ripple_place.workflows.reorder import reorder as run

    formats = FORMATS if format_ == "both" else (format_,)
    if unit == EXPERT:
        run_pack(
            checkpoint, out, common, profile=profile, placement=placement, formats=formats,
            ordering=placing["ordering"], layers=placing["layers"], family=family, dry_run=dry_run, force=force,
            resume=resume, permute_experts=permute_experts,
        )  # fmt: skip
        return
    if permute_experts:
        raise UsageError(
            "--permute-experts", found="no --unit expert", expected="it: experts are what is renumbered",
            remedy=f"add --unit {EXPERT}, or leave --permute-experts out",
        )  # fmt: skip
    _check_source_of_order(checkpoint, profile, placement)
    planned = None if neuron_plan is None else PlanParams.parse(neuron_plan)
    if planned is not None and placement is not None:
        raise _order_error("--plan as well", "leave --plan out: the placement is the order")
    writing = WritingParams(formats, stride, adapter, carriers, gguf, family, dry_run, force, resume, gates)
    limit_s = None if time_limit is None else time_limit / 1e6
    params = PlacingParams(**placing, seed=common.seed, n_threads=common.n_threads, time_limit_s=limit_s)
    track = ProgressBars(quiet=common.quiet)
    selection = _selection(rules, text_params(text, common, family=family), placement, activity, recall)
    if placement is not None and checkpoint is not None:
        report = apply_placement(checkpoint, placement, out, writing, layers=params.layers, track=track)
    elif profile is not None:
        report = run(checkpoint, profile, out, params, writing, track, selection, planned)
    if common.as_json:
        figures = {"plan": plan_figures(report.plan)} if dry_run and report.plan is not None else {}
        echo_json({"out": str(out), "dry_run": dry_run, **report.to_json(), **figures})
    else:
        echo(reorder_text(report, out, dry_run=dry_run, verbose=common.verbose))
    echo_warnings(report.warnings, quiet=common.quiet)


def _selection(
    rules: tuple[str, ...], capture: CaptureParams | None, placement: Path | None, activity: str, recall: float | None
) -> TuneParams | None:
    """Return which rules to tune, and on what; None if there are none."""
    from ripple_place.workflows.tune_selection import TuneParams

    if not rules and capture is None:
        for option, is_given in ((f"--activity {activity}", activity != TRUE), ("--recall", recall is not None)):
            if is_given:
                raise UsageError(
                    option, found="nothing to tune", expected="--select and --tune-text",
                    remedy=f"add them, or leave {option.split()[0]} out",
                )  # fmt: skip
        return None
    if not rules:
        raise _selection_error("no rule to tune", "add --select, or leave --tune-text out")
    if capture is None:
        raise _selection_error("no text to tune on", "add --tune-text FILE")
    if placement is not None:
        raise _selection_error("--placement", "order by the --profile that the placement was made from")
    return TuneParams(rules, capture, activity, recall)


def _selection_error(found: str, remedy: str) -> UsageError:
    return UsageError("--select and --tune-text", found=found, expected="a rule, a text, and a profile", remedy=remedy)


def _check_source_of_order(checkpoint: Path | None, profile: Path | None, placement: Path | None) -> None:
    """Raise unless the order comes from a profile, or from a placement and from nothing else."""
    if placement is None:
        if profile is None:
            raise _order_error("neither", "give --profile, or a checkpoint and --placement")
    elif profile is not None:
        raise _order_error("both", "leave one out")
    elif click.get_current_context().get_parameter_source("ordering") is not ParameterSource.DEFAULT:
        raise _order_error("--ordering as well", "leave --ordering out: the placement is the order")
    elif checkpoint is None:
        raise _order_error("no checkpoint to apply the placement to", "name the checkpoint")


def _order_error(found: str, remedy: str) -> UsageError:
    return UsageError(
        "--profile and --placement", found=found, expected="a profile to order by, or a placement to apply",
        remedy=remedy,
    )  # fmt: skip
