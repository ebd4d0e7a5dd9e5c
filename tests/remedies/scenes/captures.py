"""Captures: what runs a model, what it reads, what an interrupted one left. `tests/torch` walks some of them."""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np

from ripple_place.capture import source
from ripple_place.capture.logits import check_can_run
from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.source import capture_source, fitted_thresholds
from ripple_place.capture.text import CalibrationText, read_texts
from ripple_place.capture.writer import STATE_FILE, TraceWriter, read_state
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.tracking import no_track
from tests.remedies.bench import model_at, trace_at
from tests.remedies.cases import case, instead, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from tests.remedies.cases import Attempts

WINDOWS = WindowParams(max_tokens=32, segment_length=16, sequence_length=16)

# Parameters.

_WINDOW, _CAPTURE = (f"capture/params.py:{name}.__post_init__" for name in ("WindowParams", "CaptureParams"))
instead(_WINDOW, "ask for more tokens", "no tokens: some", lambda: WindowParams(0), lambda: WindowParams(64))
instead(
    _CAPTURE, "no text", "a model and no text: with one", lambda: CaptureParams(()), lambda: CaptureParams("wiki.txt")
)
instead(
    _CAPTURE, "name one of these", "a device that is none: one of them", lambda: CaptureParams("a", device="tpu"),
    lambda: CaptureParams("a", device="cpu"),
)  # fmt: skip
instead(
    _CAPTURE, "at least one thread", "no thread: one", lambda: CaptureParams("a", n_threads=0),
    lambda: CaptureParams("a", n_threads=1),
)  # fmt: skip


# Texts.


def words(text: str, **_: object) -> dict[str, list[int]]:
    """Stand in for a tokenizer: a token for each word."""
    return {"input_ids": [len(word) for word in text.split()]}


def read(*texts: Path) -> CalibrationText:
    """Read texts as a capture does."""
    return CalibrationText.of_texts(read_texts(texts, words), WINDOWS)


_TEXTS = "capture/text.py:read_texts"


@case("capture/text.py:CalibrationText.of_texts", "", "a text of blanks: another")
def blank_text(folder: Path) -> Attempts:
    """It has no tokens."""
    (folder / "blank").write_text(" ")
    (folder / "text").write_text("a bc def")
    yield lambda: read(folder / "blank")
    yield lambda: read(folder / "text")


@case(_TEXTS, "check the path", "a text that is not there: the right path")
def no_text(folder: Path) -> Attempts:
    """A slip."""
    (folder / "text").write_text("a bc def")
    yield lambda: read(folder / "txt")
    yield lambda: read(folder / "text")


@case(_TEXTS, "convert it", "a text in Latin-1: converted, or another")
def latin_text(folder: Path) -> Attempts:
    """As older collections have it."""
    (folder / "text").write_bytes("ä b".encode("latin-1"))
    (folder / "other").write_text("a b")
    yield lambda: read(folder / "text")
    yield lambda: read(folder / "other")
    (folder / "text").write_text((folder / "text").read_bytes().decode("latin-1"), encoding="utf-8")
    yield lambda: read(folder / "text")


# What runs a model.


def without_torch(name: str, *rest: object) -> object:
    """Stand in for `find_spec` where nothing is installed."""
    return None


@case("capture/extra.py:require_capture_extra", "", "no torch: it is installed")
def no_torch(folder: Path) -> Attempts:
    """The model cannot run."""
    model = model_at(folder / "model")
    with patch("ripple_place.capture.extra.find_spec", without_torch):
        yield lambda: captured(model)
    with patch("ripple_place.capture.extra.find_spec", lambda name: name):
        yield lambda: captured(model)


@case("capture/logits.py:check_can_run", "the capture extra", "no torch for --logits: it is installed")
def no_torch_for_logits(folder: Path) -> Attempts:
    """The two models cannot run."""
    model = model_at(folder / "model")
    with patch("ripple_place.capture.extra.find_spec", without_torch):
        yield lambda: check_can_run(model)
    with patch("ripple_place.capture.extra.find_spec", lambda name: name):
        yield lambda: check_can_run(model)


@case("capture/logits.py:check_can_run", "reorder with --format both", "an output without drop-in shards: with both")
def no_shards_for_logits(folder: Path) -> Attempts:
    """The bundled file is not for transformers."""
    with patch("ripple_place.capture.extra.find_spec", lambda name: name):
        yield lambda: check_can_run(folder)
        yield lambda: check_can_run(model_at(folder / "out"))


# Captures beside a profile.


def captured(*models: Path, params: CaptureParams | None = None, **options: Any) -> None:
    """Record a trace; nothing but the running of the model is left out."""
    defaults = {"earlier": None, "append": False, "force": False}
    params = params or CaptureParams(("text",), WINDOWS, ActivityRule("relu"))
    with patch.object(source, "run_capture", lambda *_, **__: None):
        capture_source(models, params, models[0].parent / "p", track=no_track, **(defaults | options))


def with_extra(attempts: Attempts) -> Iterator[object]:
    """Make attempts where torch is installed, or seems to be."""
    with patch.object(source, "require_capture_extra", lambda model: None):
        yield from attempts


def beside(words: str, story: str) -> Any:
    """Return a decorator of a scene that captures beside a profile."""

    def enlist(scene: Any) -> Any:
        @case(f"capture/source.py:{words.partition('|')[0]}", words.partition("|")[2], story)
        def running(folder: Path) -> Attempts:
            yield from with_extra(scene(folder))

        return running

    return enlist


def trace_by(rule: str, **metadata: str) -> ActivationTrace:
    """Return a trace that was recorded by some rule."""
    block = BlockTrace(8, np.ones((3, 1), np.uint8))
    return ActivationTrace({"layers.0": block}, 3, np.zeros(1, np.int64), None, {"activity": rule, **metadata})


@beside("_model_and_params|a directory without", "a directory of traces: a trace, or a model with its config")
def directory_of_traces(folder: Path) -> Attempts:
    """It has no config."""
    model = model_at(folder / "model")
    (model / "config.json").rename(folder / "elsewhere")
    yield lambda: captured(model)
    (folder / "elsewhere").rename(model / "config.json")
    yield lambda: captured(model)


@beside("_model_and_params|several models", "two models: one")
def two_models(folder: Path) -> Attempts:
    """Their traces cannot be joined."""
    models = [model_at(folder / name) for name in ("a", "b")]
    yield lambda: captured(*models)
    yield lambda: captured(models[1])


@beside("_model_and_params|a model and no text", "a model and no text: with one")
def model_without_text(folder: Path) -> Attempts:
    """Nothing to run it on."""
    model = model_at(folder / "model")
    run = partial(capture_source, [model], out=folder / "p", earlier=None, append=False, force=False, track=no_track)
    with patch.object(source, "run_capture", lambda *_, **__: None):
        yield lambda: run(params=None)
        yield lambda: captured(model)


@beside("capture_source|a profile by the rule", "a profile by another rule: by the same, or another profile")
def another_rule(folder: Path) -> Attempts:
    """Rows by two rules are not comparable."""
    model = model_at(folder / "model")
    yield lambda: captured(model, earlier=trace_by("teal=50%"), append=True)
    yield lambda: captured(model, earlier=trace_by("relu"), append=True)
    yield lambda: captured(model)


@beside("capture_source|no interrupted capture", "something else where rows are written: moved away")
def something_in_the_way(folder: Path) -> Attempts:
    """A directory of the user's."""
    model = model_at(folder / "model")
    (folder / "p.partial").mkdir()
    (folder / "p.partial" / "notes").write_text("mine")
    yield lambda: captured(model)
    (folder / "p.partial").rename(folder / "elsewhere")
    yield lambda: captured(model)


@beside("capture_source|an interrupted capture; none", "an interrupted capture: gone on with, or begun anew")
def interrupted(folder: Path) -> Attempts:
    """Its rows are worth hours."""
    model = model_at(folder / "model")
    TraceWriter(folder / "p.partial", {}, resume=False)
    yield lambda: captured(model)
    yield lambda: captured(model, append=True)
    yield lambda: captured(model, force=True)


@case("capture/source.py:fitted_thresholds", "", "a profile whose thresholds are no numbers: recorded again")
def bad_thresholds(folder: Path) -> Attempts:
    """Somebody edited them."""
    yield lambda: fitted_thresholds("p", trace_by("teal=50%", thresholds='{"layers.0": "x"}'))
    yield lambda: fitted_thresholds("p", trace_by("teal=50%", thresholds='{"layers.0": 0.5}'))


# What an interrupted capture left.


@case("capture/writer.py:TraceWriter._restore", "", "a capture of another text: the same text, or begun anew")
def another_text(folder: Path) -> Attempts:
    """It is gone on with by other options."""
    TraceWriter(folder / "w", {"text": "a"}, resume=False)
    yield lambda: TraceWriter(folder / "w", {"text": "b"}, resume=True)
    yield lambda: TraceWriter(folder / "w", {"text": "a"}, resume=True)
    yield lambda: TraceWriter(folder / "w", {"text": "b"}, resume=False)


@case("capture/writer.py:read_state", "", "a damaged state: begun anew")
def damaged_state(folder: Path) -> Attempts:
    """The disk was full."""
    TraceWriter(folder / "w", {}, resume=False)
    (folder / "w" / STATE_FILE).write_text("{")
    yield lambda: TraceWriter(folder / "w", {}, resume=True)
    yield lambda: TraceWriter(folder / "w", {}, resume=False)
    yield lambda: read_state(folder / "w")


# What transformers does not load; walked where it is installed.

_LOADING, _MODEL = "capture/loading.py", "capture/model.py"


def tiny(folder: Path) -> Path:
    """Write a Llama with a tokenizer, and a text beside it."""
    from tests.torch.capture_models import CAUSAL, write_model, write_text

    write_text(folder / "text")
    return write_model(folder / "model", CAUSAL["llama"]())


def recorded(model: Path, *, by_layer: bool = False, rule: str = "relu", **more: Any) -> None:
    """Record a trace of a model."""
    from ripple_place.capture.run import run_capture

    shutil.rmtree(model.with_name("work"), ignore_errors=True)
    texts = (model.with_name("text"),)
    params = CaptureParams(texts, WINDOWS, ActivityRule.parse(rule), layer_by_layer=by_layer, **more)
    run_capture(model, params, model.with_name("work"), resume=False, thresholds=None, track=no_track)


OWN_CODE = "recorded with code of one's own"


def profiled_own(folder: Path) -> None:
    """Profile a trace that was recorded by other means."""
    run("profile", trace_at(folder / "own.trace"), "--out", folder / "profile", "--no-verdict")


def with_torch(where: str, words: str, story: str, *, untried: str = "") -> Any:
    """Return a decorator of a scene that needs transformers."""
    return case(where, words, story, untried=untried, needs_torch=True)


@with_torch(f"{_LOADING}:loading_error", "install the package", "a missing package: it is installed")
def missing_package(folder: Path) -> Attempts:
    """A quantised model's, say."""
    import transformers

    model = tiny(folder)

    def fail(*_: object, **__: object) -> None:
        raise ImportError("requires optimum (`pip install optimum`)")

    with patch.object(transformers.LlamaForCausalLM, "from_pretrained", fail):
        yield lambda: recorded(model)
    yield lambda: recorded(model)


@with_torch(f"{_LOADING}:loading_error", "brings code", f"code of a model's own: {OWN_CODE}")
def remote_code(folder: Path) -> Attempts:
    """It is not run."""
    model = tiny(folder)
    (model / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "a.B"}}))
    yield lambda: recorded(model)
    yield lambda: profiled_own(folder)


@with_torch(f"{_LOADING}:loading_error", "update transformers", f"a model that is not known: {OWN_CODE}")
def new_architecture(folder: Path) -> Attempts:
    """The installed transformers does not know it."""
    model = tiny(folder)
    (model / "config.json").write_text('{"model_type": "mine"}')
    yield lambda: recorded(model)
    yield lambda: profiled_own(folder)


@with_torch(f"{_LOADING}:loading_error", "as a language model", f"a vision model: {OWN_CODE}")
def vision_model(folder: Path) -> Attempts:
    """It writes no text."""
    import transformers

    model = tiny(folder)
    config = transformers.ViTConfig(
        hidden_size=32, num_attention_heads=4, intermediate_size=64, num_hidden_layers=1, image_size=16, patch_size=8
    )
    transformers.ViTModel(config).save_pretrained(model)
    config.architectures = None
    config.save_pretrained(model)
    yield lambda: recorded(model)
    yield lambda: profiled_own(folder)


@with_torch(f"{_LOADING}:loading_error", "see what from_pretrained", "a config with a mistake: corrected, as it says")
def config_with_a_mistake(folder: Path) -> Attempts:
    """Heads that do not divide the hidden state."""
    model = tiny(folder)
    whole = (model / "config.json").read_text()
    (model / "config.json").write_text(json.dumps(json.loads(whole) | {"hidden_act": "none such"}))
    yield lambda: recorded(model)
    (model / "config.json").write_text(whole)


@with_torch(f"{_LOADING}:tokenizer_error", "copy those of its base", "no tokenizer: that of the base model")
def no_tokenizer(folder: Path) -> Attempts:
    """A model that was trained further, saved alone."""
    model = tiny(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).rename(folder / name)
    yield lambda: recorded(model)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).rename(model / name)


@with_torch(f"{_LOADING}:tokenizer_error", "sentencepiece", "SentencePiece alone", untried="it installs two packages")
def sentencepiece_alone(folder: Path) -> Attempts:
    """Without the package that reads it."""
    model = tiny(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).unlink()
    (model / "tokenizer.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    with patch("ripple_place.capture.loading._is_installed", lambda name: False):
        yield lambda: recorded(model)


@with_torch(f"{_LOADING}:missing_tensor", "", "a tensor that is missing: a copy with it, or a config without its layer")
def tensor_that_is_missing(folder: Path) -> Attempts:
    """Transformers would draw it at random."""
    from safetensors.torch import load_file, save_file

    model = tiny(folder)
    file = model / "model.safetensors"
    whole = file.read_bytes()
    save_file(
        {name: t for name, t in load_file(file).items() if "layers.2.self_attn.q" not in name}, file, {"format": "pt"}
    )
    yield lambda: recorded(model)
    file.write_bytes(whole)


@with_torch(f"{_MODEL}:_named_weights", "", "shards without an index: layer by layer")
def shards_without_index(folder: Path) -> Attempts:
    """Transformers needs one."""
    from tests.torch.capture_models import CAUSAL, write_model, write_text

    write_text(folder / "text")
    model = write_model(folder / "model", CAUSAL["llama"](), max_shard_size="40KB")
    (model / "model.safetensors.index.json").unlink()
    yield lambda: recorded(model)
    yield lambda: recorded(model, by_layer=True)


# What `reorder` would refuse, and what cannot be seen.

_CHOICE = "capture/site_choice.py"


@with_torch(f"{_CHOICE}:_with_remedy", "", "torch files: converted, or profiled for other uses")
def torch_files(folder: Path) -> Attempts:
    """Their headers say nothing of blocks."""
    import torch
    from safetensors.torch import load_file

    model = tiny(folder)
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").rename(folder / "elsewhere")
    yield lambda: recorded(model)
    yield lambda: recorded(model, allow_unsupported=True)
    (folder / "elsewhere").rename(model / "model.safetensors")
    yield lambda: recorded(model, by_layer=True)


@with_torch(f"{_CHOICE}:choose_sites", "reads {}", f"a model that hears: {OWN_CODE}")
def model_that_hears(folder: Path) -> Attempts:
    """Text is not what it reads."""
    import transformers

    model = tiny(folder)
    with patch.object(transformers.LlamaForCausalLM, "main_input_name", "input_features"):
        yield lambda: recorded(model)
    yield lambda: profiled_own(folder)


@with_torch(f"{_CHOICE}:choose_sites", "a tower of its own", f"a model of two towers: {OWN_CODE}")
def model_of_two_towers(folder: Path) -> Attempts:
    """It compares images with text."""
    from tests.torch.models import CONFIGS, save_random

    model = tiny(folder)
    (model / "model.safetensors").unlink()
    save_random(CONFIGS["clip"](), model)
    yield lambda: recorded(model)
    yield lambda: profiled_own(folder)


@with_torch(f"{_CHOICE}:choose_sites", "every block", "experts of an unknown kind: the other blocks alone")
def experts_of_an_unknown_kind(folder: Path) -> Attempts:
    """The shared experts can be seen."""
    from tests.torch.capture_models import CAUSAL, write_model, write_text

    write_text(folder / "text")
    model = write_model(folder / "model", CAUSAL["qwen2-moe"]())
    with patch("ripple_place.capture.described_sites.experts_around", lambda path, modules: None):
        yield lambda: recorded(model)
        yield lambda: recorded(model, allow_unsupported=True)


# What only the whole model can do.


def of_family(name: str) -> Any:
    """Return a decorator of a scene that profiles a model of `tests.torch.models`, whose text is `folder / "text"`."""

    def enlist(scene: Any) -> Any:
        def running(folder: Path) -> Attempts:
            from tests.torch.models import CONFIGS, save_random

            model = tiny(folder)
            (model / "model.safetensors").unlink()
            config = CONFIGS[name]()
            config.hidden_act = "relu"
            save_random(config, model)
            with patch("ripple_place.capture.layerwise.same", lambda first, second: name != "llama"):
                yield from scene(model)

        return running

    return enlist


@with_torch("capture/layerwise.py:layer_lists", "rescales", "RWKV layer by layer: all at once")
@of_family("rwkv")
def weights_that_change(model: Path) -> Attempts:
    """It halves the weights of some layers first."""
    yield lambda: recorded(model, by_layer=True)
    yield lambda: recorded(model)


@with_torch("capture/layerwise.py:_LayerRun._check_dependence", "", "layers that need more than the last: all at once")
@of_family("llama")
def layers_that_need_more(model: Path) -> Attempts:
    """A model with connections past its layers."""
    yield lambda: recorded(model, by_layer=True)
    yield lambda: recorded(model)


@with_torch("capture/recorder.py:Recorder.fit", "", "a threshold for layers that share weights: all at once")
@of_family("albert")
def threshold_of_shared_weights(model: Path) -> Attempts:
    """It is fitted on all of them."""
    yield lambda: recorded(model, by_layer=True, rule="teal=50%")
    yield lambda: recorded(model, rule="teal=50%")


@with_torch("capture/recorder.py:Recorder._record_again", "", "magnitudes of layers that share weights: none")
@of_family("albert")
def magnitudes_of_shared_weights(model: Path) -> Attempts:
    """A neuron has several for a token."""
    yield lambda: recorded(model, magnitudes=True)
    yield lambda: recorded(model)


@with_torch("capture/layerwise.py:layer_lists", "outside of any list", "FFNs outside of lists of layers: all at once")
@of_family("opt")
def layers_in_no_list(model: Path) -> Attempts:
    """There is nothing to run one by one."""
    with patch("ripple_place.capture.layerwise._above", lambda path: []):
        yield lambda: recorded(model, by_layer=True)
        yield lambda: recorded(model)


@with_torch("capture/layer_states.py:LayerStates._stored", "", "layers that hand on something odd: all at once")
@of_family("opt")
def odd_states(model: Path) -> Attempts:
    """It cannot be kept in a file."""
    from ripple_place.capture import layerwise

    make_call = layerwise.make_call

    def make_odd(call: Any, outcomes: Any) -> None:
        make_call(call, outcomes)
        outcomes.last = {name: object() for name in outcomes.last}

    with patch.object(layerwise, "make_call", make_odd):
        yield lambda: recorded(model, by_layer=True)
        yield lambda: recorded(model)


@with_torch("capture/layer_calls.py:LayerCalls._called", "", "layers in another order for each batch: all at once")
@of_family("opt")
def layers_in_any_order(model: Path) -> Attempts:
    """What they put out cannot be told apart."""
    from ripple_place.capture.layerwise import _LayerRun

    calls = property(lambda run: ["model.decoder.layers"] * len(run.progress.get("calls", [])))
    with patch.object(_LayerRun, "calls_made", calls):
        yield lambda: recorded(model, by_layer=True)
        yield lambda: recorded(model)


@with_torch("capture/layerwise.py:_LayerRun._surprise", "", "an embedding that is read for logits alone: no score")
@of_family("opt")
def embedding_for_logits(model: Path) -> Attempts:
    """No layer has asked for it."""
    from ripple_place.capture import setup

    build = setup.models.build_skeleton

    def build_with_more(*arguments: Any, **more: Any) -> Any:
        import torch

        skeleton = build(*arguments, **more)
        embedding = skeleton.get_input_embeddings()
        skeleton.lm_head.register_forward_pre_hook(lambda head, inputs: embedding(torch.zeros(1, dtype=int)) and None)
        return skeleton

    with patch.object(setup.models, "build_skeleton", build_with_more):
        yield lambda: recorded(model, by_layer=True, rule="top-k=5")
        yield lambda: recorded(model, by_layer=True, rule="top-k=5", perplexity=False)


@with_torch("capture/tensor_names.py:TensorNames.__init__", "", "an old transformers: updated")
@of_family("opt")
def old_transformers(model: Path) -> Attempts:
    """It has no tables of names."""
    with patch.dict(sys.modules, {"transformers.conversion_mapping": None}):
        yield lambda: recorded(model)
    yield lambda: recorded(model)
