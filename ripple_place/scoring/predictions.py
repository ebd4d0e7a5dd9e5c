"""Where the predictions of a simulation come from, and how often they are right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.blocks import COLUMN
from ripple_place.checkpoint.names import PREDICTORS_FILE
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.errors import CheckpointError, UsageError
from ripple_place.graph.profile import read_predictor
from ripple_place.placement import read_placement
from ripple_place.predict.files import read_predictors
from ripple_place.predict.params import PREDICTED
from ripple_place.scoring.layouts import existing_profile
from ripple_place.select.registry import parse_rule
from ripple_place.select.selected_block import WorthCount
from ripple_place.select.sight import Predictions
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.arrays import Int32Array
    from ripple_place.predict.predictor import ModelPredictor
    from ripple_place.scoring.params import SimulateParams
    from ripple_place.trace.activation_trace import ActivationTrace

_CHUNK_ROWS = 1024
_N_SET = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)
"""Set bits of each byte."""


@dataclass(frozen=True)
class PredictedActivity:
    """That what is served was predicted.

    Attributes
    ----------
    recall : float or None
        That predictions were set to; None where the trace does not say.
    predictor_bytes : int or None
        DRAM that the predictors of the simulated blocks take; None where a trace has what they said.
    """

    recall: float | None
    predictor_bytes: int | None = None

    @property
    def sentences(self) -> str:
        """What is served, and what is held in DRAM for it."""
        at_recall = "" if self.recall is None else f", at a recall of {self.recall:g}"
        if self.predictor_bytes is None:
            return f"What is read is what predictors said when the trace was recorded{at_recall}."
        return (
            f"What is read is chosen by what predictors say{at_recall}. They take {format_bytes(self.predictor_bytes)} "
            "of DRAM beside that for neurons."
        )


def activity_to_json(predicted: PredictedActivity | None) -> dict[str, Any]:
    """Return the keys of ``simulate --json`` that say whether what is served was predicted."""
    if predicted is None:
        return {"activity": "true", "recall": None, "predictor_bytes": None}
    return {"activity": PREDICTED, "recall": predicted.recall, "predictor_bytes": predicted.predictor_bytes}


def find_predictions(params: SimulateParams, layouts: Sequence[str]) -> Predictions | None:
    """Read the predictors by which rules choose inside a model; None if they see what fires.

    Those of the profile, else those of the first layout that is an output with predictors.

    Raises
    ------
    UsageError
        If there are none, no thresholds were set for the recall, or the rules look at more than the predictors say.
    TraceFormatError, CheckpointError, PlacementError, OSError
        If a file is malformed or cannot be read.
    """
    if params.activity != PREDICTED or params.capture is None:
        return None
    refuse_columns(params.capture.unit)
    predictor = None if params.profile is None else read_predictor(existing_profile(params.profile))
    outputs = [path for path in map(Path, layouts) if (path / PREDICTORS_FILE).is_file()]
    if predictor is None and outputs:
        predictor = predictor_of_output(outputs[0])
    if predictor is None:
        raise UsageError(
            "--activity predicted", found="no predictors", expected="those of --profile, or of an output among the "
            "layouts", remedy="fit them with `ripple-place profile MODEL --text FILE --predictor RANK`, and name that "
            "profile",
        )  # fmt: skip
    predictions = Predictions.at(predictor, params.recall)
    predictions.check(parse_rule(text) for text in params.select)
    return predictions


def predictor_of_output(output: Path) -> ModelPredictor:
    """Read the predictors of an output of `reorder`, for neurons in the order of its source.

    Raises
    ------
    CheckpointError
        If a file is malformed, or predictors and manifest do not fit each other.
    PlacementError, OSError
        As `read_manifest`.
    """
    predictor = read_predictors(output / PREDICTORS_FILE, CheckpointError)
    manifest = read_manifest(output)
    placement = read_placement(manifest.placement_path)
    slot_of: dict[str, Int32Array] = {}
    for name, block in predictor.blocks.items():
        entry = manifest.blocks.get(name)
        if entry is None or entry.n_neurons != block.n_neurons:
            raise CheckpointError(
                f"{output / PREDICTORS_FILE}: {name}", found=f"a predictor of {block.n_neurons} neurons",
                expected="no such block" if entry is None else f"{entry.n_neurons}, as in the manifest",
                remedy="run `ripple-place reorder` again",
            )  # fmt: skip
        is_placed = entry.placed
        slot_of[name] = placement.blocks[name].slot_of if is_placed else np.arange(block.n_neurons, dtype=np.int32)
    # Slot s of the output has neuron order[s]; taking slot_of[neuron] undoes that.
    return predictor.in_orders(slot_of)


def refuse_columns(unit: str) -> None:
    """Raise unless blocks are of neurons: of columns no predictor is needed."""
    if unit == COLUMN:
        raise UsageError(
            "--activity predicted", found="blocks of columns, whose magnitudes a reader knows",
            expected="neurons, of which a predictor tells", remedy="leave --activity predicted out",
        )  # fmt: skip


def count_predictions(trace: ActivationTrace) -> WorthCount:
    """Return how many neurons fired, were predicted, and fired without being predicted, in a trace with predictions."""
    total = WorthCount()
    for block in trace.blocks.values():
        assert block.predicted is not None
        for first in range(0, block.n_rows, _CHUNK_ROWS):
            rows = slice(first, first + _CHUNK_ROWS)
            active, predicted = np.asarray(block.active[rows]), np.asarray(block.predicted[rows])
            n_active, n_dropped, n_chosen = (
                int(_N_SET[bits].sum()) for bits in (active, active & ~predicted, predicted)
            )
            total += WorthCount(n_active=n_active, n_dropped=n_dropped, n_chosen=n_chosen)
    return total
