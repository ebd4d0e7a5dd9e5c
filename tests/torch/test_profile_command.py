"""From a model and a text to a reordered checkpoint, on the command line."""

import json
import re
import sys

import numba
import pytest
import torch

from ripple_place.capture import source
from ripple_place.cli.main import main
from ripple_place.graph.profile import read_profile
from ripple_place.trace.files import read_trace
from ripple_place.workflows import profile as workflow
from tests.torch.capture_models import CAUSAL, write_model, write_text
from tests.trace_builders import unpack

SIZES = ["--max-tokens", "132", "--segment-length", "44", "--sequence-length", "16"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs ``ripple-place`` in `tmp_path` and returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    before = numba.get_num_threads()

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ripple-place", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        return exit_.value.code, *capsys.readouterr()

    yield run
    numba.set_num_threads(before)


@pytest.fixture
def model(tmp_path):
    """Return the directory of a tiny gated model, beside a text that it can read."""
    write_text(tmp_path / "a.txt")
    write_text(tmp_path / "b.txt", seed=1)
    return write_model(tmp_path / "model", CAUSAL["llama"]()).name


def test_the_whole_way(run, model, tmp_path):
    """Profile a model, reorder it by what was seen, and simulate: one command each, nothing left behind."""
    code, out, err = run("profile", model, "--text", "a.txt", *SIZES, "--out", "p", "--active", "cats=60%")
    assert code == 0
    assert "132 tokens in 3 segments. Wrote p" in out
    assert "Perplexity of the text: " not in out
    assert "all of the text went into the thresholds of cats=60%" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt", "model", "p"]
    assert read_trace("p").metadata["activity"] == "cats=60%"
    assert set(json.loads(read_trace("p").metadata["thresholds"])) == {"layers.0", "layers.1", "layers.2"}
    assert run("reorder", model, "--profile", "p", "--out", "flash")[0] == 0
    assert run("simulate", "p", "--layout", "original", "--layout", "flash")[0] == 0


def test_experts(run, tmp_path):
    """Every expert is a block of its own, also one that no token reached."""
    write_model(tmp_path / "moe", CAUSAL["mixtral"](num_local_experts=24))
    write_text(tmp_path / "a.txt")
    code, out, err = run("profile", "moe", "--text", "a.txt", *SIZES[2:], "--max-tokens", "4", "--out", "p", "--json")
    assert code == 0
    document = json.loads(out)
    rows = [block["n_rows"] for block in document["blocks"].values()]
    assert len(rows) == 3 * 24
    assert sum(rows) == 3 * 2 * 4
    assert 0 in rows
    assert re.search(r"Warning: no token reached (layers\.\d\.experts\.\d+, ){3}layers\S+ and \d+ more", err)
    assert "no neuron fires" not in err
    assert document["capture"]["perplexity"] is None
    assert read_profile("p").trace.blocks["layers.0.experts.23"].token_index is not None


def test_append(run, model, tmp_path):
    """Text added later gives the profile that both texts give at once, by the thresholds of the first."""
    rule = ["--active", "teal=50%", "--no-perplexity"]
    assert run("profile", model, "--text", "a.txt", *SIZES, *rule, "--out", "p")[0] == 0
    first = read_trace("p")
    assert run("profile", model, "--text", "b.txt", *SIZES, *rule, "--out", "q")[0] == 0
    assert run("profile", model, "--text", "b.txt", *SIZES, *rule, "--out", "p", "--append")[0] == 0
    both = read_trace("p")
    assert both.segment_starts.tolist() == [0, 44, 88, 132, 176, 220]
    assert both.metadata == first.metadata | {"dataset": "a.txt + b.txt"}
    assert both.metadata["thresholds"] != read_trace("q").metadata["thresholds"]
    for name, block in first.blocks.items():
        assert (unpack(both.blocks[name])[:132] == unpack(block)).all()
    code, _, err = run("profile", model, "--text", "b.txt", *SIZES, "--out", "p", "--append", "--active", "relu")
    assert code == 2
    assert "p --append: found a profile by the rule 'teal=50%'; expected relu." in err
    # Without a rule, the profile's own; and the text is in it.
    code, _, err = run("profile", model, "--text", "b.txt", *SIZES, "--out", "p", "--append", "--no-perplexity")
    assert code == 2
    assert "in it already" in err


def test_an_interrupted_capture(run, model, tmp_path, monkeypatch):
    """Ctrl-C leaves what was done; the next run asks what to do with it, and --append goes on with it."""
    arguments = ["profile", model, "--text", "a.txt", *SIZES, "--layer-by-layer"]
    assert run(*arguments, "--out", "whole")[0] == 0
    real = source.run_capture

    def interrupted(*given, **more):
        def track(items, what):
            for i, item in enumerate(items):
                if i == 2:
                    raise KeyboardInterrupt
                yield item

        return real(*given, **more | {"track": track})

    monkeypatch.setattr(source, "run_capture", interrupted)
    assert run(*arguments, "--out", "p")[0] == 130
    assert (tmp_path / "p.partial").is_dir()
    assert not (tmp_path / "p").exists()
    monkeypatch.setattr(source, "run_capture", real)
    code, _, err = run(*arguments, "--out", "p")
    assert code == 2
    assert "p.partial: found an interrupted capture; expected none. Go on with it by --append" in err
    code, out, _ = run(*arguments, "--out", "p", "--append", "--json")
    assert code == 0
    assert json.loads(out)["capture"]["n_resumed"] == 2
    assert (tmp_path / "p").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not (tmp_path / "p.partial").exists()


def test_a_model_beside_traces(run, model):
    """A model is a source like any other: its trace is joined with those before and after it."""
    assert run("profile", model, "--text", "a.txt", *SIZES, "--out", "a")[0] == 0
    assert run("profile", "a", model, "a", "--text", "b.txt", *SIZES, "--out", "p")[0] == 0
    assert read_trace("p").n_tokens == 3 * 132


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["model"], 2, "model: found a model and no text; expected --text FILE"),
        (["model", "model", "--text", "a.txt"], 2, "found several models; expected one"),
        (["model", "--text", "none.txt"], 2, "none.txt: found nothing there; expected a text file"),
        (["model", "--text", "model/model.safetensors"], 2, "expected text in UTF-8"),
        (["model", "--text", "empty.txt"], 2, "--text: found a text without tokens"),
        (["model", "--text", "a.txt", "--active", "relu=1"], 2, "--active: found 'relu=1'; expected relu, "),
        (["model", "--text", "a.txt", "--torch-device", "cuda"], 2, "found no GPU that torch can use"),
        (["model", "--text", "a.txt", "--append", "--force"], 2, "--append --force: found both"),
        (["bare", "--text", "a.txt"], 2, "bare: found a directory without config.json"),
        (["damaged", "--text", "a.txt"], 3, "damaged: config.json: found"),
    ],
)
def test_what_is_refused(run, model, tmp_path, arguments, code, message):
    """Each mistake has its message and its exit code, and nothing is left behind."""
    for name in ("bare", "damaged"):
        (tmp_path / name).mkdir()
    (tmp_path / "damaged" / "config.json").write_text('{"model_type": "no such thing"}')
    (tmp_path / "empty.txt").write_text("")
    done, _, err = run("profile", *arguments, "--out", "p", "--sequence-length", "16")
    assert done == code
    assert message in err
    assert not list(tmp_path.glob("p*"))


@pytest.mark.parametrize("by_layer", [False, True])
def test_a_checkpoint_that_lacks_a_tensor(run, tmp_path, by_layer):
    """Transformers would fill in random numbers: a trace of those would be worth nothing."""
    from safetensors.torch import load_file, save_file

    path = write_model(tmp_path / "model", CAUSAL["llama"]())
    write_text(tmp_path / "a.txt")
    tensors = load_file(path / "model.safetensors")
    del tensors["model.layers.1.self_attn.q_proj.weight"]
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    way = "--layer-by-layer" if by_layer else "--whole-model"
    code, _, err = run("profile", "model", "--text", "a.txt", *SIZES, "--out", "p", way)
    assert code == 1
    assert "model.layers.1.self_attn.q_proj.weight: found no such tensor" in err
    assert "expected every parameter of the model that config.json describes" in err


def test_interrupted_while_counting(run, model, tmp_path, monkeypatch):
    """All rows are there and only the counts are missing: the model is not even loaded again."""
    from ripple_place.capture import model as models

    arguments = ["profile", model, "--text", "a.txt", *SIZES, "--whole-model"]
    real = workflow.write_profile

    def interrupted(path, profile):
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "write_profile", interrupted)
    assert run(*arguments, "--out", "p")[0] == 130
    monkeypatch.setattr(workflow, "write_profile", real)
    with monkeypatch.context() as patch:
        patch.setattr(models, "load_model", None)
        assert run(*arguments, "--out", "p", "--append")[0] == 0
    assert run(*arguments, "--out", "q")[0] == 0
    assert (tmp_path / "p").read_bytes() == (tmp_path / "q").read_bytes()


def test_importance(run, model):
    """Two texts, one after the other, give the mean over both; the trace is as without, and the report says it all."""
    options = ["--active", "relu", "--no-verdict"]
    sized = [model, *SIZES, *options]
    assert run("profile", *sized, "--text", "a.txt", "--out", "plain")[0] == 0
    code, out, _ = run("profile", *sized, "--text", "a.txt", "--out", "p", "--sensitivity")
    assert code == 0
    assert re.search(r"\nImportance, measured on 132 tokens: the top 10 % of a block's neurons have \d", out)
    assert "of the variance of log |g|^2 on held-out tokens." in out
    first, plain = read_profile("p"), read_profile("plain")
    assert (first.digest, plain.importance) == (plain.digest, None)
    assert first.importance.note.sensitivity["layers.2"].input == "model.layers.2.mlp.up_proj"
    code, out, _ = run("profile", *sized, "--text", "b.txt", "--out", "q", "--importance", "--json")
    document = json.loads(out)["importance"]
    assert (document["method"], document["n_tokens"]) == ("fisher", 132)
    assert document["blocks"].keys() == {"layers.0", "layers.1", "layers.2"}
    assert document["blocks"]["layers.0"].keys() == {"mean", "share_of_top_10_percent", "sensitivity_r2"}
    assert document["blocks"]["layers.0"]["sensitivity_r2"] is None
    assert run("profile", *sized, "--text", "b.txt", "--out", "p", "--importance", "--append")[0] == 0
    second, both = read_profile("q"), read_profile("p")
    assert both.importance.note.n_tokens == 264
    for name, block in both.blocks.items():
        mean = (first.blocks[name].importance + second.blocks[name].importance) / 2
        torch.testing.assert_close(torch.tensor(block.importance), torch.tensor(mean))
        assert (block.sensitivity == first.blocks[name].sensitivity).all()


def test_importance_is_checked_before_anything_runs(run, model, tmp_path):
    """A model that cannot be differentiated is refused at once, and nothing stays behind."""
    for options in (["--importance"], ["--sensitivity"]):
        code, _, err = run("profile", model, "--text", "a.txt", *SIZES, *options, "--layer-by-layer", "--out", "p")
        assert code == 3
        assert "--importance: found a model of which one layer is in memory at a time; expected the whole model" in err
        assert "Leave --layer-by-layer out, or leave --importance and --sensitivity out" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt", "model"]
