"""Rules inside a model that are told by predictors: a perfect one changes nothing, any other has a price."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ripple_place.checkpoint.names import PREDICTORS_FILE
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.errors import UsageError
from ripple_place.graph.profile import read_profile, write_profile
from ripple_place.placement import read_placement
from ripple_place.predict.files import predictors_content
from ripple_place.predict.predictor import BlockPredictor, ModelPredictor, PredictorNote
from ripple_place.select.tuned import read_tuned
from tests.torch.capture_models import CAUSAL, write_model, write_text
from tests.torch.test_selection import DEVICE, TUNING, WINDOWS, louder, run, simulated

NAMES = ("layers.0", "layers.1")
PREDICTED = ("--activity", "predicted")
EXACT = ("--select", "exact")


def own_predictors(model, *, predicts="activity", threshold=1e-30):
    """Return predictors whose scores are what the model's own activation functions get, at recalls .9 and .99.

    The second has a threshold below which nothing is: everything is predicted. Where magnitudes are, scores are larger
    and scales smaller, so that softplus is hardly more than ReLU.
    """
    factor = np.float32(64 if predicts == "magnitude" else 1)
    weights = load_file(model / "model.safetensors")
    blocks = {}
    for layer, name in enumerate(NAMES):
        stem = next(key for key in weights if key.endswith(f"layers.{layer}.fc1.weight")).removesuffix("weight")
        up, bias = weights[f"{stem}weight"], weights[f"{stem}bias"]
        blocks[name] = BlockPredictor(
            np.eye(up.shape[1], dtype=np.float16), (factor * up).astype(np.float16), factor * bias,
            np.array([threshold, -1e30], np.float32),
            np.full(len(bias), 1 / factor) if predicts == "magnitude" else None,
        )  # fmt: skip
    return ModelPredictor(blocks, PredictorNote(predicts, (0.9, 0.99), 100, dict.fromkeys(NAMES, "logistic")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a directory with a model whose weights float16 holds exactly, texts, profiles and an output."""
    path = tmp_path_factory.mktemp("predicted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        write_text(path / "a.txt", 700)
        write_text(path / "b.txt", 400, seed=1)
        (path / "small.toml").write_text(DEVICE)
        model = write_model(path / "model", CAUSAL["opt"](num_hidden_layers=2))
        louder(model, "fc2")
        weights = load_file(model / "model.safetensors")
        halves = {name: values.astype(np.float16).astype(np.float32) for name, values in weights.items()}
        save_file(halves, model / "model.safetensors", {"format": "pt"})
        run("profile", "model", "--text", "a.txt", *WINDOWS, "--importance", "--no-verdict", "--out", "p")
        learned = read_profile("p")
        for name in ("activity", "magnitude"):
            write_profile(name, replace(learned, predictor=own_predictors(model, predicts=name)))
        run("reorder", "model", "--profile", "p", "--device", "small.toml", "--effort", "0", "--out", "out")
    return path


@pytest.fixture(autouse=True)
def _there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def command(*arguments):
    """Return the arguments of a simulation of the model that prints a document."""
    return ("simulate", "model", "--text", "b.txt", *WINDOWS, "--device", "small.toml", *arguments, "--json")


def flash(layout):
    """Return what a layout by a rule costs, without what is only said of predictions."""
    return {key: value for key, value in layout.items() if key not in ("recall", "precision")}


def test_a_perfect_predictor_changes_nothing():
    """Exact reads what fires and loses nothing, with and without DRAM; shares of recall and precision are whole."""
    for dram in ((), ("--dram-budget", "20%", "--cache", "lru")):
        layouts = ("--layout", "out", "--layout", "original", "--profile", "activity", *EXACT, *dram)
        true = simulated(*layouts)
        told = simulated(*layouts, *PREDICTED, "--recall", "0.9")
        for key, layout in told.items():
            assert flash(layout) == flash(true[key])
            assert (layout["recall"], layout["precision"], layout["kl"]) == (1, 1, 0)
            assert layout["needs"] == "a predictor of which neurons fire"


def test_rules_by_worth_see_magnitudes():
    """Predicted ones are hardly more than true ones: the rules cost about what they cost by true outputs."""
    rules = ("flash-aware,price=0.001", "fisher,price=0.001", "top-k=20%")
    options = ("--layout", "out", "--profile", "magnitude", *(part for rule in rules for part in ("--select", rule)))
    true, told = simulated(*options), simulated(*options, *PREDICTED, "--recall", "0.9")
    for key, layout in told.items():
        assert layout["kl"] > 0
        assert layout["precision"] == 1
        assert layout["recall"] == layout["kept_share"] < 1
        assert layout["flash_time_us_per_token"] == pytest.approx(true[key]["flash_time_us_per_token"], rel=0.1)
    with pytest.raises(UsageError, match=r"found predictors of which neurons fire; .* Fit them with `ripple-place"):
        simulated(*("activity" if part == "magnitude" else part for part in options), *PREDICTED)


def test_what_a_predictor_gets_wrong(folder):
    """All neurons at the default recall of .99: reads are wasted, nothing is lost. A high threshold loses."""
    options = ("--layout", "original", "--bundle-bytes", "260", *EXACT, *PREDICTED)
    document = json.loads(run(*command("--profile", "activity", *options)))
    [everything] = document["layouts"]
    assert (document["activity"], document["recall"]) == ("predicted", 0.99)
    predictor = read_profile("activity").predictor
    assert document["predictor_bytes"] == predictor.n_bytes
    assert (everything["recall"], everything["kl"]) == (1, 0)
    assert 0 < everything["precision"] < 1
    n_neurons = sum(block.n_neurons for block in predictor.blocks.values())
    assert everything["bytes_active_per_token"] == n_neurons * 260
    learned = read_profile("p")
    write_profile("strict", replace(learned, predictor=own_predictors(folder / "model", threshold=0.05)))
    [lossy] = simulated("--profile", "strict", *options, "--recall", "0.9").values()
    assert 0 < lossy["recall"] < 1
    assert lossy["precision"] == 1
    assert lossy["kl"] > 0
    assert lossy["predicted_loss"] > 0
    [one] = json.loads(run(*command("--profile", "activity", *options, "--layers", "1")))["layouts"]
    assert [*one["blocks"]] == ["layers.1"]


def test_predictors_of_an_output(folder, tmp_path):
    """Its order is undone; with a profile that has predictors, those come first. Text and page say what they take."""
    output = tmp_path / "out"
    shutil.copytree("out", output)
    placement = read_placement(read_manifest(output).placement_path)
    orders = {name: block.order for name, block in placement.blocks.items()}
    (output / PREDICTORS_FILE).write_bytes(predictors_content(own_predictors(folder / "model").in_orders(orders)))
    options = ("--layout", output, *EXACT, *PREDICTED, "--recall", "0.9")
    for more in ((), ("--profile", "p"), ("--profile", "activity")):
        [layout] = simulated(*options, *more).values()
        assert (layout["recall"], layout["precision"], layout["kl"]) == (1, 1, 0)
    text = run(*command(*options, "--html", tmp_path / "page.html")[:-1])
    sentence = "What is read is chosen by what predictors say, at a recall of 0.9. They take "
    assert sentence in text
    assert "  precision  " in text
    page = (tmp_path / "page.html").read_text()
    assert sentence in page
    assert "a predictor that lies in DRAM is assumed to know" not in page
    with pytest.raises(UsageError, match="found no predictors; expected those of --profile, or of an output"):
        simulated("--layout", "out", "--profile", "p", *EXACT, *PREDICTED)
    with pytest.raises(UsageError, match=r"recall 0\.5: found no thresholds for it in the predictors"):
        simulated(*options, "--recall", "0.5")


def test_what_is_refused():
    """Before the model runs."""
    with pytest.raises(UsageError, match="found a model and no rule to run in it"):
        run(*command("--layout", "out", "--profile", "activity", *PREDICTED))
    with pytest.raises(UsageError, match="found blocks of columns, whose magnitudes a reader knows"):
        run(*command("--layout", "original", "--profile", "activity", "--unit", "column", *EXACT, *PREDICTED))


def test_sweeps_run_the_model_at_each_value():
    """As without predictions."""
    document = json.loads(
        run(*command("--layout", "out", "--profile", "activity", *EXACT, *PREDICTED, "--sweep", "collapse=off,2"))
    )
    assert [point["layouts"][0]["precision"] < 1 for point in document["sweep"]["points"]] == [True, True]


def test_rules_are_tuned_on_what_is_predicted(tmp_path):
    """So that the loss is as wanted when predictions are served; for nothing else is the price good."""
    tune = ("reorder", "model", "--device", "small.toml", "--effort", "0", "--select", "fisher=0.01", *TUNING)
    run(*tune, "--profile", "magnitude", "--out", tmp_path / "true")
    told = (*PREDICTED, "--recall", "0.9")
    run(*tune, "--profile", "magnitude", *told, "--out", tmp_path / "told")
    prices = [read_tuned(tmp_path / name).rules["fisher=0.01"] for name in ("true", "told")]
    assert prices[1].tuning.price != prices[0].tuning.price
    assert [tuned.reader.activity for tuned in prices] == ["true", "predicted at 0.9"]
    assert 0.3 * 0.01 < prices[1].report["kl"] < 2 * 0.01
    assert "activity" not in json.loads((tmp_path / "true/ripple_place/selection.json").read_text())["rules"][0]
    layouts = ("--layout", tmp_path / "told", "--select", "fisher=0.01")
    (layout,) = simulated(*layouts, *told).values()
    assert layout["kl"] < 0.03
    for other in ((), (*PREDICTED, "--recall", "0.99")):
        with pytest.raises(UsageError, match="activity that is predicted"):
            simulated(*layouts, *other)
    with pytest.raises(UsageError, match="without predictors"):
        run(*tune, "--profile", "p", *told, "--out", tmp_path / "none")
