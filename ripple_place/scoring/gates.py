"""Gates first in a simulation: which neurons are candidates, and what the gates leave of the DRAM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import NEURON
from ripple_place.errors import UsageError
from ripple_place.flash.candidates import draw_candidates
from ripple_place.flash.gate_first import FULL_GATE, OVER_PREDICT, PREDICTED, RESIDENT, GateFirst

if TYPE_CHECKING:
    from ripple_place.flash.layout import BlockLayout, Layout
    from ripple_place.scoring.dram import SimulatedDram
    from ripple_place.trace.activation_trace import ActivationTrace


@dataclass(frozen=True)
class GateReading:
    """That gates are read first, and where candidates come from.

    Attributes
    ----------
    gate_first : GateFirst
        Its `over_predict` is None where the trace says what was predicted, or everything is known.
    recall : float or None
        That the trace's predictions were set to; None where it has none, or does not say.
    """

    gate_first: GateFirst
    recall: float | None = None

    @property
    def sentence(self) -> str:
        """How the reader finds out what fires."""
        mode, number = self.gate_first.mode, self.gate_first.over_predict
        if mode == FULL_GATE:
            return "All gates of a block are read for every token, in one read; up and down rows of what fires follow."
        if mode == RESIDENT:
            return "All gates are held in DRAM, out of its budget; up and down rows of what fires are read."
        if number == 1:
            return "Gates are read first, of what fires."
        if number is not None:
            return f"Gates are read first, of {number:g} neurons for each one that fires; the others were drawn."
        at_recall = "" if self.recall is None else f", at a recall of {self.recall:g}"
        return f"Gates are read first, of what predictors said when the trace was recorded{at_recall}."


def gates_to_json(gates: GateReading | None, bundle_form: str | None) -> dict[str, Any]:
    """Return the keys of ``simulate --json`` that say whether gates are read first."""
    return {
        "gate_first": None if gates is None else str(gates.gate_first),
        "over_predict": None if gates is None else gates.gate_first.over_predict,
        "bundle_form": bundle_form,
    }


def read_gates(
    trace: ActivationTrace, gate_first: str | None, bundle_form: str | None, seed: int
) -> tuple[ActivationTrace, GateReading | None]:
    """Return the trace with the candidates that it is to be served by, and how gates are read.

    Parameters
    ----------
    trace : ActivationTrace
    gate_first, bundle_form : str or None
        As in `ripple_place.scoring.params.SimulateParams`.
    seed : int
        Of candidates that are drawn.

    Raises
    ------
    UsageError
        If blocks are of columns.
    TraceFormatError
        If only some blocks say what was predicted.
    """
    if gate_first is None and bundle_form is None:
        return trace, None
    if trace.unit != NEURON:
        raise UsageError(
            "--gate-first and --bundle-form", found=f"blocks of {trace.unit}s", expected="neurons, which have a gate",
            remedy="leave both out",
        )  # fmt: skip
    if gate_first is None:
        return trace, None
    reading = GateFirst.parse(gate_first)
    if reading.mode != PREDICTED:
        return trace, GateReading(reading)
    if reading.over_predict is None and trace.has_predictions:
        trace.as_predicted()  # Raises if a block has none.
        return trace, GateReading(reading, trace.predicted_recall)
    reading = replace(reading, over_predict=OVER_PREDICT if reading.over_predict is None else reading.over_predict)
    assert reading.over_predict is not None
    return draw_candidates(trace, reading.over_predict, seed), GateReading(reading)


def dram_behind_gates(
    dram: SimulatedDram, layout: Layout, gates: GateReading | None, budget: float | int | str | None
) -> SimulatedDram:
    """Return the DRAM with the neurons that it holds where it need not hold their gates.

    With ``full-gate`` and ``resident``, gates come from elsewhere: what is cached of a neuron is its up row and down
    column. With ``resident``, all gates are taken from the budget first.

    Parameters
    ----------
    dram : SimulatedDram
        For whole neurons.
    layout : Layout
        With forms.
    gates : GateReading or None
    budget : float, int, str or None
        As in `ripple_place.scoring.dram.choose_dram`.

    Raises
    ------
    UsageError
        If gates are to be resident and there is no budget, or it is too small for them.
    """
    if gates is None or gates.gate_first.mode == PREDICTED:
        return dram
    if budget is None:
        if gates.gate_first.mode == RESIDENT:
            raise UsageError(
                f"--gate-first {RESIDENT}", found="no DRAM budget", expected="one that holds the gates",
                remedy="add --dram-budget 50%",
            )  # fmt: skip
        return dram
    capacity = dict(dram.capacity_neurons)
    for name, block in layout.blocks.items():
        if block.form is None:
            continue
        room = _room_bytes(dram, name, block, budget, len(layout.blocks))
        if gates.gate_first.mode == RESIDENT:
            gates_bytes = block.n_neurons * block.form.gate_bytes
            if room < gates_bytes:
                raise UsageError(
                    f"--gate-first {RESIDENT}: {name}", found=f"{room} bytes of DRAM",
                    expected=f"at least {gates_bytes}, those of its gates",
                    remedy="raise --dram-budget (a third of the weights is gates), or read them with --gate-first "
                    "predicted",
                )  # fmt: skip
            room -= gates_bytes
        capacity[name] = min(block.n_neurons, room // block.form.rest_bytes)
    return replace(dram, capacity_neurons=capacity)


def _room_bytes(
    dram: SimulatedDram, name: str, block: BlockLayout, budget: float | int | str, n_blocks: int
) -> int:  # fmt: skip
    """Return a block's share of a budget, in bytes."""
    bundle_bytes = block.extent.bundle_bytes
    if dram.split_by is None and isinstance(budget, float):
        # 29 % of 100 neurons is 28.999... in floating point.
        return int(budget * block.n_neurons * bundle_bytes + 1e-6)
    if dram.split_by is None and isinstance(budget, int):
        return budget // n_blocks
    return dram.capacity_neurons.get(name, 0) * bundle_bytes
