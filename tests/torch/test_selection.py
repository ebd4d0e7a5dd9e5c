"""Rules inside real models: tuned with an output, proved beside it, and scored on another text, by the command line."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from ripple_place.capture.loss import measure_loss
from ripple_place.capture.loss_run import Run
from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.rules_in_model import ModelText
from ripple_place.capture.tune_rule import size_importance
from ripple_place.cli.main import cli
from ripple_place.errors import UsageError, VerificationError
from ripple_place.graph.profile import read_importance
from ripple_place.select.tuned import read_tuned
from ripple_place.trace.files import write_trace
from ripple_place.tracking import no_track
from tests.select.builders import trace_of
from tests.torch.capture_models import CAUSAL, load, write_model, write_text

WINDOWS = ("--max-tokens", "192", "--sequence-length", "16")
TUNING = ("--tune-text", "a.txt", "--tune-tokens", "320", "--sequence-length", "16")
LOSS = ("nll", "nll_rise", "nll_rise_se", "kl", "perplexity", "agreement")
DEVICE = """
name = "small"
description = "pages as small as the neurons of tiny models"
page_bytes = 128
max_request_bytes = 65536
form = "linear"
overhead_us = 0.3
bandwidth_bytes_per_s = 1e9
[sources]
page_bytes = "remembered: made up for tests"
max_request_bytes = "remembered: made up for tests"
overhead_us = "remembered: made up for tests"
bandwidth_bytes_per_s = "remembered: made up for tests"
"""
"""With the 384 B of a gated neuron, a gap of 0."""


def run(*arguments):
    """Run the command line; return what it prints on stdout, or raise what it raises."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def simulated(*arguments, source="model"):
    """Return the scores of layouts and rules, by both."""
    text = ["--text", "b.txt", *WINDOWS] if source == "model" else []
    document = json.loads(run("simulate", source, *text, "--device", "small.toml", *arguments, "--json"))
    return {(layout["name"], layout["select"]): layout for layout in document["layouts"]}


def louder(path, down):
    """Make a model's FFNs matter: with random weights, it reads about as well without them."""
    weights = load_file(path / "model.safetensors")
    weights |= {name: 8 * weights[name] for name in weights if name.endswith(f"{down}.weight")}
    save_file(weights, path / "model.safetensors", {"format": "pt"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a directory with models, texts, a profile, and an output for which rules were tuned."""
    path = tmp_path_factory.mktemp("selection")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        write_text(path / "a.txt", 700)
        write_text(path / "b.txt", 400, seed=1)
        (path / "small.toml").write_text(DEVICE)
        write_model(path / "model", CAUSAL["opt"](num_hidden_layers=2))
        louder(path / "model", "fc2")
        profiled = ("--text", "a.txt", *WINDOWS, "--segment-length", "64", "--no-verdict")
        run("profile", "model", *profiled, "--importance", "--magnitudes", "--out", "p")
        run("profile", "model", "--text", "b.txt", *profiled[2:], "--magnitudes", "--out", "trace")
        run(
            "reorder", "model", "--profile", "p", "--device", "small.toml", "--effort", "0", "--out", "out",
            "--select", "flash-aware=0.01", "--select", "fisher=0.01", "--select", "teal=80%", *TUNING,
        )  # fmt: skip
    return path


@pytest.fixture(autouse=True)
def _there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_what_was_tuned(folder):
    """A price for each rule at one, thresholds for the other, compensation of each block, and the loss on the text."""
    tuned = read_tuned(folder / "out")
    assert list(tuned.rules) == ["flash-aware=0.01", "fisher=0.01", "teal=80%"]
    for name, entry in tuned.rules.items():
        assert entry.importance == "fisher"
        assert entry.reader.device == "small"
        assert set(entry.tuning.compensation) == {"layers.0", "layers.1"}
        assert (entry.tuning.price is None) == (name == "teal=80%")
        assert set(entry.tuning.thresholds) == (set() if entry.tuning.price else {"layers.0", "layers.1"})
        assert entry.report["n_tokens"] == 320
        assert 0 < entry.report["flash_time_us_per_token"] < entry.report["exact_flash_time_us_per_token"]
    for name in ("flash-aware=0.01", "fisher=0.01"):
        assert 0.3 * 0.01 < tuned.rules[name].report["kl"] < 2 * 0.01, "far from what was wanted"
    times = [tuned.rules[name].report["flash_time_us_per_token"] for name in ("flash-aware=0.01", "fisher=0.01")]
    assert times[0] < times[1]
    importance = read_importance(folder / "p").values
    for name, values in tuned.rules["teal=80%"].tuning.importance.items():
        np.testing.assert_array_equal(values, importance[name])


def test_the_output_is_the_same_model(folder, tmp_path):
    """It verifies, names what was added, gives the original back; a changed price is found."""
    assert "declared additions" in run("verify", "model", "out")
    run("verify", "model", "out", "--restore", tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (folder / "model/model.safetensors").read_bytes()
    selection = folder / "out" / "ripple_place" / "selection.json"
    kept = selection.read_bytes()
    selection.write_bytes(kept.replace(b"small", b"large"))
    try:
        with pytest.raises(VerificationError, match=r"selection\.json"):
            run("verify", "model", "out")
    finally:
        selection.write_bytes(kept)


def test_the_same_bytes_again(folder, tmp_path):
    """Tuning has no chance in it."""
    run(
        "reorder", "model", "--profile", "p", "--device", "small.toml", "--effort", "0", "--out", tmp_path / "again",
        "--select", "flash-aware=0.01", *TUNING,
    )  # fmt: skip
    first, again = read_tuned(folder / "out"), read_tuned(tmp_path / "again")
    one, other = first.rules["flash-aware=0.01"], again.rules["flash-aware=0.01"]
    assert (one.tuning.price, one.report) == (other.tuning.price, other.report)


def test_inside_the_model():
    """Each layout by each rule: what it costs on flash and in loss; exact costs nothing in loss."""
    rules = ["exact", "flash-aware,price=0.001", "flash-aware=0.01", "fisher=0.01", "teal=80%"]
    options = [part for rule in rules for part in ("--select", rule)]
    scores = simulated("--layout", "out", *options)
    assert list(scores) == [("out", rule) for rule in rules]
    exact = scores["out", "exact"]
    assert (exact["nll_rise"], exact["kl"], exact["agreement"], exact["kept_share"]) == (0, 0, 1, 1)
    assert exact["perplexity"] == pytest.approx(np.exp(exact["nll"]))
    for rule in rules[1:]:
        lossy = scores["out", rule]
        assert all(lossy[key] is not None for key in (*LOSS, "needs", "predicted_loss", "kept_value"))
        assert lossy["kl"] > 0
        assert lossy["predicted_loss"] > 0
        assert lossy["nll"] == pytest.approx(exact["nll"] + lossy["nll_rise"])
        assert lossy["flash_time_us_per_token"] < exact["flash_time_us_per_token"]
    # What was tuned for .01 nats costs about that on another text.
    assert 0.003 < scores["out", "flash-aware=0.01"]["kl"] < 0.02
    assert scores["out", "teal=80%"]["kept_share"] < 0.8


def test_a_layout_that_nothing_was_tuned_for():
    """Whoever wants a rise of the loss must have a price for this layout; a price itself needs importance alone."""
    for options in ((), ("--profile", "p")):
        with pytest.raises(UsageError, match=r"flash-aware=0\.01: found a layout for which the rule was not tuned"):
            simulated("--layout", "original", "--layout", "out", "--select", "flash-aware=0.01", *options)
    original = ("--layout", "original", "--bundle-bytes", "260")
    with pytest.raises(UsageError, match="found no importance"):
        simulated(*original, "--select", "flash-aware,price=0.001")
    with pytest.raises(UsageError, match=r"found no threshold for layers\.0"):
        simulated(*original, "--select", "teal=80%")
    with pytest.raises(UsageError, match="tuned for cache none; expected one that was tuned for cache lru"):
        simulated("--layout", "out", "--select", "fisher=0.01", "--dram-budget", "20%", "--cache", "lru")
    scores = simulated(*original, "--select", "flash-aware,price=0.001", "--profile", "p")
    assert scores["original", "flash-aware,price=0.001"]["kl"] > 0


class Recorder:
    """A chooser that remembers what it saw and uses all of it."""

    uses_gate = uses_inputs = False

    def __init__(self):
        self.outputs = []

    def start_segment(self):
        """Have no state."""

    def choose(self, outputs, gate, inputs):
        """Remember the rows."""
        self.outputs.append(outputs.copy())
        return np.ones(outputs.shape, bool)


@pytest.fixture(scope="module")
def recorded(folder):
    """Return a trace, magnitudes included, of the very windows that rules inside the model see."""
    capture = CaptureParams(folder / "b.txt", WindowParams(192, None, 16), layer_by_layer=False)
    scored = ModelText.load(folder / "model", capture).scored
    recorders = {f"layers.{i}": Recorder() for i in range(2)}
    measure_loss(scored, {"": Run(recorders)}, track=no_track)
    outputs = {name: np.concatenate(recorder.outputs) for name, recorder in recorders.items()}
    starts = tuple(scored.text.segment_starts.tolist())
    assert len(starts) > 1
    write_trace(folder / "recorded", trace_of(outputs, len(outputs["layers.0"]), segment_starts=starts))
    return "recorded"


FLASH = ("flash_time_us_per_token", "reads_per_token", "bytes_read_per_token", "cache_hit_ratio", "kept_share",
         "flash_time_us_percentiles")  # fmt: skip


@pytest.mark.parametrize("options", [(), ("--dram-budget", "20%", "--cache", "lru"),
                                     ("--dram-budget", "20%", "--cache", "lru", "--reset-at-segments")])  # fmt: skip
def test_exact_costs_what_its_trace_costs(recorded, options):
    """Inside the model as on the trace that was recorded of it, whether or not caches are emptied at segments."""
    options = ("--layout", "out", "--select", "exact", "--select", "threshold=0", *options)
    inside, outside = simulated(*options), simulated(*options, source=recorded)
    for key, layout in inside.items():
        assert {name: layout[name] for name in FLASH} == {name: outside[key][name] for name in FLASH}
        assert layout["nll"] is not None
        assert outside[key]["nll"] is None


def test_the_first_block_sees_what_its_trace_says(recorded):
    """Until something is dropped the model is the exact one; later blocks fire otherwise, though not by much."""
    options = (
        "--layout",
        "original",
        "--bundle-bytes",
        "260",
        "--profile",
        "p",
        "--dram-budget",
        "20%",
        "--cache",
        "lru",
    )
    options += ("--select", "flash-aware,price=0.005", "--select", "top-k=20%")
    inside, outside = simulated(*options), simulated(*options, source=recorded)
    for key, layout in inside.items():
        first, second = layout["blocks"]["layers.0"], layout["blocks"]["layers.1"]
        assert first == outside[key]["blocks"]["layers.0"]
        assert second != outside[key]["blocks"]["layers.1"]
        near = outside[key]["flash_time_us_per_token"]
        assert layout["flash_time_us_per_token"] == pytest.approx(near, rel=0.2)


def test_gates(folder):
    """A gated model by its gates: tuned with an output, read for all neurons before anything else, and charged."""
    write_model(folder / "gated", CAUSAL["llama"](num_hidden_layers=2, hidden_act="silu"))
    run("profile", "gated", "--text", "a.txt", *WINDOWS, "--active", "cats=50%", "--no-verdict", "--out", "q")
    run(
        "reorder", "gated", "--profile", "q", "--device", "small.toml", "--effort", "0", "--out", "gated-out",
        "--select", "cats=50%,sees=gate", "--select", "cats=50%,sees=predictor", *TUNING,
    )  # fmt: skip
    assert [rule.importance for rule in read_tuned(folder / "gated-out").rules.values()] == ["size", "size"]
    rules = ("--select", "exact", "--select", "cats=50%", "--select", "cats=50%,sees=predictor")
    text = ("--text", "b.txt", *WINDOWS, "--device", "small.toml", "--layout", "gated-out")
    exact, gate, predictor = json.loads(run("simulate", "gated", *text, *rules, "--json"))["layouts"]
    assert gate["needs"] == "the gate, from gate weights of every neuron"
    assert gate["kept_share"] == predictor["kept_share"] == pytest.approx(0.5, abs=0.1)
    assert (gate["nll"], gate["kl"]) == (predictor["nll"], predictor["kl"])
    assert exact["kept_share"] == 1
    # All 76 gates of a layer, of 128 B each, in one read; then two thirds of each neuron, of which gaps are read less.
    needed = 2 * 76 * 128 + predictor["bytes_active_per_token"] * 2 / 3
    assert needed <= gate["bytes_read_per_token"] < 1.2 * needed
    run("profile", "gated", "--text", "a.txt", *WINDOWS, "--magnitudes", "--no-verdict", "--out", "q-magnitudes")
    with pytest.raises(UsageError, match=r"no outputs of the activation function of layers\.0"):
        run("simulate", "q-magnitudes", "--layout", "gated-out", "--select", "cats=50%", "--device", "small.toml")


def test_sensitivity():
    """Where it is asked for, worth is scaled by how much tokens matter, and something else is dropped."""
    run("profile", "model", "--text", "a.txt", *WINDOWS, "--sensitivity", "--no-verdict", "--out", "s")
    rules = ("flash-aware,price=0.001", "flash-aware,price=0.001,sensitive=yes")
    options = ("--layout", "original", "--bundle-bytes", "260", "--select")
    without, with_it = (simulated(*options, rule, "--profile", "s") for rule in rules)
    [one], [other] = without.values(), with_it.values()
    assert one["predicted_loss"] != other["predicted_loss"]
    assert one["kl"] != other["kl"]
    with pytest.raises(UsageError, match="no sensitivity of tokens in layers"):
        simulated(*options, rules[1], "--profile", "p")


def test_everything_in_dram(folder):
    """There is no flash time to save, so that no price can be told."""
    with pytest.raises(UsageError, match="found a reader that has everything in DRAM"):
        run(
            "reorder", "model", "--profile", "p", "--device", "small.toml", "--effort", "0", "--out", "all",
            "--dram-budget", "100%", "--cache", "pinned", "--select", "fisher=0.01", *TUNING,
        )  # fmt: skip


def test_size_instead_of_importance(folder):
    """Without gradients, neurons count by what they add to the residual stream; GPT-2's weights lie the other way."""
    for family in ("opt", "gpt2"):
        model = load(write_model(folder / f"sized-{family}", CAUSAL[family]()))
        layer = model.model.decoder.layers[0].fc2 if family == "opt" else model.transformer.h[0].mlp.c_proj
        down = layer.weight.detach().numpy()
        expected = (down**2).sum(axis=0 if family == "opt" else 1)
        capture = CaptureParams(folder / "b.txt", WindowParams(64, None, 16), layer_by_layer=False)
        site = ModelText.load(folder / f"sized-{family}", capture).scored.sites[0]
        np.testing.assert_allclose(size_importance(site), expected, rtol=1e-5)


def test_rules_are_tuned_for_columns(folder):
    """Of both spaces of an FFN: one price, thresholds of each, no compensation; `simulate` takes them from there."""
    write_model(folder / "swiglu", CAUSAL["llama"](num_hidden_layers=2))
    louder(folder / "swiglu", "down_proj")
    profiled = ("--text", "a.txt", *WINDOWS, "--segment-length", "64", "--no-verdict", "--unit", "column")
    run("profile", "swiglu", *profiled, "--importance", "--out", "swiglu.profile")
    run(
        "reorder", "swiglu", "--profile", "swiglu.profile", "--device", "small.toml", "--ordering", "greedy", "--out",
        "swiglu-out", "--select", "flash-aware=0.01", "--select", "teal=40%", "--select", "dip=0.8", *TUNING,
    )  # fmt: skip
    blocks = {"layers.0.input", "layers.0", "layers.1.input", "layers.1"}
    tuned = read_tuned(folder / "swiglu-out")
    for name, entry in tuned.rules.items():
        assert entry.reader.capacity_neurons.keys() == entry.tuning.importance.keys() == blocks
        assert not entry.tuning.compensation
        assert entry.tuning.thresholds.keys() == (blocks if name == "teal=40%" else set())
    assert 0.3 * 0.01 < tuned.rules["flash-aware=0.01"].report["kl"] < 2 * 0.01
    assert "declared additions" in run("verify", "swiglu", "swiglu-out")
    scores = json.loads(
        run(
            "simulate", "swiglu", "--text", "b.txt", *WINDOWS, "--unit", "column", "--device", "small.toml", "--layout",
            "swiglu-out", *(part for rule in ("exact", *tuned.rules) for part in ("--select", rule)), "--json",
        )
    )["layouts"]  # fmt: skip
    by_rule = {layout["select"]: layout for layout in scores}
    assert all(layout["needs"] == "any reader" for layout in scores)
    assert by_rule["exact"]["kl"] == 0 < by_rule["flash-aware=0.01"]["kl"] < 3 * 0.01
    assert by_rule["flash-aware=0.01"]["flash_time_us_per_token"] < by_rule["exact"]["flash_time_us_per_token"]
    assert 0.4 < by_rule["teal=40%"]["kept_share"] < 0.9
    run("profile", "swiglu", *profiled, "--no-perplexity", "--out", "plain.profile")
    with pytest.raises(UsageError, match="a profile of columns without importance"):
        run(
            "reorder", "swiglu", "--profile", "plain.profile", "--device", "small.toml", "--out", "never",
            "--select", "dip=0.8", *TUNING,
        )  # fmt: skip
