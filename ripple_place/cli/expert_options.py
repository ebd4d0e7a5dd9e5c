"""Options of ``simulate`` for traces of experts, which are served by a simulator of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ripple_place.cli.options import SIZE, TIME
from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.cli.options import Common
    from ripple_place.experts.results import ExpertReport
    from ripple_place.scoring.extras import SimulateExtras
    from ripple_place.trace.activation_trace import ActivationTrace

_OPTIONS = (
    click.option("--compute-us-per-token", metavar="TIME", type=TIME,
                 help="Experts: time to compute all layers for one token, such as 114ms."),
    click.option("--prefetch", metavar="previous|hottest:N", help="Experts: read ahead, while the layer before is "
                 "computed, those that the token before used in the layer, or the N hottest of the profile."),
    click.option("--request-bytes", metavar="SIZE", type=SIZE, help="Experts: split reads at this size.  [default: "
                 "what takes least time]"),
    click.option("--prefill-chunk", metavar="TOKENS", type=click.IntRange(1), help="Experts: tokens of a prompt that "
                 "pass together, so that an expert is read once for them.  [default: the whole prompt]"),
    click.option("--prefill-compute-us-per-token", metavar="TIME", type=TIME, help="Experts: time to compute all "
                 "layers for one token of a prompt, such as 9ms."),
    click.option("--no-prefill-admission", is_flag=True, help="Experts: what prompts miss does not enter the cache."),
)  # fmt: skip
_ALONE = {
    "compute_us_per_token": "--compute-us-per-token", "prefetch": "--prefetch",
    "request_bytes": "--request-bytes",
    "no_prefill_admission": "--no-prefill-admission", "prefill_chunk": "--prefill-chunk",
    "prefill_compute_us_per_token": "--prefill-compute-us-per-token",
}  # fmt: skip
_OF_NEURONS = {
    "gap": "--collapse", "pipeline": "--pipeline", "batch": "--batch", "admission": "--admission", "select": "--select",
    "magnitude_noise": "--magnitude-noise", "activity": "--activity", "recall": "--recall",
    "gate_first": "--gate-first", "bundle_form": "--bundle-form", "systems": "--system", "unit": "--unit",
    "adapter": "--adapter", "family": "--family", "timeline": "--timeline",
    "transfer": "--transfer", "measured_file": "--measure", "fio": "--emit-fio",
}  # fmt: skip
"""Options that say nothing of experts, which are read whole."""


def expert_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of experts; `run_experts` turns their values into parameters."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_expert_options(options: dict[str, Any]) -> None:
    """Take the options of experts out of those of neurons.

    Raises
    ------
    UsageError
        If one was given.
    """
    for name, flag in _ALONE.items():
        _refuse_given(name, flag, "blocks of neurons or columns", "a trace of experts")
        del options[name]


def run_experts(
    trace: ActivationTrace, names: list[str], layouts: tuple[str, ...], profiles: tuple[Path, ...],
    options: dict[str, Any], extras: SimulateExtras, common: Common, inputs: tuple[Path, ...] = (),
) -> ExpertReport:  # fmt: skip
    """Simulate a trace of experts; `inputs` are files that must not be overwritten.

    Raises
    ------
    UsageError
        If an option of neurons was given, or as the simulation.
    """
    from ripple_place.cli.rendering import ProgressBars
    from ripple_place.experts.budget import parse_budget
    from ripple_place.experts.prefetch import Prefetch
    from ripple_place.experts.reading import ORIGINAL, PACKED
    from ripple_place.experts.serve_params import ServeParams
    from ripple_place.flash.device.conditions import ReadConditions
    from ripple_place.workflows.simulate_experts import ExpertFiles, simulate_experts

    for name, flag in _OF_NEURONS.items():
        _refuse_given(name, flag, "a trace of experts", "one of neurons or columns")
    budget, prefetch, size = options["dram_budget"], options["prefetch"], options["bundle_bytes"]
    if len(profiles) > 1 or budget == "placement" or isinstance(size, tuple):
        raise UsageError(
            "simulate", found=f"{len(profiles)} profiles, --dram-budget {budget} and --bundle-bytes {size}",
            expected="of experts, at most one profile, a share, bytes or experts for each layer, and one size",
            remedy="leave out what is more, and write for instance --dram-budget 4000MiB",
        )  # fmt: skip
    conditions = ReadConditions(*(options[name] for name in ("core", "queue_depth", "thermal", "access")))
    params = ServeParams(
        options["device"], layouts or (ORIGINAL, PACKED), options["layers"], size,
        parse_budget(budget) if isinstance(budget, str) else budget, options["dram_pool"], options["cache"],
        not options["no_prefill_admission"], options["reset_at_segments"], options["bound"],
        None if prefetch is None else Prefetch.parse(prefetch), options["compute_us_per_layer"],
        options["compute_us_per_token"], options["overlap"], profiles[0] if profiles else None, conditions,
        options["baseline"], options["request_bytes"], options["prefill_chunk"],
        options["prefill_compute_us_per_token"],
    )  # fmt: skip
    sweep = None if extras.sweep is None else (extras.sweep.option, extras.sweep.values)
    files = ExpertFiles(
        extras.html, extras.svg, extras.command, extras.force, (*inputs, *profiles, *map(Path, layouts))
    )  # fmt: skip
    return simulate_experts(trace, params, sweep, ProgressBars(quiet=common.quiet), names, files)


def _refuse_given(name: str, flag: str, found: str, expected: str) -> None:
    """Refuse an option that is of another kind of trace."""
    if click.get_current_context().get_parameter_source(name) not in (None, ParameterSource.DEFAULT):
        raise UsageError(flag, found=found, expected=expected, remedy=f"leave {flag} out")
