"""What models, tokenizers and texts do wrong in a capture: each ends in a sentence, and keeps its cause."""

import os

import pytest
import torch
import transformers

from ripple_place.capture.logits import compare_logits
from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.run import run_capture
from ripple_place.capture.run_errors import ModelRunError, explained
from ripple_place.errors import TraceFormatError, UnsupportedError, UsageError
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.tracking import no_track
from tests.hostile.special import make_special
from tests.torch.capture_models import CAUSAL, ENCODER_DECODER, write_model, write_text

BOTH = pytest.mark.parametrize("layer_by_layer", [False, True])


def record(tmp_path, model, *, rule="relu", **more):
    """Capture a model in a new directory."""
    windows = WindowParams(max_tokens=64, segment_length=32, sequence_length=16)
    params = CaptureParams(tmp_path / "text", windows, ActivityRule.parse(rule), **more)
    return run_capture(model, params, tmp_path / "rows", resume=False, thresholds=None, track=no_track)


@pytest.fixture
def llama(tmp_path):
    """Return a small Llama, and a text beside it."""
    write_text(tmp_path / "text", 100)
    return write_model(tmp_path / "model", CAUSAL["llama"](tie_word_embeddings=False))


@BOTH
@pytest.mark.parametrize(
    ("cause", "error", "match"),
    [
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ModelRunError,
         r"model.*layers\.1\.mlp: found an error in the model's own code \(RuntimeError: mat1 and mat2 shapes"),
        (KeyError("rope"), ModelRunError, r"layers\.1\.mlp: found an error in the model's own code \(KeyError: 'rope'"),
        (ImportError("no flash-attn", name="flash_attn"), ModelRunError,
         r"layers\.1\.mlp: found code that imports a package that is not there.*Install flash_attn\."),
        (ModuleNotFoundError("mamba"), ModelRunError, "Install the package that the message names"),
        (NotImplementedError("\"rms\" not implemented for 'Half'"), ModelRunError, "Compute with --dtype float32"),
        (torch.OutOfMemoryError("CUDA out of memory"), UnsupportedError, "found too little memory .* --layer-by-layer"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), UnsupportedError, "found too little memory"),
        (MemoryError(), UnsupportedError, "found too little memory"),
    ],
)  # fmt: skip
def test_errors_of_a_model_s_own_code(tmp_path, llama, monkeypatch, layer_by_layer, cause, error, match):
    """The module is named, the cause is kept, and something can be done."""
    forward = transformers.models.llama.modeling_llama.LlamaMLP.forward

    def failing(self, x):
        if getattr(self, "n_calls", 0):
            raise cause.with_traceback(None)
        return forward(self, x)

    monkeypatch.setattr(transformers.models.llama.modeling_llama.LlamaMLP, "forward", failing)
    monkeypatch.setattr(transformers.models.llama.modeling_llama.LlamaMLP, "n_calls", 0, raising=False)
    original = transformers.models.llama.modeling_llama.LlamaDecoderLayer.__init__

    def numbered(self, config, layer_idx):
        original(self, config, layer_idx)
        self.mlp.n_calls = layer_idx == 1

    monkeypatch.setattr(transformers.models.llama.modeling_llama.LlamaDecoderLayer, "__init__", numbered)
    with pytest.raises(error, match=match) as caught:
        record(tmp_path, llama, layer_by_layer=layer_by_layer)
    assert caught.value.__cause__ is cause
    with pytest.raises(error, match=match):
        compare_logits(llama, llama)


def test_our_own_errors_are_not_the_model_s():
    """A fault of ours, in a hook that the model calls, keeps its traceback."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    model.config = None
    with pytest.raises(AttributeError), explained(model):
        model.config.nothing  # noqa: B018


@BOTH
def test_tokens_of_another_model(tmp_path, layer_by_layer):
    """A tokenizer with more words than the model has embeddings."""
    write_text(tmp_path / "text", 100)
    model = write_model(tmp_path / "model", CAUSAL["llama"](vocab_size=50))
    with pytest.raises(UsageError, match=r"model: tokenizer: found token \d+; expected tokens 0 to 49, which"):
        record(tmp_path, model, layer_by_layer=layer_by_layer)


@BOTH
def test_a_pad_without_embedding(tmp_path, layer_by_layer):
    """Pads are masked: which token fills a window up does not matter, but there must be an embedding of it."""
    write_text(tmp_path / "text", 100)
    for name, pad in (("a", 500), ("b", 0)):
        model = write_model(tmp_path / name, CAUSAL["gpt2"](pad_token_id=pad))
        (tmp_path / name / "text").write_bytes((tmp_path / "text").read_bytes())
        trace = record(tmp_path / name, model, layer_by_layer=layer_by_layer).trace
        assert trace.n_tokens == 64


@pytest.mark.parametrize("family", ["opt", "llama"])
@BOTH
def test_a_text_of_one_token(tmp_path, family, layer_by_layer):
    """It is recorded; there is nothing to predict, and so no perplexity."""
    (tmp_path / "text").write_text("w7")
    model = write_model(tmp_path / "model", CAUSAL[family]())
    capture = record(tmp_path, model, rule="top-k=50%", layer_by_layer=layer_by_layer)
    assert (capture.trace.n_tokens, capture.perplexity) == (1, None)


def test_a_text_of_one_token_for_an_encoder_decoder(tmp_path):
    """The encoder reads it, the decoder has nothing to go on with."""
    (tmp_path / "text").write_text("w7")
    model = write_model(tmp_path / "model", ENCODER_DECODER["t5"]())
    assert record(tmp_path, model, rule="top-k=50%").trace.n_tokens == 1


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_a_text_of_nothing(tmp_path, llama, text):
    """No tokens, no trace."""
    (tmp_path / "text").write_text(text)
    with pytest.raises(UsageError, match="found a text without tokens"):
        record(tmp_path, llama)


@BOTH
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers(tmp_path, layer_by_layer, value):
    """Neurons may be sound where the head is not: a score of NaN would be none."""
    write_text(tmp_path / "text", 100)
    path = write_model(tmp_path / "model", CAUSAL["llama"](tie_word_embeddings=False))
    model = transformers.AutoModelForCausalLM.from_pretrained(path)
    with torch.no_grad():
        model.lm_head.weight[5:] = value
    model.save_pretrained(path)
    with pytest.raises(TraceFormatError, match=r"found (nan|inf) nats a token; .*--no-perplexity"):
        record(tmp_path, path, rule="top-k=50%", layer_by_layer=layer_by_layer)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "text").write_bytes((tmp_path / "text").read_bytes())
    assert record(tmp_path / "again", path, rule="top-k=50%", perplexity=False).trace.n_tokens == 64


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "text"])
@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_files_without_end(tmp_path, llama, name, kind):
    """Whatever transformers or we would read is looked at first."""
    path = tmp_path / name if name == "text" else llama / name
    os.unlink(path)
    make_special(path, kind)
    with pytest.raises(UsageError, match=f"{name}: found a (pipe|device)"):
        record(tmp_path, llama)
