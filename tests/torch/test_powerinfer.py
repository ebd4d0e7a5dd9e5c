"""PowerInfer's files as torch reads them, from a profile to a reordered model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.powerinfer_files import check_powerinfer_directory, write_powerinfer
from ripple_place.capture.run import run_capture
from ripple_place.checkpoint.names import PREDICTORS_FILE
from ripple_place.checkpoint.writing import WritingParams
from ripple_place.errors import CheckpointError, UnsupportedError
from ripple_place.graph.profile import read_predictor
from ripple_place.placing.params import PlacingParams
from ripple_place.predict import training
from ripple_place.predict.examples import split_examples
from ripple_place.predict.files import read_predictors
from ripple_place.predict.fit import fit_predictor
from ripple_place.predict.params import PredictorParams
from ripple_place.predict.predictor import ModelPredictor, PredictorNote
from ripple_place.tracking import no_track
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder
from ripple_place.workflows.verify import verify
from tests.builders import contents
from tests.predict.builders import add_predictor, firing_on, layer_norm_inputs, predictor_of
from tests.torch.capture_models import CAUSAL, load, write_model, write_text


def decisions(path, x):
    """Return what PowerInfer predicts by a file."""
    tensors = torch.load(path, weights_only=True)
    assert {name: tensor.dtype for name, tensor in tensors.items()} == dict.fromkeys(
        ("fc1.weight", "fc2.weight"), torch.float16
    )
    fc1, fc2 = tensors["fc1.weight"].float(), tensors["fc2.weight"].float()
    return (torch.relu(torch.from_numpy(x) @ fc1.T) @ fc2.T >= 0).numpy()


def test_they_decide_alike(tmp_path):
    """On held-out rows of inputs that a LayerNorm put out, with the threshold of recall 0.99."""
    rng = np.random.default_rng(0)
    x = layer_norm_inputs(rng, 1200, 32)
    fitted, held_out = split_examples(x, firing_on(rng, x, 96), np.array([0, 600]), 1200)
    found = fit_predictor(fitted, held_out, PredictorParams(12))
    note = PredictorNote("activity", (0.95, 0.99, 0.999), 1200, {"layers.3": found.method})
    names = write_powerinfer(tmp_path / "p", ModelPredictor({"layers.3": found.predictor}, note))
    assert names == ["config.json", "model_3.pt"] == sorted(path.name for path in (tmp_path / "p").iterdir())
    assert json.loads((tmp_path / "p" / "config.json").read_text()) == {"sparse_threshold": 0.0}
    some = held_out.inputs(np.arange(len(held_out)))
    native = found.predictor.fires(found.predictor.scores(some), 1)
    assert (decisions(tmp_path / "p" / "model_3.pt", some) == native).mean() > 0.995


def test_from_a_profile_to_a_reordered_model(tmp_path, pico_opt, profile_path):
    """The files go along as carriers: both forms of the predictors then say the same in the new order."""
    add_predictor(profile_path)
    profile(profile_path, tmp_path / "again", ProfileParams(powerinfer=tmp_path / "predictors", verdict=None))
    writing = WritingParams(carriers=[tmp_path / "predictors"])
    report = reorder(pico_opt, profile_path, tmp_path / "out", PlacingParams(ordering="frequency"), writing)
    verify(pico_opt, tmp_path / "out", carriers=[tmp_path / "predictors"], profile=profile_path)
    carried = tmp_path / "out" / "ripple_place" / "carriers" / "predictors"
    assert (carried / "config.json").read_bytes() == (tmp_path / "predictors" / "config.json").read_bytes()
    native = read_predictors(tmp_path / "out" / PREDICTORS_FILE, CheckpointError).blocks
    x = np.random.default_rng(1).standard_normal((50, 8)).astype(np.float32)
    for layer in range(2):
        order = report.plan.orders[f"layers.{layer}"]
        before = decisions(tmp_path / "predictors" / f"model_{layer}.pt", x)
        assert (decisions(carried / f"model_{layer}.pt", x) == before[:, order]).all()
        fc2 = torch.load(carried / f"model_{layer}.pt", weights_only=True)["fc2.weight"].numpy()
        np.testing.assert_array_equal(fc2[:, :3], native[f"layers.{layer}"].up)


def test_the_same_predictors_give_the_same_bytes(tmp_path):
    """Wherever they are written."""
    for name in ("a", "b"):
        write_powerinfer(tmp_path / name, predictor_of())
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_an_earlier_export_is_replaced(tmp_path):
    """With force alone, and without leaving files of layers that there are no more."""
    write_powerinfer(tmp_path / "p", predictor_of())
    check_powerinfer_directory(tmp_path / "p", force=True)
    write_powerinfer(tmp_path / "p", predictor_of({"layers.1": 24}, seed=1))
    write_powerinfer(tmp_path / "new", predictor_of({"layers.1": 24}, seed=1))
    assert contents(tmp_path / "p") == contents(tmp_path / "new")


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    """The directory appears whole or not at all."""

    def fail(*_):
        raise RuntimeError("no space")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="no space"):
        write_powerinfer(tmp_path / "p", predictor_of())
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", [".", "p"])
def test_here(tmp_path, monkeypatch, name):
    """A relative path, and the working directory itself while it is empty."""
    monkeypatch.chdir(tmp_path)
    check_powerinfer_directory(Path(name), force=False)
    write_powerinfer(Path(name), predictor_of())
    assert len([*(tmp_path / name).iterdir()]) == 3


def test_to_an_empty_directory(tmp_path, profile_path):
    """Which a container's volume is, for one."""
    (tmp_path / "predictors").mkdir()
    add_predictor(profile_path)
    profile(profile_path, tmp_path / "again", ProfileParams(powerinfer=tmp_path / "predictors", verdict=None))
    assert len([*(tmp_path / "predictors").iterdir()]) == 3


def test_of_a_model_in_one_run(tmp_path, monkeypatch):
    """Fitted and exported at once; the file predicts what the profile's predictors predict of recorded inputs."""
    monkeypatch.setattr(training, "N_STEPS", 50)
    write_text(tmp_path / "text")
    model = write_model(tmp_path / "model", CAUSAL["opt"]())
    # As trained models have it: without biases to speak of, a norm puts out next to nothing that is constant.
    biased = load(model, torch.float32)
    with torch.no_grad():
        for name, parameter in biased.named_parameters():
            if name.endswith("layer_norm.bias"):
                parameter.add_(0.5)
    biased.save_pretrained(model)
    windows = WindowParams(max_tokens=132, segment_length=44, sequence_length=16)
    capture = CaptureParams(tmp_path / "text", windows, predictor=PredictorParams(4), n_threads=1)
    profile(model, tmp_path / "p", ProfileParams(capture=capture, powerinfer=tmp_path / "exported", verdict=None))
    learned = read_predictor(tmp_path / "p")
    rows = run_capture(model, capture, tmp_path / "rows", resume=False, thresholds=None, track=no_track)
    for name, block in learned.blocks.items():
        x = np.array(rows.inputs[name])
        fires = decisions(tmp_path / "exported" / f"model_{name.removeprefix('layers.')}.pt", x)
        assert (fires == block.fires(block.scores(x), 1)).mean() > 0.98


def test_a_model_with_experts(tmp_path, monkeypatch):
    """That its layers have no such file is said once the profile is written."""
    monkeypatch.setattr(training, "N_STEPS", 5)
    write_text(tmp_path / "text")
    model = write_model(tmp_path / "model", CAUSAL["mixtral"]())
    windows = WindowParams(max_tokens=132, segment_length=44, sequence_length=16)
    capture = CaptureParams(tmp_path / "text", windows, predictor=PredictorParams(2), n_threads=1)
    with pytest.raises(UnsupportedError, match=r"experts.*found a block that is not the only FFN"):
        profile(model, tmp_path / "p", ProfileParams(capture=capture, powerinfer=tmp_path / "exported", verdict=None))
    assert read_predictor(tmp_path / "p") is not None
    assert not (tmp_path / "exported").exists()
