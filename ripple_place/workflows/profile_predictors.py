"""Predictors of a model that was just recorded: fitted on its text, or taken from a profile and judged on it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UnsupportedError, UsageError
from ripple_place.graph.profile import read_importance, read_predictor
from ripple_place.ordering.flash_cost import FlashCost
from ripple_place.ordering.original import original_order
from ripple_place.outputs import check_input
from ripple_place.predict.examples import Examples, split_examples
from ripple_place.predict.fit import FittedPredictor, fit_predictor
from ripple_place.predict.predictor import ModelPredictor, PredictorNote
from ripple_place.predict.report import PredictionReport, judge_predictor, predicted_bits
from ripple_place.trace.activation_trace import PREDICTED_RECALL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ripple_place.capture.params import CaptureParams
    from ripple_place.capture.run import Capture
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.predict.report import BlockPrediction
    from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
    from ripple_place.tracking import Track


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predictors, and how good they are.

    Attributes
    ----------
    predictor : ModelPredictor
    report : PredictionReport
    trace : ActivationTrace
        That of the capture; with what is predicted, if that is to be recorded.
    """

    predictor: ModelPredictor
    report: PredictionReport
    trace: ActivationTrace


def predict_capture(
    capture: Capture, params: CaptureParams, given: ModelPredictor | None, costs: Mapping[str, ReadCost], track: Track
) -> Prediction:
    """Fit predictors of a capture, or judge given ones on it.

    Parameters
    ----------
    capture : Capture
        Its files must still be there.
    params : CaptureParams
        Ask for predictors.
    given : ModelPredictor or None
        Of `read_given`.
    costs : mapping of str to ReadCost
        What reads cost, by block.
    track : Track
        Receives progress updates.

    Raises
    ------
    UnsupportedError
        If the input of no FFN is known.
    UsageError
        If the given ones are of another model.

    Notes
    -----
    One block after the other; memory for the inputs and bits of one, its two matrices three times, and one product of
    inputs and neurons.
    """
    observed = capture.observed
    assert observed is not None
    if not capture.inputs:
        raise UnsupportedError(
            "--predictor", found="FFNs whose input is read by unknown modules", expected="a family that says which",
            remedy="describe the model in a family file (--family), or leave --predictor and --predictor-from out",
        )  # fmt: skip
    if given is not None:
        assert params.predictor_from is not None
        _check_fits(given, params.predictor_from, capture)
    wanted = params.predictor if given is None else given.note
    assert wanted is not None
    measured = capture.importance
    if measured is None and params.predictor_from is not None:
        measured = read_importance(params.predictor_from)
    importance = {} if measured is None else measured.values
    found: dict[str, FittedPredictor] = {}
    judged: dict[str, BlockPrediction] = {}
    n_judged, is_held_out = 0, True
    names = [name for name in capture.inputs if given is None or name in given.blocks]
    for name in track(names, "fitting predictors" if given is None else "judging predictors"):
        block = observed.blocks[name]
        if given is None:
            found[name], rows = _fitted(capture, name, params)
            is_held_out &= len(rows) < block.n_rows
        else:
            found[name] = FittedPredictor(given.blocks[name], given.note.methods[name])
            rows = Examples(capture.inputs[name], block, np.arange(block.n_rows))
        n_judged = max(n_judged, len(rows))
        judged[name] = judge_predictor(
            found[name], wanted.recalls, rows, block.n_rows / observed.n_tokens, importance=importance.get(name),
            cost_of=_cost_of(costs[name]),
        )  # fmt: skip
    is_fitted = given is None
    if given is None:
        methods = {name: one.method for name, one in found.items()}
        note = PredictorNote(wanted.predicts, wanted.recalls, observed.n_tokens, methods)
        given = ModelPredictor({name: one.predictor for name, one in found.items()}, note)
    unpredicted = tuple(name for name in observed.blocks if name not in found)
    unit = costs[names[0]].unit
    trace = _with_predictions(capture, given, params)
    report = PredictionReport(given.note, n_judged, judged, unit, unpredicted, is_fitted, is_held_out)
    return Prediction(given, report, trace)


def _with_predictions(capture: Capture, predictor: ModelPredictor, params: CaptureParams) -> ActivationTrace:
    """Return the trace of a capture with what is predicted of its rows, if that is to be recorded."""
    if params.record_predicted is None:
        return capture.trace
    place = predictor.note.place_of(params.record_predicted)
    blocks = dict(capture.trace.blocks)
    for name, block_predictor in predictor.blocks.items():
        rows = Examples(capture.inputs[name], blocks[name], np.arange(blocks[name].n_rows))
        (bits,) = predicted_bits(block_predictor, rows, block_predictor.threshold[place : place + 1])
        blocks[name] = replace(blocks[name], predicted=bits)
    metadata = {**capture.trace.metadata, PREDICTED_RECALL: f"{params.record_predicted:g}"}
    return replace(capture.trace, blocks=blocks, metadata=metadata)


def _fitted(capture: Capture, name: str, params: CaptureParams) -> tuple[FittedPredictor, Examples]:
    """Return the predictor of a block, and the rows that it was not fitted on."""
    observed = capture.observed
    assert observed is not None
    assert params.predictor is not None
    rows, held_out = split_examples(
        capture.inputs[name], observed.blocks[name], observed.segment_starts, observed.n_tokens
    )
    n_threads = params.n_threads or os.cpu_count() or 1
    return fit_predictor(rows, held_out, params.predictor, seed=params.seed, n_threads=n_threads), held_out


def read_given(params: CaptureParams) -> ModelPredictor | None:
    """Return the predictors of the profile that is named; None if none is.

    Raises
    ------
    UsageError
        If it has none, or no thresholds for the recall that is to be recorded.
    TraceFormatError, OSError
        If it cannot be read.
    """
    path = params.predictor_from
    if path is None:
        return None
    check_input(path, "a profile", "correct the path")
    given = read_predictor(path)
    if given is None:
        raise UsageError(
            f"--predictor-from {path}", found="no predictors", expected="a profile that has some",
            remedy="fit them with `ripple-place profile --predictor RANK`",
        )  # fmt: skip
    if params.record_predicted is not None:
        given.note.place_of(params.record_predicted)
    return given


def _check_fits(given: ModelPredictor, path: Path, capture: Capture) -> None:
    """Raise unless predictors are of the model that was recorded."""
    assert capture.observed is not None
    for name, predictor in given.blocks.items():
        block, x = capture.observed.blocks.get(name), capture.inputs.get(name)
        shape = None if block is None or x is None else (x.shape[1], block.n_neurons)
        if shape != (predictor.n_inputs, predictor.n_neurons):
            raise UsageError(
                f"--predictor-from {path}: {name}",
                found=f"a predictor of {predictor.n_neurons} neurons from {predictor.n_inputs} inputs",
                expected="no such block" if shape is None else f"{shape[1]} from {shape[0]}, as the model has",
                remedy="name a profile of this model",
            )  # fmt: skip


def _cost_of(cost: ReadCost) -> Callable[[BlockTrace], float]:
    """Return what gives the cost of a row whose active neurons lie in original order."""

    def cost_of(block: BlockTrace) -> float:
        return FlashCost(block, cost)(original_order(block.n_neurons))

    return cost_of
