"""LoRA adapters in models that run, against W x + s B (A x) computed in two products."""

import json
import re

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from ripple_place.capture import model as models
from ripple_place.capture.importance import measure_importance
from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.run import run_capture
from ripple_place.capture.setup import set_up
from ripple_place.cli.main import cli
from ripple_place.errors import CheckpointError, UnsupportedError, UsageError
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.trace.dip import split_density
from ripple_place.trace.files import read_trace, write_trace
from ripple_place.tracking import no_track
from tests.torch.capture_models import CAUSAL, load, write_model, write_text
from tests.torch.lora_adapters import adapt_by_hooks, products_of, root_scale, write_adapter, write_lora
from tests.trace_builders import unpack

WINDOWS = WindowParams(max_tokens=132, segment_length=44, sequence_length=16)
ONE_WINDOW = WindowParams(max_tokens=16, segment_length=16, sequence_length=16)
SIZES = ["--max-tokens", "132", "--segment-length", "44", "--sequence-length", "16"]
IDS = torch.arange(24)[None] * 7 % 80


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Qwen2's own tokenizer class knows no words."""
    monkeypatch.setattr(models, "read_tokenizer", transformers.PreTrainedTokenizerFast.from_pretrained)


def model_at(tmp_path, family="llama", **more):
    """Write a model, and a text beside it."""
    write_text(tmp_path / "text")
    return write_model(tmp_path / "model", CAUSAL[family](**more))


def adapter_at(path, *modules, **config):
    """Write an adapter of a model beside it; return its path."""
    return write_lora(path.with_name("adapter"), load(path), *modules, **config)


def set_up_with(path, adapter, **more):
    """Return the model with the adapter applied, ready to run."""
    params = {"windows": WINDOWS, "dtype": "float64", "layer_by_layer": False, "device": "cpu", **more}
    return set_up(path, CaptureParams(path.with_name("text"), adapter=adapter, **params), None)


def record(path, directory, *, rule="relu", resume=False, **more):
    """Record a trace."""
    params = {"windows": WINDOWS, "rule": ActivityRule.parse(rule), "device": "cpu", **more}
    params = CaptureParams(path.with_name("text"), **params)
    return run_capture(path, params, directory, resume=resume, thresholds=None, track=no_track)


def logits(model):
    """Return a model's logits on fixed tokens."""
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("family", ["llama", "opt", "gpt2", "phi3"])
def test_two_products(family, tmp_path):
    """Whatever holds the weights: linear layers, transposed ones, and fused ones; biases stay."""
    path = model_at(tmp_path, family)
    adapter = adapter_at(path)
    setup = set_up_with(path, adapter)
    assert len(setup.adapter.additions) == len(products_of(adapter))
    expected = logits(adapt_by_hooks(load(path), adapter))
    torch.testing.assert_close(logits(setup.whole), expected, rtol=1e-12, atol=1e-12)
    assert (expected - logits(load(path))).abs().max() > 0.1


@pytest.mark.parametrize("family", ["qwen2-moe", "mixtral"])
def test_experts_that_are_no_modules_leave_the_rest(family, tmp_path):
    """Attention, and experts that all tokens reach, can be adapted."""
    path = model_at(tmp_path, family)
    adapter = adapter_at(path, r"(q_proj|shared_expert\.\w+_proj)")
    found = logits(set_up_with(path, adapter, dtype="float32").whole)
    torch.testing.assert_close(found, logits(adapt_by_hooks(load(path, torch.float32), adapter)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "rank", "scale"),
    [
        ({"use_rslora": True}, 3, root_scale),
        (
            {
                "rank_pattern": {"down_proj": 5, r"layers\.1\..*up_proj": 4},
                "alpha_pattern": {"^model.layers.2.mlp.down_proj": 1.5, ".*proj": 7},
            },
            lambda name: 5 if name.endswith("down_proj") else 4 if name.endswith("layers.1.mlp.up_proj") else 3,
            lambda name, rank: (1.5 if name == "model.layers.2.mlp.down_proj" else 7) / rank,
        ),
        # The end of a name, from a dot on.
        ({"alpha_pattern": {"proj": 9, "own_proj": 9, "mlp": 9, "layers.0": 9}}, 3, lambda name, rank: 6 / rank),
    ],
    ids=["rslora", "patterns", "patterns of nothing"],
)
def test_scales(config, rank, scale, tmp_path):
    """By the root of the rank, and by patterns of names, the first that fits."""
    path = model_at(tmp_path)
    adapter = adapter_at(path, rank=rank, **config)
    expected = logits(adapt_by_hooks(load(path), adapter, scale))
    torch.testing.assert_close(logits(set_up_with(path, adapter).whole), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_width(dtype, tmp_path):
    """The sum is made in float32 and rounded once."""
    path = model_at(tmp_path)
    adapter = adapter_at(path)
    whole = set_up_with(path, adapter, dtype=dtype).whole
    plain = load(path, getattr(torch, dtype))
    for module, (a, b) in products_of(adapter).items():
        exact = plain.get_submodule(module).weight.double() + 2 * b.double() @ a.double()
        torch.testing.assert_close(whole.get_submodule(module).weight, exact.to(getattr(torch, dtype)))


def test_a_head_that_shares_its_weights(tmp_path):
    """The embeddings stay as they are, whichever way the model runs."""
    path = model_at(tmp_path, "qwen2")
    adapter = adapter_at(path, "(lm_head|up_proj)")
    assert "base_model.model.lm_head.lora_A.weight" in load_file(adapter / "adapter_model.safetensors")
    whole, plain = set_up_with(path, adapter).whole, load(path)
    torch.testing.assert_close(logits(whole), logits(adapt_by_hooks(plain, adapter)), rtol=1e-12, atol=1e-12)
    assert torch.equal(whole.get_input_embeddings().weight, plain.get_input_embeddings().weight)


def test_names_without_the_prefix_of_the_base_model(tmp_path):
    """As an adapter has them that was trained on AutoModel; transformers reads checkpoints of that kind, too."""
    path = model_at(tmp_path)
    adapter = adapter_at(path)
    expected = logits(adapt_by_hooks(load(path), adapter))
    tensors = load_file(adapter / "adapter_model.safetensors")
    short = {name.replace("base_model.model.model.", "base_model.model."): tensor for name, tensor in tensors.items()}
    write_adapter(adapter, short, {"r": 3, "lora_alpha": 6})
    torch.testing.assert_close(logits(set_up_with(path, adapter).whole), expected, rtol=1e-12, atol=1e-12)


def test_nothing_added_changes_nothing(tmp_path):
    """With B = 0 the model is the one without, bit for bit, and so is its trace."""
    path = model_at(tmp_path)
    adapter = adapter_at(path, zero=True)
    for dtype in ("float32", "bfloat16"):
        setup = set_up_with(path, adapter, dtype=dtype)
        assert torch.equal(logits(setup.whole), logits(load(path, getattr(torch, dtype))))
    traces = [
        record(
            path, tmp_path / f"work{i}", adapter=given, magnitudes=True, rule="top-k=30%", layer_by_layer=False
        ).trace
        for i, given in enumerate((None, adapter))
    ]
    for name, block in traces[0].blocks.items():
        np.testing.assert_array_equal(block.active, traces[1].blocks[name].active)
        np.testing.assert_array_equal(block.magnitudes.values, traces[1].blocks[name].magnitudes.values)


def largest(x, share):
    """Keep the largest entries of each token, and put zero in place of the others."""
    kept = x.abs().topk(int(share * x.shape[-1]), dim=-1).indices
    return torch.zeros_like(x).scatter(-1, kept, x.gather(-1, kept))


def test_the_adapter_sees_the_pruned_columns(tmp_path):
    """With DIP's masks, W x' + s B (A x'): what enters gate and down, and thereby all that follows, is the same."""
    path = model_at(tmp_path, hidden_act="silu")
    adapter = adapter_at(path)
    options = {"rule": "dip=0.5", "unit": "column", "magnitudes": True, "dtype": "float64", "windows": ONE_WINDOW}
    trace = record(path, tmp_path / "work", adapter=adapter, layer_by_layer=False, **options).trace
    inputs, down = split_density(0.5)
    entered = {}

    def masked(name, x):
        if "mlp" not in name:
            return x
        entered[name] = largest(x, down if name.endswith("down_proj") else inputs)
        return entered[name]

    model = adapt_by_hooks(load(path), adapter, masked=masked)
    with torch.no_grad():
        model(torch.tensor(trace.tokens[None].astype(np.int64)))
    for layer in range(3):
        for block, module in ((f"layers.{layer}.input", "gate_proj"), (f"layers.{layer}", "down_proj")):
            expected = entered[f"model.layers.{layer}.mlp.{module}"][0].numpy()
            found, kept = trace.blocks[block].magnitudes, np.zeros_like(expected)
            rows = np.repeat(np.arange(16), np.diff(found.indptr))
            kept[rows, found.indices] = found.values
            np.testing.assert_array_equal(kept != 0, expected != 0)
            np.testing.assert_allclose(kept, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "modules", "dtype"),
    [
        ("llama", ".*", "float32"), ("llama", ".*_proj", "bfloat16"), ("opt", ".*", "float32"),
        ("gpt2", ".*", "float32"), ("phi3", ".*_proj", "float32"), ("qwen2", ".*", "float32"),
        ("qwen2-moe", "(q_proj|shared_expert.*)", "float32"),
    ],
)  # fmt: skip
def test_layer_by_layer_is_the_same(family, modules, dtype, tmp_path):
    """Products are added as weights are loaded: the same trace and perplexity, bit for bit, heads included."""
    path = model_at(tmp_path, family)
    adapter = adapter_at(path, modules)
    for by_layer in (False, True):
        options = {"rule": "top-k=30%", "magnitudes": True, "dtype": dtype, "adapter": adapter}
        done = record(path, tmp_path / f"work{by_layer}", layer_by_layer=by_layer, **options)
        write_trace(tmp_path / f"trace{by_layer}", done.trace)
    assert (tmp_path / "traceFalse").read_bytes() == (tmp_path / "traceTrue").read_bytes()
    label = read_trace(tmp_path / "traceTrue").metadata["adapter"]
    assert re.fullmatch(r"adapter@[0-9a-f]{12}", label)


def merged_at(path, adapter):
    """Write the model with the adapter merged into it, as peft does; return its path."""
    model = load(path)
    for module, (a, b) in products_of(adapter).items():
        model.get_submodule(module).weight.data += 2 * b.double() @ a.double()
    merged = write_model(path.with_name("merged"), model.config)
    model.save_pretrained(merged)
    return merged


def test_importance(tmp_path):
    """It is that of the merged model."""
    path = model_at(tmp_path)
    adapter = adapter_at(path)
    ways = ((path, adapter), (merged_at(path, adapter), None), (path, None))
    setups = [set_up_with(model, given, sensitivity=True) for model, given in ways]
    found, merged, plain = (measure_importance(setup, no_track) for setup in setups)
    for name, values in merged.values.items():
        np.testing.assert_allclose(found.values[name], values, rtol=1e-5)
        np.testing.assert_allclose(found.sensitivities[name], merged.sensitivities[name], rtol=1e-3, atol=1e-5)
        assert not np.allclose(plain.values[name], values, rtol=1e-2)


# What is refused.

UP = "base_model.model.model.layers.0.mlp.up_proj"


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"use_dora": True}, "use_dora: DoRA"),
        ({"lora_bias": True}, "lora_bias: biases of B"),
        ({"bias": "lora_only"}, "bias 'lora_only'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"ensure_weight_tying": True}, "ensure_weight_tying"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"target_parameters": ["x"]}, "target_parameters"),
        ({"alora_invocation_tokens": [1]}, "aLoRA"),
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING"),
    ],
)
def test_adapters_that_do_more(config, found, tmp_path):
    """Whatever is not a product that is added to a weight, by the config."""
    path = model_at(tmp_path)
    adapter = adapter_at(path, **config)
    with pytest.raises(UnsupportedError, match=re.escape(found)) as error:
        set_up_with(path, adapter)
    is_merged = "merge_and_unload" in error.value.remedy
    assert is_merged == (config.get("peft_type") != "PROMPT_TUNING" and "alora_invocation_tokens" not in config)


ONE = torch.ones


@pytest.mark.parametrize(
    ("tensors", "config", "error", "found"),
    [
        ({f"{UP}.lora_magnitude_vector": ONE(76)}, {}, UnsupportedError, "neither lora_A nor lora_B"),
        ({f"{UP}.lora_B.bias": ONE(76)}, {}, UnsupportedError, "lora_B.bias: found a tensor that is neither"),
        ({"base_model.model.lm_head.weight": ONE(96, 32)}, {}, UnsupportedError, "weights of the base model"),
        ({f"{UP}.lora_A.weight": ONE(3, 32)}, {}, CheckpointError, "up_proj: found lora_A alone"),
        ({f"{UP}.lora_A.weight": ONE(3, 32, 1)}, {}, CheckpointError, "shape [3, 32, 1]"),
        ({f"{UP}.lora_A.weight": ONE(3, 32).int()}, {}, CheckpointError, "I32 of shape"),
        (
            {f"{UP}.lora_A.weight": ONE(3, 32), f"{UP}.lora_A.default.weight": ONE(3, 32)},
            {},
            CheckpointError,
            "a second one of its module",
        ),
        ({}, {"r": 4}, CheckpointError, "expected rank 4 in both"),
        ({}, {"r": "4"}, CheckpointError, "r: found '4'"),
        ({}, {"lora_alpha": float("nan")}, CheckpointError, "lora_alpha"),
        ({}, {"alpha_pattern": {"up_proj": None}}, CheckpointError, "alpha_pattern: found None"),
        ({}, {"rank_pattern": {"(": 1}}, CheckpointError, "rank_pattern"),
        ({}, {"rank_pattern": [1]}, CheckpointError, "rank_pattern"),
    ],
)
def test_adapters_that_do_not_fit_themselves(tensors, config, error, found, tmp_path):
    """Every tensor is used, or the run is refused; so are numbers that are none."""
    path = model_at(tmp_path)
    pair = {f"{UP}.lora_A.weight": ONE(3, 32), f"{UP}.lora_B.weight": ONE(76, 3)}
    write_adapter(tmp_path / "adapter", tensors or pair, {"r": 3, **config})
    with pytest.raises(error, match=re.escape(found)):
        set_up_with(path, tmp_path / "adapter")


@pytest.mark.parametrize(
    ("family", "module", "shape", "error", "found"),
    [
        (
            "llama",
            "model.layers.7.mlp.up_proj",
            (76, 32),
            CheckpointError,
            "layers.7.mlp.up_proj: found no such module",
        ),
        ("llama", "model.layers.0.mlp.upproj", (76, 32), CheckpointError, "expected a module of LlamaForCausalLM"),
        ("llama", "model.layers.0.mlp.up_proj", (32, 76), CheckpointError, "a product of shape (32, 76)"),
        ("gpt2", "transformer.h.0.mlp.c_fc", (32, 76), CheckpointError, "expected one of shape (32, 76)"),
        ("llama", "model.embed_tokens", (96, 32), UnsupportedError, "found a Embedding"),
        ("llama", "model.norm", (32, 32), UnsupportedError, "found a LlamaRMSNorm"),
        ("mixtral", "model.layers.0.block_sparse_moe.experts.1.w1", (76, 32), UnsupportedError, "holds fused"),
        ("qwen2-moe", "model.layers.0.mlp.experts.1.up_proj", (20, 32), UnsupportedError, "holds fused"),
        ("qwen2-moe", "model.layers.0.mlp.experts", (20, 32), UnsupportedError, "found a Qwen2MoeExperts"),
    ],
)
def test_adapters_that_do_not_fit_the_model(family, module, shape, error, found, tmp_path):
    """Other modules, other shapes, and modules that are no linear layers."""
    path = model_at(tmp_path, family)
    sides = {"lora_A": ONE(3, shape[1]), "lora_B": ONE(shape[0], 3)}
    tensors = {f"base_model.model.{module}.{side}.weight": matrix for side, matrix in sides.items()}
    write_adapter(tmp_path / "adapter", tensors, {"r": 3})
    with pytest.raises(error, match=re.escape(found)):
        set_up_with(path, tmp_path / "adapter", dtype="float32")


def test_two_names_of_one_module(tmp_path):
    """With and without the base model's prefix."""
    path = model_at(tmp_path)
    sides = {"lora_A": ONE(3, 32), "lora_B": ONE(76, 3)}
    names = ("model.layers.0.mlp.up_proj", "layers.0.mlp.up_proj")
    tensors = {f"base_model.model.{name}.{side}.weight": sides[side].clone() for name in names for side in sides}
    write_adapter(tmp_path / "adapter", tensors, {"r": 3})
    with pytest.raises(CheckpointError, match="a second adapter of its weight"):
        set_up_with(path, tmp_path / "adapter")


def test_a_quantised_model(tmp_path):
    """There is nothing to add to."""
    path = model_at(tmp_path)
    adapter = adapter_at(path)
    config = json.loads((path / "config.json").read_text())
    own = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    (path / "config.json").write_text(json.dumps(config | {"quantization_config": own}))
    with pytest.raises(UnsupportedError, match="quantised weights"):
        set_up_with(path, adapter, allow_unsupported=True)


@pytest.mark.parametrize("by_layer", [False, True])
def test_an_interrupted_capture(by_layer, tmp_path):
    """It goes on with the same adapter only."""
    path = model_at(tmp_path)
    adapter, other = adapter_at(path), write_lora(tmp_path / "other", load(path), seed=1)
    record(path, tmp_path / "work", adapter=adapter, layer_by_layer=by_layer)
    for changed in (None, other):
        with pytest.raises(UsageError, match="another adapter"):
            record(path, tmp_path / "work", adapter=changed, layer_by_layer=by_layer, resume=True)
    record(path, tmp_path / "work", adapter=adapter, layer_by_layer=by_layer, resume=True)


# On the command line.


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a directory with a model and two adapters of it."""
    monkeypatch.chdir(tmp_path)
    path = model_at(tmp_path)
    write_text(tmp_path / "more", seed=1)
    adapter_at(path)
    write_lora(tmp_path / "other", load(path), seed=1)
    return tmp_path


def run(*arguments):
    """Run the command line; errors are raised."""
    return cli.main([str(argument) for argument in arguments], "ripple-place", standalone_mode=False)


def test_profile(folder):
    """The profile is that of the merged model, and knows the adapter; only text that it read with it is added."""
    options = ["--no-verdict", *SIZES]
    profiled = ["profile", "model", "--text", "text", "--adapter", "adapter", *options]
    run(*profiled, "--out", "p")
    merged_at(folder / "model", folder / "adapter")
    run("profile", "merged", "--text", "text", "--out", "q", *options)
    held, expected = read_trace(folder / "p"), read_trace(folder / "q")
    for name, block in expected.blocks.items():
        assert (unpack(held.blocks[name]) != unpack(block)).mean() < 1e-3
    assert held.metadata["adapter"].startswith("adapter@")
    assert "adapter" not in expected.metadata
    more = ["profile", "model", "--text", "more", "--out", "p", "--append", *options]
    for given, found in (
        ([], "a profile with the adapter adapter@"),
        (["--adapter", "other"], "expected one with other@"),
    ):
        with pytest.raises(UsageError, match=found):
            run(*more, *given)
    with pytest.raises(UsageError, match="a profile without an adapter"):
        run("profile", "merged", "--text", "more", "--out", "q", "--append", "--adapter", "adapter", *options)
    with pytest.raises(UsageError, match="in it already"):
        run(*profiled, "--out", "p", "--append")
    (folder / "adapter").rename(folder / "renamed")
    run(*more, "--adapter", "renamed")
    assert re.fullmatch(r"adapter@(\w+) \+ renamed@\1", read_trace(folder / "p").metadata["adapter"])
    with pytest.raises(UsageError, match="expected a directory that peft saved"):
        run(*more, "--adapter", "nowhere")


@pytest.mark.parametrize(("unit", "rule"), [("neuron", "top-k=30%"), ("column", "dip=0.5")])
def test_simulate(unit, rule, folder, capsys):
    """Rules inside the adapted model cost what they cost in the merged one."""
    merged_at(folder / "model", folder / "adapter")
    options = ["--text", "text", "--layout", "original", "--unit", unit, "--select", rule, "--max-tokens", "64"]
    found = {}
    for name, more in {"model": ["--adapter", "adapter"], "merged": [], "plain": []}.items():
        run("simulate", name.replace("plain", "model"), *options, "--sequence-length", "16", *more, "--json")
        (layout,) = json.loads(capsys.readouterr().out)["layouts"]
        found[name] = layout
    assert found["model"]["nll"] == pytest.approx(found["merged"]["nll"], rel=1e-4)
    assert found["model"]["kl"] == pytest.approx(found["merged"]["kl"], rel=1e-2)
    assert found["plain"]["nll"] != pytest.approx(found["merged"]["nll"], rel=1e-3)


@pytest.mark.parametrize("command", [["profile", "t", "--out", "p"], ["simulate", "t", "--layout", "original"]])
def test_traces(command, folder):
    """They were recorded with an adapter, or without."""
    write_trace(folder / "t", record(folder / "model", folder / "work").trace)
    with pytest.raises(UsageError, match="--adapter: found traces, which were recorded before") as error:
        run(*command, "--adapter", "adapter")
    assert "leave --adapter out" in error.value.remedy
