"""Which systems can serve a source: by its units, its zeros, and what rules are served with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import COLUMN, NEURON
from ripple_place.errors import UsageError
from ripple_place.flash.bundle_form import WHOLE
from ripple_place.systems.knobs import NO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.systems.knobs import Knobs
    from ripple_place.trace.activation_trace import ActivationTrace

DENSE_SHARE = 0.999
"""Of all neurons that put out something: above it, a model's activations count as never zero."""
_SAMPLED_ROWS = 256


def check_chosen(chosen: Mapping[str, Knobs], trace: ActivationTrace, *, is_dense: bool, is_model: bool) -> None:
    """Refuse systems that cannot serve the source.

    Parameters
    ----------
    chosen : mapping of str to Knobs
        By system.
    trace : ActivationTrace
    is_dense : bool
        Whether its activations are never zero (`has_no_zeros`).
    is_model : bool
        Whether a model runs, which has columns as well.

    Raises
    ------
    UsageError
        If a system is of another unit, leaves out what does not fire where everything does, or has a rule that its
        other knobs do not go with.
    """
    for name, knobs in chosen.items():
        if knobs.unit != trace.unit and not is_model:
            raise UsageError(
                f"--system {name}", found=f"a trace of {trace.unit}s", expected=f"one of {knobs.unit}s, or a model",
                remedy="name the model with --text, or leave the system out",
            )  # fmt: skip
        if is_dense and knobs.unit == NEURON and knobs.uses == "exact":
            # Rules are served with a cache for each block.
            remedy = f"write {name},uses=top-k=20%, or leave the system out" if knobs.pool == NO else (
                "leave the system out"
            )  # fmt: skip
            raise UsageError(
                f"--system {name}", found="activations that are never zero", expected="neurons that do not fire, which "
                "it leaves in flash", remedy=remedy,
            )  # fmt: skip
        _check_rule(name, knobs)


def _check_rule(name: str, knobs: Knobs) -> None:
    """Refuse a rule that drops something beside knobs that no rule is served with."""
    beside = [
        f"{knob}={value}"
        for knob, value, without in (
            ("plan", knobs.plan, NO), ("pool", knobs.pool, NO), ("gate_first", knobs.gate_first, NO),
            ("bundle_form", knobs.bundle_form, WHOLE),
        )
        if value != without
    ]  # fmt: skip
    if beside and not knobs.is_lossless:
        raise UsageError(
            f"--system {name}", found=f"the rule {knobs.uses} beside {beside[0]}", expected="bundles that are read "
            "whole, and a cache for each block: rules are served so", remedy="leave the rule out, or write it for a "
            f"system without {beside[0]}, such as llm-in-a-flash,uses={knobs.uses.replace(',', ';')}",
        )  # fmt: skip


def has_no_zeros(trace: ActivationTrace) -> bool:
    """Tell whether a trace of neurons has next to no zeros, by some of its rows; columns are chosen, not zero."""
    if trace.unit == COLUMN:
        return True
    n_active = n_seen = 0
    for block in trace.blocks.values():
        rows = np.asarray(block.active[:_SAMPLED_ROWS])
        n_active += int(np.unpackbits(rows).sum())
        n_seen += rows.shape[0] * block.n_neurons
    return n_active >= DENSE_SHARE * n_seen
