"""Routes of real mixtures, against what the models' own routers say."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open

from ripple_place.capture import model as models
from ripple_place.capture import params as params_module
from ripple_place.capture.expert_bytes import expert_bytes
from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.routed_sites import find_routed_sites
from ripple_place.capture.run import run_capture
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.errors import UnsupportedError, UsageError
from ripple_place.experts.accesses import list_accesses, unit_bytes_of
from ripple_place.trace.activation_trace import DECODE
from ripple_place.trace.files import read_trace
from ripple_place.tracking import no_track
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from tests.torch.capture_models import CAUSAL, load, write_model, write_text
from tests.torch.models import EXPERT_MODELS
from tests.trace_builders import unpack

WINDOWS = WindowParams(max_tokens=132, segment_length=44, sequence_length=16)
WITH_LOGITS = ("qwen3_moe", "mixtral", "gpt_oss", "olmoe", "qwen2_moe", "phimoe")
"""Those that put out the logits of their routers; softmax is monotonous, so their largest are the experts."""
OTHERS = ("deepseek_v3", "deepseek_v2", "glm4_moe", "ernie4_5_moe", "granitemoe", "minimax", "dbrx", "llama4", "jetmoe")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Batches of four windows."""
    monkeypatch.setattr(params_module, "BATCH_TOKENS", 64)
    monkeypatch.setattr(models, "read_tokenizer", transformers.PreTrainedTokenizerFast.from_pretrained)


def params_of(path, **more):
    """Return parameters of a capture of routes in the text beside a model."""
    return CaptureParams(
        path.with_name("text"), **{"windows": WINDOWS, "unit": "expert", "layer_by_layer": False} | more
    )


def record(path, work="work", **more):
    """Capture routes."""
    return run_capture(
        path, params_of(path, **more), path.with_name(work), resume=False, thresholds=None, track=no_track
    )


@pytest.fixture
def written(tmp_path):
    """Return what writes a tiny mixture, and a text beside it."""

    def write(family):
        write_text(tmp_path / "text")
        return write_model(tmp_path / family, EXPERT_MODELS[family]())

    return write


def windows_of(trace):
    """Return the windows in which the model saw each token: start, end, and the first that was recorded in it.

    Written again from docs/profiling.md: windows of 16 that overlap by half; the first of a segment is recorded whole,
    and the last one ends with it.
    """
    found = []
    for start in range(0, 132, 44):
        found.append((start, start + 16, start))
        for recorded in range(start + 16, start + 44, 8):
            end = min(recorded + 8, start + 44)
            found.append((end - 16, end, recorded))
    return found


def dense_weights(block):
    """Return the router's weights of a block as a matrix, and where it has some."""
    weights = np.zeros((block.n_rows, block.n_neurons), np.float32)
    row = np.repeat(np.arange(block.n_rows), np.diff(block.magnitudes.indptr))
    weights[row, block.magnitudes.indices] = block.magnitudes.values
    return weights


def by_calls(path, trace, expected_of):
    """Run the model on each window by itself; return what `expected_of` says of the logits or calls, by token."""
    model = load(path, torch.float32)
    ids = torch.from_numpy(np.array(trace.tokens)).long()
    rows = {}
    with torch.inference_mode():
        for start, end, recorded in windows_of(trace):
            for block, values in expected_of(model, ids[None, start:end]).items():
                rows.setdefault(block, []).append(values[recorded - start :])
    return {block: np.concatenate(parts) for block, parts in rows.items()}


@pytest.mark.parametrize("family", WITH_LOGITS)
def test_experts_are_those_with_the_largest_logits(written, family):
    """The model says itself what its routers put out."""
    path = written(family)
    trace = record(path).trace
    top_k = load(path).config.num_experts_per_tok

    def chosen(model, ids):
        logits = model(input_ids=ids, output_router_logits=True, use_cache=False).router_logits
        names = list(trace.blocks)
        assert len(names) == len(logits)
        masks = {}
        for name, of_layer in zip(names, logits, strict=True):
            mask = torch.zeros(of_layer.shape, dtype=torch.bool)
            masks[name] = mask.scatter(1, of_layer.topk(top_k).indices, value=True).numpy()
        return masks

    expected = by_calls(path, trace, chosen)
    assert trace.blocks.keys() == expected.keys()
    for name, block in trace.blocks.items():
        np.testing.assert_array_equal(unpack(block), expected[name])


def test_weights_are_those_of_the_router(written):
    """Mixtral: softmax over all experts, of which the two largest are scaled to sum 1."""
    path = written("mixtral")
    trace = record(path).trace

    def weights(model, ids):
        logits = model(input_ids=ids, output_router_logits=True, use_cache=False).router_logits
        found = {}
        for name, of_layer in zip(trace.blocks, logits, strict=True):
            largest = of_layer.float().softmax(-1).topk(2)
            scaled = largest.values / largest.values.sum(-1, keepdim=True)
            found[name] = torch.zeros(of_layer.shape).scatter(1, largest.indices, scaled).numpy()
        return found

    expected = by_calls(path, trace, weights)
    for name, block in trace.blocks.items():
        np.testing.assert_allclose(dense_weights(block), expected[name], rtol=1e-5)


def test_deepseek_v3_by_its_own_gate(written):
    """DeepSeek-V3 chooses by sigmoid scores plus a bias within groups; the gate's own method says which."""
    path = written("deepseek_v3")
    trace = record(path).trace

    def chosen(model, ids):
        found, hooks = {}, []
        for layer in range(1, 3):
            mlp = model.model.layers[layer].mlp

            def see(gate, inputs, output, name=f"layers.{layer}", mlp=mlp):
                logits = output[0] if isinstance(output, tuple) else output
                scores = logits.float().sigmoid()
                biased = scores + mlp.gate.e_score_correction_bias
                index = biased.topk(2).indices
                mask = torch.zeros(scores.shape, dtype=torch.bool).scatter(1, index, value=True)
                found[name] = mask.numpy()

            hooks.append(mlp.gate.register_forward_hook(see))
        model(input_ids=ids, use_cache=False)
        for hook in hooks:
            hook.remove()
        return found

    expected = by_calls(path, trace, chosen)
    assert list(trace.blocks) == ["layers.1", "layers.2"]
    for name, block in trace.blocks.items():
        np.testing.assert_array_equal(unpack(block), expected[name])


@pytest.mark.parametrize("family", [*WITH_LOGITS, *OTHERS])
def test_every_mixture(written, family):
    """Each token goes to as many experts as the config says, with finite weights; bytes are those of the checkpoint."""
    path = written(family)
    trace = record(path).trace
    config = EXPERT_MODELS[family]()
    top_k = config.ffn_config.moe_top_k if family == "dbrx" else getattr(config, "num_experts_per_tok", None)
    top_k = config.moe_k if family == "ernie4_5_moe" else top_k
    assert trace.unit == "expert"
    assert trace.metadata["activity"] == "routed"
    assert (trace.n_tokens, trace.segment_starts.tolist()) == (132, [0, 44, 88])
    assert (trace.phases == DECODE).all()
    assert trace.blocks
    for block in trace.blocks.values():
        assert (block.n_neurons, block.n_rows, block.token_index) == (4, 132, None)
        assert (unpack(block).sum(axis=1) == top_k).all()
        assert block.magnitudes is not None
    assert list_accesses(trace).items.size == 132 * top_k * len(trace.blocks)
    on_disk = {}
    for file in path.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            on_disk |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    parts = ("experts.", "block_sparse_moe.input_linear", "block_sparse_moe.output_linear", "mlp.input_linear",
             "mlp.output_linear")  # fmt: skip
    n_bytes = sum(
        tensor.nbytes for name, tensor in on_disk.items()
        if any(part in name for part in parts) and "shared" not in name and "self_attention" not in name
        and "bias_correction" not in name
    )  # fmt: skip
    assert sum(unit_bytes_of(trace).values()) * 4 == n_bytes


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
def test_every_implementation_of_experts(written, implementation):
    """Fused products of all experts get their routes by the same call as experts that run one by one."""
    path = written("qwen3_moe")
    expected = record(path, "eager").trace
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"experts_implementation": implementation}))
    trace = record(path, "other").trace
    for name, block in trace.blocks.items():
        np.testing.assert_array_equal(unpack(block), unpack(expected.blocks[name]))


def test_layer_by_layer_is_the_same(written):
    """One layer in memory at a time: the same bits and weights."""
    path = written("qwen2_moe")
    whole, layers = record(path, "a").trace, record(path, "b", layer_by_layer=True).trace
    assert list(whole.blocks) == list(layers.blocks) == ["layers.0", "layers.2"]
    for name, block in whole.blocks.items():
        np.testing.assert_array_equal(block.active, layers.blocks[name].active)
        np.testing.assert_array_equal(block.magnitudes.values, layers.blocks[name].magnitudes.values)
    assert whole.metadata == layers.metadata


def test_the_workflow(written, tmp_path):
    """A profile of routes has counts, a graph and the trace with phases; no verdict of neurons."""
    path = written("mixtral")
    report = profile(path, tmp_path / "p", ProfileParams(capture=params_of(path)))
    assert report.verdict is None
    assert report.statistics["layers.0"].n_neurons == 4
    trace = read_trace(tmp_path / "p")
    assert (trace.phases == DECODE).all()
    assert unit_bytes_of(trace) == dict.fromkeys(trace.blocks, 3 * 32 * 80 * 4)
    write_text(tmp_path / "text", seed=1)
    again = profile(path, tmp_path / "p", ProfileParams(capture=params_of(path), append=True))
    assert again.n_tokens == 264
    assert unit_bytes_of(read_trace(tmp_path / "p")) == unit_bytes_of(trace)


def test_half_precision_counts_its_bytes(tmp_path):
    """Bytes are those on disk, whatever the model computes in."""
    write_text(tmp_path / "text")
    path = write_model(tmp_path / "m", EXPERT_MODELS["gpt_oss"](), dtype=torch.bfloat16)
    trace = record(path).trace
    width, hidden = 80, 32
    n_bytes = 2 * (hidden * 2 * width + 2 * width + width * hidden + hidden)
    assert unit_bytes_of(trace) == dict.fromkeys(trace.blocks, n_bytes)


def test_models_that_are_refused(tmp_path):
    """Dense models have no experts; some mixtures route in a way of their own."""
    write_text(tmp_path / "text")
    path = write_model(tmp_path / "dense", CAUSAL["llama"]())
    with pytest.raises(UnsupportedError, match="a model without experts"):
        record(path)
    config = transformers.SwitchTransformersConfig(
        vocab_size=96, d_model=32, d_kv=8, d_ff=80, num_layers=2, num_heads=4, num_experts=4,
        num_sparse_encoder_layers=1, num_decoder_layers=2, num_sparse_decoder_layers=1,
    )  # fmt: skip
    model = transformers.SwitchTransformersForConditionalGeneration(config)
    with pytest.raises(UnsupportedError, match="routes in a way of its own"):
        find_routed_sites(model, tmp_path)
    with pytest.raises(UsageError, match="--importance"):
        params_of(path, importance=True)


def test_bytes_without_headers(written):
    """Weights in another format: no bytes are known, rather than wrong ones."""
    path = written("mixtral")
    checkpoint = Checkpoint.open(path)
    model = load(path)
    sites = find_routed_sites(model, path)
    assert expert_bytes(model, sites, ()) == {}
    assert len(expert_bytes(model, sites, tuple(checkpoint.shards.values()))) == 3
