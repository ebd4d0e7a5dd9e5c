"""Predictors of tiny models: what enters FFNs is recorded row by row, and fits what comes out of them."""

import json

import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner

from ripple_place.capture import model as models
from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.run import run_capture
from ripple_place.cli.main import cli
from ripple_place.errors import UsageError
from ripple_place.graph.profile import read_predictor, read_profile
from ripple_place.predict import training
from ripple_place.predict.params import PredictorParams
from ripple_place.tracking import no_track
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from tests.torch.capture_models import CAUSAL, ENCODER_DECODER, load, write_model, write_text

WINDOWS = WindowParams(max_tokens=132, segment_length=44, sequence_length=16)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Qwen2's own tokenizer class knows no words; the blocks are small."""
    monkeypatch.setattr(models, "read_tokenizer", transformers.PreTrainedTokenizerFast.from_pretrained)
    monkeypatch.setattr(training, "N_STEPS", 100)
    monkeypatch.setattr(training, "BATCH_ROWS", 32)


def written(tmp_path, family):
    """Write a tiny model and a text; return both."""
    config = CAUSAL[family]() if family in CAUSAL else ENCODER_DECODER[family]()
    write_text(tmp_path / "text")
    return write_model(tmp_path / "model", config), tmp_path / "text"


def captured(tmp_path, family, name="rows", **more):
    """Record a tiny model with the inputs of its FFNs."""
    path, text = written(tmp_path, family)
    params = CaptureParams(text, **{"windows": WINDOWS, "predictor": PredictorParams(4), "n_threads": 1, **more})
    return path, run_capture(path, params, tmp_path / name, resume=False, thresholds=None, track=no_track)


def bits(block):
    """Return which neurons fire in each row."""
    return np.unpackbits(np.asarray(block.active), axis=1, bitorder="little", count=block.n_neurons).astype(bool)


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("family", ["opt", "llama", "mixtral", "qwen2-moe"])
def test_inputs_are_those_of_the_rows(family, by_layer, tmp_path):
    """The model's own weights make of each recorded input the bits that were recorded in its row."""
    path, capture = captured(tmp_path, family, layer_by_layer=by_layer)
    model = load(path)
    assert capture.observed.blocks.keys() == capture.inputs.keys()
    n_compared = 0
    for name, x in capture.inputs.items():
        layer, _, rest = name.removeprefix("layers.").partition(".")
        x = torch.from_numpy(np.array(x)).double()
        if family == "opt":
            before = model.model.decoder.layers[int(layer)].fc1(x)
        elif rest.startswith("experts"):
            experts, expert = model.model.layers[int(layer)].mlp.experts, int(rest.rpartition(".")[2])
            before = torch.nn.functional.linear(x, experts.gate_up_proj[expert])[:, : experts.down_proj.shape[2]]
        elif rest == "shared_expert":
            before = model.model.layers[int(layer)].mlp.shared_expert.gate_proj(x)
        else:
            before = model.model.layers[int(layer)].mlp.gate_proj(x)
        is_sure = before.abs().detach().numpy() > 1e-4
        np.testing.assert_array_equal(
            (before > 0).detach().numpy()[is_sure], bits(capture.observed.blocks[name])[is_sure]
        )
        n_compared += is_sure.sum()
    assert n_compared > 1000
    # Outputs were not asked for, and nothing of them is left in the trace.
    assert all(block.magnitudes is None for block in capture.trace.blocks.values())


def test_encoders_and_decoders_have_inputs_of_their_own(tmp_path):
    """Every block of T5 is recorded, with the tokens that reach it."""
    _, capture = captured(tmp_path, "t5")
    assert set(capture.inputs) == set(capture.trace.blocks)


def profiled(path, text, out, **more):
    """Profile a tiny model."""
    params = CaptureParams(text, **{"windows": WINDOWS, "n_threads": 1, **more})
    return profile(path, out, ProfileParams(verdict=None, capture=params))


def test_a_profile_has_predictors(tmp_path):
    """Fitted on one text, kept in the file, and judged on another; whole or layer by layer they are the same."""
    path, text = written(tmp_path, "opt")
    fits = {"predictor": PredictorParams(32), "magnitudes": False}
    report = profiled(path, text, tmp_path / "a.profile", **fits)
    profiled(path, text, tmp_path / "b.profile", layer_by_layer=True, **fits)
    assert (tmp_path / "a.profile").read_bytes() == (tmp_path / "b.profile").read_bytes()
    found = read_predictor(tmp_path / "a.profile")
    assert list(found.blocks) == ["layers.0", "layers.1", "layers.2"]
    assert found.note.n_tokens == 132
    assert read_profile(tmp_path / "a.profile").predictor.note == found.note
    assert report.prediction.sets_thresholds
    assert all(point.cost is not None for point in report.prediction.overall.curve)
    # Fewer steps than it takes, but far better than chance: a third of the neurons fires.
    assert report.prediction.overall.at_thresholds[0].count.precision > 0.6

    other = tmp_path / "other"
    write_text(other, seed=5)
    judged = profiled(path, other, tmp_path / "c.profile", predictor_from=tmp_path / "a.profile").prediction
    assert not judged.sets_thresholds
    assert judged.n_rows == 132
    assert judged.overall.at_thresholds[2].count.recall > 0.9
    assert read_predictor(tmp_path / "c.profile") is None


def test_what_misses_cost_is_known_with_importance(tmp_path):
    """In nats a token, and more at a lower recall."""
    path, text = written(tmp_path, "llama")
    report = profiled(path, text, tmp_path / "p", predictor=PredictorParams(8, "magnitude"), importance=True)
    missed = [point.count.missed_nats for point in report.prediction.overall.at_thresholds]
    assert missed[0] > missed[1] > 0
    assert read_profile(tmp_path / "p").trace.blocks["layers.0"].magnitudes is None
    predictor = read_predictor(tmp_path / "p")
    assert all(block.scale is not None for block in predictor.blocks.values())
    # Importance of that profile weighs what is missed on another text.
    judged = profiled(path, text, tmp_path / "q", predictor_from=tmp_path / "p")
    assert judged.prediction.overall.at_thresholds[0].count.missed_nats > 0


def test_what_is_predicted_can_be_recorded(tmp_path):
    """The bits that the predictor of the profile gives of the recorded inputs; counts made on them are of them."""
    path, text = written(tmp_path, "mixtral")
    report = profiled(path, text, tmp_path / "p", predictor=PredictorParams(8), record_predicted=0.99)
    trace = read_profile(tmp_path / "p").trace
    assert trace.predicted_recall == 0.99
    predicted = trace.as_predicted()
    for name, block in trace.blocks.items():
        hits = bits(block) & bits(predicted.blocks[name])
        assert hits.sum() > 0.9 * bits(block).sum()
    n_predicted = sum(bits(block).sum() for block in predicted.blocks.values())
    assert n_predicted > sum(bits(block).sum() for block in trace.blocks.values())
    assert report.prediction.overall.at_thresholds[1].count.precision < 1
    profile(tmp_path / "p", tmp_path / "q", ProfileParams(verdict=None, activity="predicted"))
    counted = read_profile(tmp_path / "q")
    assert sum(block.frequency.sum() for block in counted.blocks.values()) == n_predicted


def test_predictors_of_another_model_are_refused(tmp_path):
    """Nothing of the capture is left behind."""
    path, text = written(tmp_path, "opt")
    profiled(path, text, tmp_path / "p", predictor=PredictorParams(4))
    other = write_model(tmp_path / "other", CAUSAL["opt"](ffn_dim=64))
    with pytest.raises(UsageError, match="76 neurons"):
        profiled(other, text, tmp_path / "q", predictor_from=tmp_path / "p")


def test_the_command(tmp_path):
    """The report as text, as JSON and on the page."""
    path, text = written(tmp_path, "opt")
    arguments = ["profile", str(path), "--text", str(text), "--max-tokens", "132", "--sequence-length", "16",
                 "--predictor", "8", "--recall", "0.9", "--recall", "0.99", "--threads", "1"]  # fmt: skip
    shown = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "p"), "--html", str(tmp_path / "p.html")])
    assert shown.exit_code == 0, shown.output
    assert "wanted recall" in shown.output
    assert "Thresholds were set on these" in shown.output
    page = (tmp_path / "p.html").read_text()
    assert "Predictors" in page
    assert "Flash time against recall" in page
    answer = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "q"), "--json"])
    document = json.loads(answer.stdout)["predictor"]
    assert document["recalls"] == [0.9, 0.99]
    assert document["blocks"].keys() == {"layers.0", "layers.1", "layers.2"}
    assert document["overall"]["at_thresholds"][1]["recall"] >= 0.99
