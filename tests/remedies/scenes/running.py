"""Captures while a model runs: what it is made of, what its code raises, what comes out. `tests/torch` walks them."""

from __future__ import annotations

import json
import os
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from ripple_place.capture import weights
from ripple_place.capture.params import WindowParams
from ripple_place.trace.activity_rules import ActivityRule
from tests.remedies.cases import run
from tests.remedies.scenes.captures import OWN_CODE, profiled_own, with_torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.remedies.cases import Attempts


def model_of(folder: Path, family: str = "llama", name: str = "model", **settings: Any) -> Path:
    """Write a small model of a family, and a text beside it."""
    from tests.torch.capture_models import CAUSAL, ENCODER_DECODER, write_model, write_text

    write_text(folder / "text", 100)
    make = CAUSAL.get(family) or ENCODER_DECODER[family]
    return write_model(folder / name, make(**settings))


def recorded(model: Path, rule: str = "relu", **options: Any) -> None:
    """Record a trace of a model."""
    import shutil

    from ripple_place.capture.params import CaptureParams
    from ripple_place.capture.run import run_capture
    from ripple_place.tracking import no_track

    shutil.rmtree(model.with_name("rows"), ignore_errors=True)
    windows = WindowParams(max_tokens=64, segment_length=32, sequence_length=16)
    params = CaptureParams(model.with_name("text"), **{"windows": windows, "rule": ActivityRule.parse(rule), **options})
    run_capture(model, params, model.with_name("rows"), resume=False, thresholds=None, track=no_track)


# What a model is made of.

_SITES, _WEIGHTS, _READING = (f"capture/{name}.py" for name in ("sites", "weights", "tensor_reading"))


def odd_model(words: str, story: str, build: Callable[[Any], Any], site: str = "find_sites") -> None:
    """List a case of a model without FFNs that can be watched: a trace is recorded with code of one's own."""

    @with_torch(f"{_SITES}:{site}", words, f"{story}: {OWN_CODE}")
    def scene(folder: Path) -> Attempts:
        import torch

        from ripple_place.capture.sites import find_sites

        model = build(torch.nn)
        model.config = SimpleNamespace()
        yield lambda: find_sites(model, "model")
        yield lambda: profiled_own(folder)


def named(nn: Any, **modules: Any) -> Any:
    """Return a module with others at paths, whose dots are two underscores."""
    root = nn.Module()
    for path, module in modules.items():
        *parents, last = path.split("__")
        at = root
        for name in parents:
            if name not in dict(at.named_children()):
                at.add_module(name, nn.Module())
            at = dict(at.named_children())[name]
        at.add_module(last, module)
    return root


def with_axes(nn: Any) -> Any:
    """Return experts in one tensor, which run in their own way."""
    import torch

    module = nn.Module()
    module.down_proj = nn.Parameter(torch.zeros(2, 3, 4))
    return module


odd_model(
    "an expert in a module of its own", "an expert that does not learn which tokens it gets",
    lambda nn: named(nn, layers__0__mlp__experts__1__down_proj=nn.Linear(8, 4)),
)  # fmt: skip
odd_model(
    "two FFNs", "two FFNs in a layer",
    lambda nn: named(nn, a__layers__0__fc2=nn.Linear(8, 4), b__layers__0__fc2=nn.Linear(8, 4)),
)  # fmt: skip
odd_model("no FFN in", "a model without FFNs", lambda nn: nn.Linear(8, 4))
odd_model(
    "run in a way of their own", "experts that run in a way of their own",
    lambda nn: named(nn, layers__0__mlp__experts=with_axes(nn)), "_fused_site",
)  # fmt: skip


@with_torch(f"{_SITES}:check_gates", "", "a gate whose activation cannot be watched, under cats: by teal")
def gate_that_is_no_module(folder: Path) -> Attempts:
    """Its activation is a function, not a module."""
    import torch

    from ripple_place.capture.sites import check_gates, find_sites

    linear = torch.nn.Linear(8, 8)
    model = named(torch.nn, layers__0__mlp__down_proj=linear, layers__0__mlp__gate_proj=linear)
    model.config = SimpleNamespace()
    yield lambda: check_gates(find_sites(model, "model"), "model")
    yield lambda: recorded(model_of(folder), "teal=50%")


@with_torch(
    "capture/recorder.py:check_positions", "", f"an FFN that sees other rows than there are positions: {OWN_CODE}"
)
def rows_of_its_own(folder: Path) -> Attempts:
    """A model that drops tokens on the way."""
    import transformers

    model, mlp = model_of(folder), transformers.models.llama.modeling_llama.LlamaMLP
    forward = mlp.forward
    with patch.object(mlp, "forward", lambda self, x: forward(self, x[:, :1]).expand_as(x)):
        yield lambda: recorded(model, layer_by_layer=False)
    yield lambda: profiled_own(folder)


# What a model's code raises.

_ERRORS = "capture/run_errors.py"


def raising(site: str, words: str, story: str, cause: Callable[[], Exception], *, untried: str = "",
            helps: Callable[[Path], None] = recorded) -> None:  # fmt: skip
    """List a case of a model whose code raises something."""

    @with_torch(f"{_ERRORS}:{site}", words, story, untried=untried)
    def scene(folder: Path) -> Attempts:
        import transformers

        model, mlp = model_of(folder), transformers.models.llama.modeling_llama.LlamaMLP

        def fail(self: Any, x: Any) -> None:
            raise cause()

        with patch.object(mlp, "forward", fail):
            yield lambda: recorded(model, layer_by_layer=False)
        yield lambda: helps(model)


raising(
    "explained", "--layer-by-layer", "too little memory: layer by layer, or shorter sequences", MemoryError,
    helps=lambda model: recorded(model, layer_by_layer=True),
)  # fmt: skip


@with_torch(f"{_ERRORS}:explained", "leave --importance", "too little memory for gradients: without them")
def no_memory_for_gradients(folder: Path) -> Attempts:
    """They need the states of all layers at once."""
    import torch

    model = model_of(folder)

    def fail(self: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with patch.object(torch.Tensor, "backward", fail):
        yield lambda: recorded(model, importance=True)
        yield lambda: recorded(model)


raising("_run_error", "install {}.", "a package that the model's code imports: it is installed",
        lambda: ImportError("no flash-attn", name="flash_attn"))  # fmt: skip
raising("_run_error", "that the message names", "a package without a name: it is installed",
        lambda: ModuleNotFoundError("mamba"))  # fmt: skip
raising(
    "_run_error", "--dtype float32", "an operation that torch lacks: in float32",
    lambda: NotImplementedError("\"rms\" not implemented for 'Half'"),
    helps=lambda model: recorded(model, dtype="float32"),
)  # fmt: skip
raising(
    "_run_error", "record a trace with your own code", f"a mistake in the model's code: {OWN_CODE}",
    lambda: KeyError("rope"), helps=lambda model: profiled_own(model.parent),
)  # fmt: skip


@with_torch("capture/setup.py:_device", "", "a GPU where there is none: the processor")
def no_gpu(folder: Path) -> Attempts:
    """Torch finds none."""
    import torch

    model = model_of(folder)
    with patch.object(torch.cuda, "is_available", lambda: False):
        yield lambda: recorded(model, device="cuda")
        yield lambda: recorded(model, device="cpu")


# Importance.

_CHECK = "capture/importance.py"


@with_torch(f"{_CHECK}:check_importance", "--layer-by-layer out", "importance layer by layer: all at once, or without")
def importance_by_layer(folder: Path) -> Attempts:
    """Gradients pass through all layers."""
    model = model_of(folder)
    yield lambda: recorded(model, importance=True, layer_by_layer=True)
    yield lambda: recorded(model, importance=True)
    yield lambda: recorded(model, layer_by_layer=True)


@with_torch(f"{_CHECK}:check_importance", "try --whole-model", "importance of a large model: all at once, or without")
def importance_of_a_large_model(folder: Path) -> Attempts:
    """It would take most of the free memory."""
    model = model_of(folder)
    with patch("ripple_place.capture.model.fits_in_memory", lambda *_: False):
        yield lambda: recorded(model, importance=True)
        yield lambda: recorded(model, importance=True, layer_by_layer=False)
        yield lambda: recorded(model)


@with_torch(f"{_CHECK}:check_importance", "begin anew", "importance of a capture by layer: begun anew, or without")
def importance_of_a_resumed_capture(folder: Path) -> Attempts:
    """The run that was interrupted held one layer at a time."""
    from ripple_place.capture.params import CaptureParams
    from ripple_place.capture.run import run_capture
    from ripple_place.tracking import no_track

    model = model_of(folder)
    windows, rule = WindowParams(max_tokens=64, segment_length=32, sequence_length=16), ActivityRule("relu")

    def resumed(*, resume: bool = True, **more: Any) -> None:
        params = CaptureParams(folder / "text", windows, rule, **more)
        run_capture(model, params, folder / "w", resume=resume, thresholds=None, track=no_track)

    resumed(resume=False, layer_by_layer=True)
    yield lambda: resumed(sensitivity=True)
    yield lambda: resumed()
    yield lambda: resumed(resume=False, layer_by_layer=False, sensitivity=True)


@with_torch(f"{_CHECK}:check_importance", "predicts the next token", "importance of an encoder: without")
def importance_of_an_encoder(folder: Path) -> Attempts:
    """There is no loss to differentiate."""
    from tests.torch.models import CONFIGS, save_random

    model = model_of(folder)
    (model / "model.safetensors").unlink()
    save_random(CONFIGS["albert"](), model)
    yield lambda: recorded(model, importance=True)
    yield lambda: recorded(model)


@with_torch(f"{_CHECK}:_result", "", "gradients beyond a number format: in float32")
def gradients_that_overflow(folder: Path) -> Attempts:
    """float16 ends at 65504."""
    import torch

    model = model_of(folder)
    backward = torch.Tensor.backward

    with patch.object(torch.Tensor, "backward", lambda loss: backward(loss * torch.inf)):
        yield lambda: recorded(model, importance=True, dtype="float16")
    yield lambda: recorded(model, importance=True, dtype="float32")


# Tokens and scores.


@with_torch("capture/text.py:check_token_ids", "", "a tokenizer of another model: the model's own")
def tokens_without_embedding(folder: Path) -> Attempts:
    """It knows more words than the model."""
    model = model_of(folder, vocab_size=50)
    yield lambda: recorded(model)
    own = model_of(folder, name="own")
    yield lambda: recorded(own)


@with_torch("capture/text.py:_tokenise", "", "a tokenizer that fails: the files that the model was published with")
def tokenizer_that_fails(folder: Path) -> Attempts:
    """A damaged one can raise anything."""
    from ripple_place.capture import text

    def fail(*_: object, **__: object) -> None:
        raise KeyError("w3")

    model = model_of(folder)
    yield lambda: text.read_texts([folder / "text"], fail)
    yield lambda: recorded(model)


@with_torch("capture/text.py:check_sequence_length", "", "windows longer than the model's positions: as long")
def windows_too_long(folder: Path) -> Attempts:
    """64 positions, windows of 128."""
    model = model_of(folder, "opt")
    yield lambda: recorded(model, windows=WindowParams(max_tokens=64, sequence_length=128))
    yield lambda: recorded(model, windows=WindowParams(max_tokens=64, sequence_length=64))


@with_torch(
    "capture/perplexity.py:LogLikelihood.check", "", "a head that makes every token unlikely: without the score"
)
def likelihoods_beyond_all_numbers(folder: Path) -> Attempts:
    """The neurons are sound."""
    import torch
    import transformers

    model = model_of(folder, tie_word_embeddings=False)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        loaded.lm_head.weight.mul_(1e6)
    loaded.save_pretrained(model)
    yield lambda: recorded(model, "top-k=50%")
    yield lambda: recorded(model, "top-k=50%", perplexity=False)


# Weights, a layer at a time.


@with_torch(f"{_READING}:read_tensor", "profile the unquantised model", "weights of 8 bits: the model before")
def weights_of_no_torch_type(folder: Path) -> Attempts:
    """Torch has no such numbers to compute with."""
    model, plain = model_of(folder), model_of(folder, name="plain")
    file = model / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"dtype":"F32"', b'"dtype":"U32"'))
    yield lambda: recorded(model, layer_by_layer=True)
    yield lambda: recorded(plain, layer_by_layer=True)


@with_torch(f"{_READING}:read_tensor", "start again", "weights cut short while they are read: whole, left alone")
def weights_cut_while_read(folder: Path) -> Attempts:
    """Somebody copies over them."""
    model, make = model_of(folder), weights.WeightSource.__init__
    file = model / "model.safetensors"
    whole = file.read_bytes()

    def make_and_cut(self: Any, *arguments: Any) -> None:
        make(self, *arguments)
        os.truncate(file, len(whole) // 2)

    with patch.object(weights.WeightSource, "__init__", make_and_cut):
        yield lambda: recorded(model, layer_by_layer=True)
    file.write_bytes(whole)
    yield lambda: recorded(model, layer_by_layer=True)


@with_torch(f"{_WEIGHTS}:WeightSource._place", "", "a config of narrower heads: the model's own")
def weights_of_other_widths(folder: Path) -> Attempts:
    """The config of its larger sibling."""
    model = model_of(folder)
    config = model / "config.json"
    own = config.read_text()
    config.write_text(json.dumps(json.loads(own) | {"head_dim": 4}))
    yield lambda: recorded(model, layer_by_layer=True)
    config.write_text(own)
    yield lambda: recorded(model, layer_by_layer=True)


# Logits.

_LOGITS = "capture/logits.py"


@with_torch(f"{_LOGITS}:_logits", "", "a model that transformers does not load, for --logits: without")
def logits_of_an_unknown_model(folder: Path) -> Attempts:
    """The other checks compare bytes."""
    from ripple_place.capture.logits import compare_logits
    from tests.remedies.bench import output_at

    out = output_at(folder / "out")
    yield partial(compare_logits, folder / "model", out)
    yield lambda: run("verify", folder / "model", out)


@with_torch(
    f"{_LOGITS}:compare_logits", "", "logits that differ, though every byte is proved",
    untried="it reports a fault of the package",
)  # fmt: skip
def logits_that_differ(folder: Path) -> Attempts:
    """Two other models."""
    from ripple_place.capture.logits import compare_logits

    model, other = model_of(folder), model_of(folder, "opt", "other")
    yield lambda: compare_logits(model, other)


@with_torch("workflows/profile.py:profile", "{} stays", "Ctrl-C in a capture: the same command with --append")
def interrupted_capture(folder: Path) -> Attempts:
    """Its rows stay."""
    from ripple_place.capture import recorder

    model = model_of(folder)
    command = ("profile", model, "--text", folder / "text", "--out", folder / "p", "--max-tokens", 64, "--no-verdict",
               "--segment-length", 32, "--sequence-length", 16, "--active", "relu", "--layer-by-layer")  # fmt: skip
    see, calls = recorder.Recorder._see_down, []

    def see_and_stop(self: Any, *arguments: Any) -> Any:
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return see(self, *arguments)

    with patch.object(recorder.Recorder, "_see_down", see_and_stop):
        yield lambda: run(*command)
    yield lambda: run(*command, "--append")
