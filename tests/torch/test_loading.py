"""Models that transformers does not load, or not as they lie there: what is said, and that it helps."""

import gzip
import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ripple_place.capture import loading
from ripple_place.capture import model as models
from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.run import run_capture
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.errors import CheckpointError, RipplePlaceError, UnsupportedError, UsageError
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.tracking import no_track
from tests.test_foreign import LFS
from tests.torch.capture_models import CAUSAL, write_model, write_text

WINDOWS = WindowParams(max_tokens=32, segment_length=16, sequence_length=16)


@pytest.fixture
def model(tmp_path):
    """Return a Llama with a tokenizer."""
    write_text(tmp_path / "text")
    return write_model(tmp_path / "model", CAUSAL["llama"]())


def record(model, *, rule="relu", by_layer=False, **more):
    """Record a short trace."""
    directory = model.with_name("work")
    shutil.rmtree(directory, ignore_errors=True)
    texts = (model.with_name("text"),)
    params = CaptureParams(texts, WINDOWS, ActivityRule.parse(rule), layer_by_layer=by_layer, **more)
    return run_capture(model, params, directory, resume=False, thresholds=None, track=no_track)


def active(capture):
    """Return the bits of a capture."""
    return {name: block.active.tobytes() for name, block in capture.trace.blocks.items()}


def rename(model, change):
    """Rename or leave out tensors of a model."""
    file = model / "model.safetensors"
    save_file({new: t for name, t in load_file(file).items() if (new := change(name))}, file, {"format": "pt"})


def without_tokenizer(model, *names):
    """Leave some files of the tokenizer alone."""
    for file in model.glob("token*"):
        if file.name not in names:
            file.unlink()


@pytest.mark.parametrize("names", [[], ["tokenizer_config.json"]])
def test_no_tokenizer(model, tmp_path, names):
    """Without a vocabulary transformers may make a tokenizer without words; copying the files helps."""
    shutil.copytree(model, tmp_path / "base")
    without_tokenizer(model, *names)
    if names:
        (model / names[0]).write_text('{"tokenizer_class": "LlamaTokenizer"}')
    message = r"tokenizer: found no tokenizer files.*hf download ORG/NAME tokenizer.json tokenizer_config.json"
    with pytest.raises(CheckpointError, match=message):
        models.read_tokenizer(model)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / "base" / name, model / name)
    assert models.read_tokenizer(model)("w2", add_special_tokens=False)["input_ids"] == [2]


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"])
def test_sentencepiece_alone(model, monkeypatch, name):
    """The packages that read it are named, where they are missing."""
    without_tokenizer(model)
    (model / name).write_bytes(b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    monkeypatch.setattr(loading, "_is_installed", lambda package: package != "sentencepiece")
    with pytest.raises(UnsupportedError, match=f"{name} alone, and no package.*pip install sentencepiece protobuf"):
        models.read_tokenizer(model)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("tokenizer.json", models.read_tokenizer), ("tokenizer.model", models.read_tokenizer),
        ("config.json", models.read_config), ("model.safetensors", record),
    ],
)  # fmt: skip
@pytest.mark.parametrize("content", [LFS, gzip.compress(b"x"), b"<html><title>Sign in</title></html>"])
def test_files_that_are_something_else(model, name, read, content):
    """What lies there is said, not that transformers does not load it."""
    if name == "tokenizer.model":
        without_tokenizer(model)
    (model / name).write_bytes(content)
    with pytest.raises(RipplePlaceError, match=rf"{name}: found (a Git LFS pointer|a gzip archive|an error page)"):
        read(model)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "nosuch"}, "does not recognize this architecture.*pip install -U transformers"),
        ({"model_type": "nosuch", "auto_map": {"AutoConfig": "x.Y"}}, "brings code of its own.*docs/formats.md"),
    ],
)
def test_configs_of_unknown_models(model, config, message):
    """New architectures need a newer transformers; those with remote code do not run."""
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match=message):
        models.read_config(model)


def test_a_model_that_writes_no_text(model):
    """A vision model has no logits over words, whatever its checkpoint holds."""
    transformers.ViTConfig(hidden_size=32, num_attention_heads=4).save_pretrained(model)
    with pytest.raises(UnsupportedError, match=r"does not run as a language model.*docs/formats.md"):
        models.build_skeleton(model, models.read_config(model), dtype="float32")


def test_a_package_that_transformers_asks_for(model, monkeypatch):
    """Its name is in what transformers says."""

    def fail(*_, **__):
        raise ImportError("Loading a GPTQ quantized model requires optimum (`pip install optimum`)")

    monkeypatch.setattr(transformers.LlamaForCausalLM, "from_pretrained", fail)
    with pytest.raises(UnsupportedError, match=r"requires optimum.*Install the package that it names"):
        record(model)


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("prefix", ["model.", ""])
def test_a_model_without_a_head(model, by_layer, prefix):
    """Models for embeddings are stored without: the trace is the same, and the perplexity is not known."""
    expected = record(model, rule="top-k=50%", by_layer=by_layer)
    assert expected.perplexity is not None
    assert expected.notes == ()
    rename(model, lambda name: None if name == "lm_head.weight" else prefix + name.removeprefix("model."))
    found = record(model, rule="top-k=50%", by_layer=by_layer)
    assert active(found) == active(expected)
    assert found.perplexity is None
    assert found.notes == (f"{model} has no weights that give logits: the cost of the rule in perplexity is not known",)


@pytest.mark.parametrize("by_layer", [False, True])
def test_another_tensor_that_is_missing(model, by_layer):
    """It would be drawn at random."""
    rename(model, lambda name: None if name == "model.layers.1.self_attn.q_proj.weight" else name)
    with pytest.raises(
        CheckpointError, match=r"layers.1.self_attn.q_proj.weight: found no such tensor.*belong to the same"
    ):
        record(model, by_layer=by_layer)


@pytest.mark.parametrize("by_layer", [False, True])
def test_names_with_a_wrapper_s_part(model, by_layer):
    """Transformers does not load them; a name of the file is shown, and renaming helps."""
    rename(model, "_orig_mod.{}".format)
    message = r"found no such tensor, but names such as _orig_mod\..*a part _orig_mod, left by torch.compile"
    with pytest.raises(CheckpointError, match=message):
        record(model, by_layer=by_layer)
    rename(model, lambda name: name.removeprefix("_orig_mod."))
    assert record(model, by_layer=by_layer).trace.blocks


@pytest.mark.parametrize("by_layer", [False, True])
def test_consolidated_weights_beside_the_model(model, by_layer):
    """Mistral's repositories hold the same weights twice; they are neither read nor counted twice."""
    expected = active(record(model, by_layer=by_layer))
    tensors = {name: torch.zeros_like(tensor) for name, tensor in load_file(model / "model.safetensors").items()}
    save_file(tensors, model / "consolidated.safetensors")
    assert list(Checkpoint.open(model).shards) == ["model.safetensors"]
    assert active(record(model, by_layer=by_layer)) == expected


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("name", ["gptq_model-4bit-128g.safetensors", "model.fp16.safetensors"])
def test_weights_under_another_name(model, by_layer, name):
    """The one file there is, as reorder takes it."""
    expected = active(record(model, by_layer=by_layer))
    (model / "model.safetensors").rename(model / name)
    assert active(record(model, by_layer=by_layer)) == expected


def sharded(path, index):
    """Write a Llama in shards, with its index under some name, or without."""
    write_text(path.with_name("text"))
    write_model(path, CAUSAL["llama"](), max_shard_size="40KB")
    file = path / "model.safetensors.index.json"
    file.unlink() if index is None else file.rename(path / index)
    return path


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("index", ["model.safetensors.index.fp16.json", "gptq_model.safetensors.index.json"])
def test_an_index_under_another_name(model, tmp_path, by_layer, index):
    """A variant's, and AutoGPTQ's."""
    assert active(record(sharded(tmp_path / "shards", index), by_layer=by_layer)) == active(record(model))


def test_shards_without_an_index(model, tmp_path):
    """Transformers needs one for the whole model; layer by layer none is needed, as the message says."""
    path = sharded(tmp_path / "shards", None)
    with pytest.raises(UnsupportedError, match=r"shards without an index.*Profile it with --layer-by-layer"):
        record(path)
    assert active(record(path, by_layer=True)) == active(record(model))


def test_torch_files(model):
    """Converting helps, and so does the whole model at once, for other uses than `reorder`."""
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    expected = active(record(model))
    (model / "model.safetensors").unlink()
    for by_layer in (False, True):
        with pytest.raises(UnsupportedError, match=r"import convert.*; --allow-unsupported profiles"):
            record(model, by_layer=by_layer)
    with pytest.raises(UnsupportedError, match=r"import convert"):
        record(model, by_layer=True, allow_unsupported=True)
    assert active(record(model, allow_unsupported=True)) == expected


@pytest.mark.parametrize("content", [LFS, gzip.compress(b"w2 w3")])
def test_texts_that_are_something_else(model, content):
    """A pointer is text, too, and no text to profile on."""
    model.with_name("text").write_bytes(content)
    with pytest.raises(UsageError, match=r"text: found (a Git LFS pointer|a gzip archive)"):
        record(model)
