"""What predictors say: in traces, for rules, and of outputs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.capture.params import CaptureParams
from ripple_place.checkpoint.names import PREDICTORS_FILE
from ripple_place.graph.profile import read_profile, write_profile
from ripple_place.predict.files import predictors_content
from ripple_place.predict.predictor import BlockPredictor, ModelPredictor, PredictorNote
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.predictions import find_predictions, predictor_of_output, refuse_columns
from ripple_place.select.active_rows import ActiveRows
from ripple_place.select.registry import parse_rule
from ripple_place.select.sight import Ffn, Predictions
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
from ripple_place.trace.files import write_trace
from ripple_place.workflows.profile_params import ProfileParams
from tests.remedies.bench import output_at, profile_at
from tests.remedies.cases import case, instead, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remedies.cases import Attempts

TWO_ROWS = np.array([[3], [1]], np.uint8)
TEXT = CaptureParams("text")


# In traces.


def trace(predicted: np.ndarray | None = TWO_ROWS, n_neurons: int = 8, **metadata: str) -> ActivationTrace:
    """Return a trace of two tokens and one block."""
    return ActivationTrace(
        {"layers.0": BlockTrace(n_neurons, TWO_ROWS, predicted=predicted)}, 2, np.array([0]), None, metadata
    )


instead(
    "trace/activation_trace.py:BlockTrace.__post_init__", "that of the bits that fire", "predictions of one token of "
    "two: of both",
    lambda: trace(TWO_ROWS[:1]), trace,
)  # fmt: skip
instead(
    "trace/activation_trace.py:ActivationTrace.__post_init__", "a share above 0", "a recall in percent: as a share",
    lambda: trace(predicted_recall="99%"), lambda: trace(predicted_recall="0.99"),
)  # fmt: skip
instead(
    "trace/activation_trace.py:ActivationTrace.as_predicted", "", "a trace without predictions, served as predicted: "
    "with them",
    lambda: trace(None).as_predicted(), lambda: trace().as_predicted(),
)  # fmt: skip


@case("workflows/profile_sources.py:_check_activity")
def counts_of_two_kinds(folder: Path) -> Attempts:
    """What was predicted, added to a profile of what fired: what fired is added, or a profile of its own is made."""
    for name, bits in (("one", TWO_ROWS), ("other", TWO_ROWS[::-1].copy())):
        block = BlockTrace(8, bits, predicted=bits)
        write_trace(folder / name, ActivationTrace({"layers.0": block}, 2, np.array([0])))
    options = ("--no-verdict", "--out")
    run("profile", folder / "one", *options, folder / "profile")
    predicted = ("profile", folder / "other", "--activity", "predicted", *options)
    yield partial(run, *predicted, folder / "profile", "--append")
    yield partial(run, "profile", folder / "other", *options, folder / "profile", "--append")
    yield partial(run, *predicted, folder / "apart")


_PROFILE = "workflows/profile_params.py:ProfileParams.__post_init__"
instead(
    "predict/params.py:check_activity", "name one of these", "activity that is neither true nor predicted: one of them",
    lambda: ProfileParams(activity="guessed"), lambda: ProfileParams(activity="predicted"),
)  # fmt: skip
instead(
    _PROFILE, "--record-predicted", "predicted activity of a model: of the profile that recorded it",
    lambda: ProfileParams(activity="predicted", capture=TEXT), lambda: ProfileParams(activity="predicted"),
)  # fmt: skip


# Options of simulations.


def asked(words: str, story: str, bad: dict[str, Any], *good: dict[str, Any]) -> None:
    """List a case of parameters; activity is predicted unless they say otherwise."""
    attempts = [partial(SimulateParams, **{"activity": "predicted", **options}) for options in (bad, *good)]
    instead("scoring/params.py:SimulateParams._check_activity", words, story, *attempts)


EXACT: dict[str, Any] = {"select": ("exact",)}
instead(
    "predict/params.py:check_activity", "add that, or leave --recall out",
    "a recall of what fires: of predictions, or none",
    lambda: SimulateParams(recall=0.99, capture=TEXT, **EXACT),
    lambda: SimulateParams(activity="predicted", recall=0.99, capture=TEXT, **EXACT),
    lambda: SimulateParams(capture=TEXT, **EXACT),
)  # fmt: skip
asked(
    "leave one out", "noise beside predictors: either",
    {"magnitude_noise": 0.5, **EXACT}, {"activity": "true", "magnitude_noise": 0.5, **EXACT}, EXACT,
)  # fmt: skip
asked(
    "add --select exact", "a model without a rule to tell: with one", {"capture": TEXT}, {"capture": TEXT, **EXACT}
)  # fmt: skip
asked(
    "leave --recall out, or name the model", "a recall for a trace: for a model, or none",
    {"recall": 0.99}, {}, {"recall": 0.99, "capture": TEXT, **EXACT},
)  # fmt: skip
asked(
    "not how much of each", "magnitudes predicted by a trace: by a model",
    {"select": ("top-k=5",)}, {"select": ("top-k=5",), "capture": TEXT},
)  # fmt: skip
instead(
    "scoring/predictions.py:refuse_columns", "", "predictions of columns, which need none: of neurons",
    lambda: refuse_columns("column"), lambda: refuse_columns("neuron"),
)  # fmt: skip


# Predictors.


def predictor(predicts: str = "activity", n_neurons: int = 8, names: tuple[str, ...] = ("layers.0",)) -> ModelPredictor:
    """Return predictors that know nothing."""
    scale = np.ones(n_neurons, np.float32) if predicts == "magnitude" else None
    up, bias = np.ones((n_neurons, 1), np.float16), np.zeros(n_neurons, np.float32)
    block = BlockPredictor(np.ones((1, 4), np.float16), up, bias, np.zeros(1, np.float32), scale)
    note = PredictorNote(predicts, (0.99,), 10, dict.fromkeys(names, "logistic"))
    return ModelPredictor(dict.fromkeys(names, block), note)


def shown(
    rule: str = "exact", *, predicts: str = "magnitude", n_neurons: int = 8, n_inputs: int = 4, block: str = "layers.0",
    is_gated: bool = True,
) -> None:  # fmt: skip
    """Show a rule one row of a block."""
    predictions = Predictions(predictor(predicts), 0.99)
    sight = predictions.of_block(block, parse_rule(rule), n_neurons, Ffn(is_gated=is_gated))
    sight.see(ActiveRows.from_outputs(np.zeros((1, n_neurons), np.float32)), np.zeros((1, n_inputs), np.float32))


def shown_otherwise(where: str, words: str, story: str, bad: dict[str, Any], *good: dict[str, Any]) -> None:
    """List a case of what a rule is shown."""
    instead(f"select/sight.py:{where}", words, story, *(partial(shown, **options) for options in (bad, *good)))


shown_otherwise(
    "Predictions.check", "", "magnitudes that are not predicted: predictors that tell them, or a rule without",
    {"rule": "top-k=5", "predicts": "activity"}, {"rule": "top-k=5"}, {"predicts": "activity"},
)  # fmt: skip
shown_otherwise(
    "Predictions.of_block", "--layers", "a block without a predictor: one with it", {"block": "layers.1"}, {}
)
shown_otherwise(
    "Predictions.of_block", "take top-k", "a gate that is not predicted: a rule that looks at what neurons put out",
    {"rule": "cats=50%,sees=predictor"}, {"rule": "top-k=5"},
)  # fmt: skip
shown_otherwise("_of_another_model", "", "a predictor of 8 neurons for 7: for 8", {"n_neurons": 7}, {})
shown_otherwise("_of_another_model", "", "a predictor from 4 inputs for 5: for 4", {"n_inputs": 5}, {})
instead(
    "select/sight.py:check_told", "", "a rule that reads gates, told what fires: told by the predictor, or reading",
    partial(shown, "exact,sees=gate"), partial(shown, "exact,sees=predictor"),
    partial(SimulateParams, select=("exact,sees=gate",)),
)  # fmt: skip


@case("scoring/predictions.py:find_predictions")
def nobody_predicts(folder: Path) -> Attempts:
    """A profile without predictors: they are fitted."""
    learned = profile_at(folder / "profile")
    params = SimulateParams(activity="predicted", capture=TEXT, profile=learned, select=("exact",))
    yield lambda: find_predictions(params, ["original"])
    write_profile(learned, replace(read_profile(learned), predictor=predictor(n_neurons=24)))


@case("scoring/predictions.py:predictor_of_output")
def predictors_of_another_output(folder: Path) -> Attempts:
    """Predictors of fewer neurons than an output has: those that belong to it are written again."""
    output = output_at(folder / "out")
    (output / PREDICTORS_FILE).write_bytes(predictors_content(predictor(n_neurons=5)))
    yield lambda: predictor_of_output(output)
    (output / PREDICTORS_FILE).write_bytes(predictors_content(predictor(n_neurons=24)))
