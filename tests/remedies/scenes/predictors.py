"""Predictors that are asked for in two ways or of the wrong units, and those of another model."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ripple_place.capture.params import CaptureParams
from ripple_place.graph.counting import count_trace
from ripple_place.graph.profile import write_profile
from ripple_place.predict.params import PredictorParams
from ripple_place.predict.predictor import BlockPredictor, ModelPredictor, PredictorNote
from ripple_place.tracking import no_track
from ripple_place.verdict.judge import VerdictParams
from ripple_place.workflows.profile_predictors import predict_capture, read_given
from tests.remedies.cases import case, instead, run
from tests.remedies.scenes.captures import with_torch
from tests.remedies.scenes.running import model_of
from tests.trace_builders import trace_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remedies.cases import Attempts

_CAPTURE = "capture/params.py:CaptureParams._check_predictors"
_WORK = "workflows/profile_predictors.py"
params = partial(CaptureParams, "wiki.txt")
RANK = PredictorParams(2)

instead(
    _CAPTURE, "leave --unit out", "predictors of columns: of neurons, or none",
    lambda: params(unit="column", predictor=RANK), lambda: params(predictor=RANK), lambda: params(unit="column"),
)  # fmt: skip
instead(
    _CAPTURE, "leave one out", "predictors that are fitted and taken: one of the two",
    lambda: params(predictor=RANK, predictor_from="p"), lambda: params(predictor=RANK),
    lambda: params(predictor_from="p"),
)  # fmt: skip
instead(
    _CAPTURE, "add one of them", "predictions of no predictor: of one that is fitted, or taken",
    lambda: params(record_predicted=0.99), lambda: params(record_predicted=0.99, predictor=RANK),
    lambda: params(record_predicted=0.99, predictor_from="p"),
)  # fmt: skip


def predictor_of(n_neurons: int = 8, n_inputs: int = 3) -> ModelPredictor:
    """Return a predictor of one block."""
    block = BlockPredictor(
        np.ones((2, n_inputs), np.float16), np.ones((n_neurons, 2), np.float16), np.zeros(n_neurons, np.float32),
        np.zeros(1, np.float32),
    )  # fmt: skip
    return ModelPredictor({"layers.0": block}, PredictorNote("activity", (0.9,), 16, {"layers.0": "logistic"}))


def profile_at(path: Path, *, with_predictor: bool = True) -> Path:
    """Write a profile with or without a predictor."""
    from dataclasses import replace

    counted, _ = count_trace(trace_of(np.eye(16, 8)), 4, no_track)
    write_profile(path, replace(counted, predictor=predictor_of() if with_predictor else None))
    return path


@case(f"{_WORK}:read_given", "fit them")
def profile_without_predictors(folder: Path) -> Attempts:
    """A profile without predictors to take them from: one with them."""
    bare = profile_at(folder / "bare", with_predictor=False)
    yield lambda: read_given(params(predictor_from=bare))
    yield lambda: read_given(params(predictor_from=profile_at(folder / "fitted")))


@case(f"{_WORK}:read_given", "correct the path")
def profile_that_is_not_there(folder: Path) -> Attempts:
    """A path with nothing there: the right one."""
    yield lambda: read_given(params(predictor_from=folder / "nothing"))
    yield lambda: read_given(params(predictor_from=profile_at(folder / "fitted")))


def captured(n_inputs: int, *, is_seen: bool = True) -> Any:
    """Return a capture of one block whose FFN reads so many inputs."""
    inputs = {"layers.0": np.ones((16, n_inputs), np.float32)} if is_seen else {}
    trace = trace_of(np.eye(16, 8))
    return cast("Any", SimpleNamespace(observed=trace, trace=trace, inputs=inputs, importance=None))


def judged(capture: Any, folder: Path) -> None:
    """Judge a predictor on a capture."""
    path = profile_at(folder / "profile")
    costs = VerdictParams().read_costs(capture.observed)
    predict_capture(capture, params(predictor_from=path), predictor_of(), costs, no_track)


@case(f"{_WORK}:_check_fits")
def predictors_of_another_model(folder: Path) -> Attempts:
    """Predictors of FFNs with other inputs: a profile of this model."""
    yield lambda: judged(captured(5), folder)
    yield lambda: judged(captured(3), folder)


@case(f"{_WORK}:predict_capture")
def ffns_whose_input_is_not_seen(folder: Path) -> Attempts:
    """FFNs whose input is read by unknown modules: those of a family that says which."""
    yield lambda: judged(captured(3, is_seen=False), folder)
    yield lambda: judged(captured(3), folder)


@with_torch(
    "cli/capture_options.py:CaptureOptions._predictor", "", "what to predict, and no predictor: with one, or not"
)
def predictors_of_no_rank(folder: Path) -> Attempts:
    """What predictors shall tell, without a rank."""
    model = model_of(folder)

    def profiled(name: str, *options: object) -> None:
        text = ("--text", folder / "text", "--max-tokens", 64, "--sequence-length", 16)
        run("profile", model, *text, "--out", folder / name, "--no-verdict", "--quiet", *options)

    yield lambda: profiled("a", "--predict", "magnitude")
    yield lambda: profiled("b", "--predict", "magnitude", "--predictor", 2)
    yield lambda: profiled("c")
