"""Options of ``simulate`` for the comparison of systems, which have knobs of their own in place of other options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ripple_place.cli.options import PATH
from ripple_place.cli.text_options import text_params
from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ripple_place.capture.params import CaptureParams
    from ripple_place.cli.options import Common
    from ripple_place.scoring.system_params import SystemParams

_OPTIONS = (
    click.option(
        "--system", "systems", metavar="SYSTEM", multiple=True,
        help="Compare published systems at one --dram-budget in place of layouts: NAME[,knob=value]... or a TOML file "
        "(docs/systems.md); repeatable. Names: llama.cpp, llm-in-a-flash, neuralink-s, neuralink, powerinfer2, dip, "
        "dip-ca, neuron-chunking, ours.",
    ),
    click.option("--tune-text", "tune_texts", type=PATH, multiple=True,
                 help="Text that rules of systems are tuned on, other than --text."),
    click.option("--tune-tokens", type=click.IntRange(1), default=8192, show_default=True, help="Tokens of it."),
    click.option("--effort", type=click.IntRange(0), default=10, show_default=True,
                 help="Rounds of perturbations of the orders that systems make."),
)  # fmt: skip
_KNOBS = {
    "layouts": ("--layout", "layout=PATH"), "cache": ("--cache", "cache=lru"),
    "admission": ("--admission", "admission=linking"), "select": ("--select", "uses=top-k=20%"),
    "gap": ("--collapse", "collapse=auto"), "queue_depth": ("--queue-depth", "queue-depth=1"),
    "access": ("--access", "access=mmap"), "overlap": ("--overlap", "overlap=pipeline"),
    "unit": ("--unit", "unit=column"), "dram_pool": ("--dram-pool", "pool=yes"),
    "gate_first": ("--gate-first", "gate-first=predicted"), "bundle_form": ("--bundle-form", "bundle-form=gates-apart"),
}  # fmt: skip
"""Options that systems have knobs for, and such a knob."""
_OF_LAYOUTS = {
    "baseline": "--baseline", "bound": "--bound", "batch": "--batch", "magnitude_noise": "--magnitude-noise",
    "pipeline": "--pipeline", "sweep": "--sweep", "transfer": "--transfer", "measured_file": "--measure",
    "measure_depth": "--measure-depth", "measure_tokens": "--measure-tokens", "fio": "--emit-fio", "html": "--html",
    "timeline": "--timeline",
}  # fmt: skip
"""Options that systems have no knob for."""
_ALONE = {"tune_texts": "--tune-text", "tune_tokens": "--tune-tokens", "effort": "--effort"}


def system_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of systems; `system_params` turns their values into parameters."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_systems(options: dict[str, Any]) -> bool:
    """Tell whether systems are to be compared, and take the options for that out of the others if not.

    Raises
    ------
    UsageError
        If there is neither a system nor a layout, or an option of the one was given for the other.
    """
    is_given = click.get_current_context().get_parameter_source
    if options["systems"]:
        for name, (flag, knob) in _KNOBS.items():
            if is_given(name) not in (None, ParameterSource.DEFAULT):
                raise UsageError(
                    flag, found="--system as well", expected="one of the two: systems have knobs of their own",
                    remedy=f"leave {flag} out, or set the knob: --system NAME,{knob}",
                )  # fmt: skip
        for name, flag in _OF_LAYOUTS.items():
            if is_given(name) not in (None, ParameterSource.DEFAULT):
                raise UsageError(
                    flag, found="--system as well", expected="--layout, which it is for", remedy=f"leave {flag} out"
                )
        return True
    for name, flag in _ALONE.items():
        if is_given(name) not in (None, ParameterSource.DEFAULT):
            raise UsageError(
                flag, found="no system", expected="--system, whose orders and rules it is for",
                remedy=f"add --system NAME, or leave {flag} out",
            )  # fmt: skip
        del options[name]
    del options["systems"]
    return False


def system_params(
    options: dict[str, Any], profiles: tuple[Path, ...], text: dict[str, Any], common: Common, **more: Any
) -> SystemParams:
    """Return what to compare, from the values of options; `more` are fields of `SimulateParams`."""
    from ripple_place.scoring.params import SimulateParams
    from ripple_place.scoring.system_params import SystemParams

    simulate = SimulateParams(**more, seed=common.seed, n_threads=common.n_threads)
    tune = None if simulate.capture is None else _tune_params(options, text, simulate.capture, common)
    return SystemParams(tuple(options["systems"]), simulate, profiles, tune, options["effort"])


def _tune_params(
    options: dict[str, Any], text: dict[str, Any], judged: CaptureParams, common: Common
) -> CaptureParams | None:
    """Return how a model reads the text that rules are tuned on: as it reads the one that they are judged on."""
    return text_params(
        {**text, "texts": options["tune_texts"], "max_tokens": options["tune_tokens"]}, common,
        family=judged.family, adapter=judged.adapter,
    )  # fmt: skip
