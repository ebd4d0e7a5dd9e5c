"""What a profile records of every family that transformers builds: all that `reorder` moves."""

import hashlib
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

from ripple_place.capture import model as models
from ripple_place.capture import params as params_module
from ripple_place.capture.batches import layout_of
from ripple_place.capture.described_sites import described_sites
from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.run import run_capture
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.errors import UnsupportedError
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.trace.files import write_trace
from ripple_place.tracking import no_track
from tests.torch.models import CONFIGS, WIDTH, auto_class, save_random
from tests.torch.test_families import CASES
from tests.trace_builders import unpack

LENGTH = 12
"""Tokens of a window; the text is two segments of one window each."""
NEVER_RUN = {"mllama": ["layers.1"]}
"""Blocks that a model runs for images only."""
SHARED = ("albert", "zamba2", "zamba2-two-blocks")
"""Models of which several layers have the same weights: a neuron of theirs has no one output for a token."""
NO_READERS = ("clip", "clip_vision_model", "siglip", "siglip_vision_model", "vit", "whisper")
"""Models that see or hear."""
OWN_WAYS = ("dbrx", "jetmoe", "llama4")
"""Models whose experts do not run through transformers' common interface."""


@pytest.fixture(autouse=True)
def _numbers_for_words(monkeypatch):
    """Take texts for token ids, and each window for a batch of its own."""
    monkeypatch.setattr(
        models, "read_tokenizer", lambda path: lambda text, **_: {"input_ids": [*map(int, text.split())]}
    )
    monkeypatch.setattr(params_module, "BATCH_TOKENS", LENGTH)


@pytest.fixture
def text(tmp_path):
    """Return a text whose segments lie `LENGTH` + 11 tokens apart."""
    ids = np.random.default_rng(0).integers(3, 80, 2 * LENGTH + 12)
    (tmp_path / "text").write_text(" ".join(map(str, ids)))
    return ids


def record(path, directory, *, rule="threshold=1e-30", magnitudes=True, **more):
    """Capture two windows; by this rule the neurons that are off put out zero, or next to nothing, anyway."""
    params = CaptureParams(
        (path.parent / "text",), WindowParams(2 * LENGTH, LENGTH, LENGTH), ActivityRule.parse(rule),
        magnitudes=magnitudes, **more,
    )  # fmt: skip
    return run_capture(path, params, directory, resume=False, thresholds=None, track=no_track)


def key(weight):
    """Return a hash of a down projection: the weights of one neuron after those of the other."""
    return hashlib.sha256(np.ascontiguousarray(weight, np.float32).tobytes()).digest()


def blocks_by_weights(path):
    """Return the blocks of a checkpoint by the content of their down projections, read from the files."""
    blocks = {}
    for name, block in describe_ffn(Checkpoint.open(path)).blocks.items():
        tensor = next(tensor for tensor in block.tensors if tensor.role == "down")
        shard = Checkpoint.open(path)
        offset = shard.extent(tensor.name).offset_bytes + tensor.begin_bytes
        values = np.fromfile(shard.file_of(tensor.name), np.float32, tensor.length_bytes // 4, offset=offset)
        weight = values.reshape(tensor.n_before, tensor.n_neurons, tensor.n_after)
        blocks[key(weight.transpose(1, 0, 2).reshape(tensor.n_neurons, -1))] = name
    return blocks


class DownInputs(TorchFunctionMode):
    """Keeps whatever is multiplied by the down projection of a block, which it recognises by its weights."""

    def __init__(self, blocks):
        super().__init__()
        self.blocks, self.seen = blocks, defaultdict(list)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Look at matrix products in all the forms that models write them in."""
        name = getattr(func, "__name__", "")
        if name == "linear":
            self.look(args[0], args[1].T)
        elif name in ("matmul", "__matmul__", "addmm"):
            self.look(*args[-2:])
        elif name == "bmm":
            for x, weight in zip(*args, strict=True):
                # Llama 4 runs each expert on all positions, with zeros for those that it does not get.
                self.look(x[x.any(dim=-1)], weight)
        return func(*args, **(kwargs or {}))

    def look(self, x, weight):
        """Keep the left factor, if the right one is a down projection."""
        if weight.ndim == 2 and (name := self.blocks.get(key(weight.detach()))) is not None:
            self.seen[name].append(x.detach().reshape(-1, x.shape[-1]).numpy().copy())


def seen_directly(path, config, ids):
    """Return what the neurons of each block put out, for each window; transformers alone runs the model."""
    options = {} if config.model_type in ("jetmoe", "dbrx") else {"experts_implementation": "eager"}
    model = auto_class(config).from_pretrained(path, dtype=torch.float32, **options).eval()
    models.align_weights(model)
    blocks = blocks_by_weights(path)
    windows = []
    for start in (0, ids.size - LENGTH - 1):
        window = torch.tensor(ids[None, start : start + LENGTH])
        inputs = {"input_ids": window}
        if config.is_encoder_decoder:
            first = torch.tensor([[layout_of(config, 96).decoder_start_id]])
            half = LENGTH // 2
            inputs = {"input_ids": window[:, :half], "decoder_input_ids": torch.cat([first, window[:, half:]], 1)}
        with torch.no_grad(), DownInputs(blocks) as mode:
            model(**inputs)
        windows.append(mode.seen)
    return windows


def dense(block):
    """Return the recorded outputs of a block's neurons, one row for each token that reaches it."""
    values = np.zeros((block.n_rows, block.n_neurons), np.float32)
    if block.magnitudes is None:  # No token reached it.
        return values
    counts = np.diff(block.magnitudes.indptr)
    values[np.repeat(np.arange(block.n_rows), counts), block.magnitudes.indices] = block.magnitudes.values
    return values


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in NO_READERS])
def test_every_block(name, text, tmp_path):
    """The profile has every block that is rewritten, bit for bit what a direct hook sees, also layer by layer."""
    config = CONFIGS[name]()
    save_random(config, tmp_path / "model")
    magnitudes = name not in SHARED
    ways = {}
    for by_layer in (False, True) if name != "rwkv" else (False,):
        done = record(tmp_path / "model", tmp_path / "work", magnitudes=magnitudes, layer_by_layer=by_layer)
        write_trace(tmp_path / f"trace{by_layer}", replace(done.trace, metadata={}))
        ways[by_layer] = done
    if len(ways) == 2:
        assert (tmp_path / "traceTrue").read_bytes() == (tmp_path / "traceFalse").read_bytes()
        # from_pretrained makes the embedding of Youtu's pad token zero.
        if name != "youtu":
            assert ways[True].perplexity_without_rule == ways[False].perplexity_without_rule
    idle = NEVER_RUN.get(name, [])
    blocks = done.trace.blocks
    assert sorted([*blocks, *idle]) == sorted(describe_ffn(Checkpoint.open(tmp_path / "model")).blocks)
    assert all(any(block in note for note in done.notes) for block in idle)
    windows = seen_directly(tmp_path / "model", config, text)
    for block in blocks if magnitudes else ():
        parts = [np.concatenate(window[block]) for window in windows if block in window]
        if block.startswith("decoder.") and config.is_encoder_decoder:
            parts = [part[1:] for part in parts]  # The start token is none of the text's.
        expected = np.concatenate(parts) if parts else np.empty((0, blocks[block].n_neurons), np.float32)
        recorded = dense(blocks[block])
        if "experts" in block:
            # Transformers runs an expert's tokens in another order than ours, and one twice that it gets twice.
            expected, recorded = np.unique(expected, axis=0), np.unique(recorded, axis=0)
        np.testing.assert_array_equal(recorded, np.where(np.abs(expected) > 1e-30, expected, 0))
    assert not windows or not magnitudes or any(block.n_rows for block in blocks.values())


@pytest.mark.parametrize("name", sorted(name for name, original in CASES if not original))
def test_every_block_of_fused_checkpoints(name, tmp_path):
    """Experts that are one tensor on disk, too, are found where transformers puts them."""
    config = CONFIGS[name]()
    save_random(config, tmp_path, save_original_format=False)
    skeleton = models.build_skeleton(tmp_path, models.read_config(tmp_path), dtype="float32")
    ffn = describe_ffn(Checkpoint.open(tmp_path))
    found = described_sites(skeleton, ffn)
    assert sorted(name for site in found.sites for name in site.layouts()) == sorted(ffn.blocks)
    assert not found.unseen
    assert not found.left_out


def routed(name, layer, x):
    """Yield for each expert the rows that reach it, and what its neurons make of them; written out from the weights."""
    if name == "jetmoe":
        moe, act = layer.mlp, torch.nn.functional.silu
        chosen = linear(x, moe.router.layer.weight).topk(moe.router.top_k).indices
        gate_up, scores = moe.input_linear.weight, torch.ones(len(x), moe.router.num_experts)
    elif name == "dbrx":
        moe, act = layer.ffn, torch.nn.functional.silu
        chosen = linear(x, moe.router.layer.weight).topk(moe.top_k).indices
        gate_up = torch.cat(
            [weight.view(-1, WIDTH, x.shape[1]) for weight in (moe.experts.mlp.w1, moe.experts.mlp.v1)], 1
        )
        scores = torch.ones(len(x), len(gate_up))
    else:
        moe, act = layer.feed_forward, torch.nn.functional.silu
        logits = linear(x, moe.router.weight)
        chosen, scores = logits.topk(1).indices, logits.sigmoid()
        gate_up = moe.experts.gate_up_proj.transpose(1, 2)
    for expert, weight in enumerate(gate_up):
        rows = (chosen == expert).any(dim=1).nonzero().flatten()
        gate, up = linear(x[rows] * scores[rows, expert, None], weight).chunk(2, dim=1)
        yield expert, rows.numpy(), (act(gate) * up).numpy()


@pytest.mark.parametrize("name", OWN_WAYS)
def test_tokens_of_experts(name, text, tmp_path):
    """Where experts run in a way of their own, each row belongs to the token that was routed to the expert."""
    config = CONFIGS[name]()
    save_random(config, tmp_path / "model")
    trace = record(tmp_path / "model", tmp_path / "work").trace
    model = auto_class(config).from_pretrained(tmp_path / "model").eval()
    layers = model.transformer.blocks if name == "dbrx" else model.model.layers
    number, layer = next((i, layer) for i, layer in enumerate(layers) if f"layers.{i}.experts.0" in trace.blocks)
    inputs = []
    moe = {"jetmoe": "mlp", "dbrx": "ffn", "llama4": "feed_forward"}[name]
    getattr(layer, moe).register_forward_pre_hook(lambda module, args: inputs.append(args[0].flatten(0, -2)))
    with torch.no_grad():
        for start in (0, text.size - LENGTH - 1):
            model(torch.tensor(text[None, start : start + LENGTH]))
        for expert, rows, values in routed(name, layer, torch.cat(inputs)):
            block = trace.blocks[f"layers.{number}.experts.{expert}"]
            np.testing.assert_array_equal(block.token_index, rows)
            np.testing.assert_allclose(dense(block), values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("name", SHARED)
def test_layers_that_share_their_weights(name, by_layer, text, tmp_path):
    """ALBERT's four layers are two blocks: a token needs a neuron of one if either of its layers does."""
    config = CONFIGS[name]()
    config.hidden_act = "relu"
    save_random(config, tmp_path / "model")
    options = {"magnitudes": False, "layer_by_layer": by_layer}
    trace = record(tmp_path / "model", tmp_path / "work", rule="relu", **options).trace
    windows = seen_directly(tmp_path / "model", config, text)
    n_calls = []
    for block_name, block in trace.blocks.items():
        calls = [np.array([part != 0 for part in window[block_name]]) for window in windows]
        expected = np.concatenate([window.any(axis=0) for window in calls])
        np.testing.assert_array_equal(unpack(block), expected)
        n_calls.append(len(calls[0]))
        assert (n_calls[-1] > 1) == (expected != np.concatenate([window[0] for window in calls])).any()
    assert max(n_calls) == 2
    with pytest.raises(UnsupportedError, match="layers that share weights, in each of which"):
        record(tmp_path / "model", tmp_path / "work", rule="relu", layer_by_layer=by_layer)
    if by_layer:
        with pytest.raises(UnsupportedError, match=r"layers that share weights, and so a threshold; .* --whole-model"):
            record(tmp_path / "model", tmp_path / "work", rule="teal=50%", **options)


def edit(path, change):
    """Change the tensors of a checkpoint, which becomes one file."""
    from safetensors.torch import load_file, save_file

    tensors = {}
    for file in path.glob("*.safetensors"):
        tensors |= load_file(file)
        file.unlink()
    change(tensors)
    (path / "model.safetensors.index.json").unlink()
    save_file(tensors, path / "model.safetensors", {"format": "pt"})


def test_routing_follows_the_stored_biases(text, tmp_path):
    """DeepSeek-V3's experts are chosen by buffers of the checkpoint: with zeros in their place, others run."""
    save_random(CONFIGS["deepseek_v3"](), tmp_path / "model")

    def route_to_last(tensors):
        for name in tensors:
            if name.endswith("e_score_correction_bias"):
                tensors[name] = torch.tensor([0.0, 0.0, 5.0, 5.0])

    edit(tmp_path / "model", route_to_last)
    trace = record(tmp_path / "model", tmp_path / "work", layer_by_layer=True).trace
    assert [trace.blocks[f"layers.1.experts.{expert}"].n_rows for expert in range(4)] == [0, 0, 24, 24]


def test_layers_that_share_keys_and_values(text, tmp_path):
    """Gemma 3n's last layers take keys and values from earlier ones, which leave them in a dict for all."""
    config = CONFIGS["gemma3n"]()
    config.num_hidden_layers, config.num_kv_shared_layers = 4, 2
    config.intermediate_size, config.layer_types = [48] * 4, ["sliding_attention", "full_attention"] * 2
    config.activation_sparsity_pattern = [0.5, 0.0, 0.0, 0.0]
    save_random(config, tmp_path / "model")
    traces = {way: record(tmp_path / "model", tmp_path / "work", layer_by_layer=way).trace for way in (False, True)}
    for name, block in traces[False].blocks.items():
        np.testing.assert_array_equal(dense(traces[True].blocks[name]), dense(block))


def test_files_that_are_not_the_model(text, tmp_path):
    """Mistral puts the same weights beside the shards, under other names, in consolidated.safetensors."""
    save_random(CONFIGS["mistral"](), tmp_path / "model")
    plain = record(tmp_path / "model", tmp_path / "work", layer_by_layer=True).trace
    (tmp_path / "model" / "consolidated.safetensors").write_bytes(b"of no use")
    trace = record(tmp_path / "model", tmp_path / "work", layer_by_layer=True).trace
    for name, block in plain.blocks.items():
        np.testing.assert_array_equal(trace.blocks[name].active, block.active)


def test_layers_after_the_last(text, tmp_path):
    """DeepSeek-V3 has a layer more on disk, which predicts a second token and which transformers leaves out."""
    save_random(CONFIGS["deepseek_v3"](), tmp_path / "model")

    def add_layer(tensors):
        tensors |= {
            name.replace(".2.", ".3."): tensor.clone() for name, tensor in tensors.items() if ".layers.2." in name
        }

    edit(tmp_path / "model", add_layer)
    done = record(tmp_path / "model", tmp_path / "work")
    assert "layers.2.experts.3" in done.trace.blocks
    assert "layers.3.experts.0" not in done.trace.blocks
    assert any(
        note.startswith("layers.3.experts.0, ") and "transformers does not run them" in note for note in done.notes
    )


HEADS = {
    "BertForMaskedLM": lambda: CONFIGS["bert"](),
    "BertModel": lambda: CONFIGS["bert"](),
    "BertForSequenceClassification": lambda: CONFIGS["bert"](),
    "T5EncoderModel": lambda: CONFIGS["t5"](),
    "Qwen3Model": lambda: CONFIGS["qwen3"](),
    "LlamaForSequenceClassification": lambda: CONFIGS["llama"](),
    "Gemma3ForSequenceClassification": lambda: transformers.Gemma3Config(
        text_config=CONFIGS["gemma3"](),
        vision_config={"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
                       "image_size": 32, "patch_size": 8},
    ),
}  # fmt: skip
"""Models that say something else than what word comes next."""


@pytest.mark.parametrize("head", HEADS)
def test_models_that_predict_no_word(head, text, tmp_path):
    """Encoders, embeddings and classifiers are profiled as they are; what a rule costs them, no perplexity tells."""
    config = HEADS[head]()
    config.is_decoder, config.pad_token_id = False, 0
    model = getattr(transformers, head)(config)
    model.save_pretrained(tmp_path / "model")
    ways = {
        by_layer: record(
            tmp_path / "model", tmp_path / "work", magnitudes=False, rule="top-k=5", layer_by_layer=by_layer
        )
        for by_layer in (False, True)
    }
    expected = describe_ffn(Checkpoint.open(tmp_path / "model")).blocks
    for done in ways.values():
        assert set(done.trace.blocks) == set(expected)
        assert done.perplexity is None
        assert f"{head} does not predict the next token" in " ".join(done.notes)
    for name, block in ways[True].trace.blocks.items():
        assert block.n_rows == 2 * LENGTH
        np.testing.assert_array_equal(block.active, ways[False].trace.blocks[name].active)


def test_models_that_reorder_refuses(text, tmp_path):
    """They are refused before anything runs, unless somebody wants a profile for something else."""
    config = transformers.PersimmonConfig(
        vocab_size=96, hidden_size=32, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4
    )
    transformers.PersimmonForCausalLM(config).save_pretrained(tmp_path / "model")
    with pytest.raises(UnsupportedError, match=r"model_type: found 'persimmon'; .* --allow-unsupported profiles"):
        record(tmp_path / "model", tmp_path / "work")
    for by_layer in (False, True):
        done = record(tmp_path / "model", tmp_path / "work", allow_unsupported=True, layer_by_layer=by_layer)
        assert list(done.trace.blocks) == ["layers.0", "layers.1"]
        assert "`reorder` does not read this model" in done.notes[0]


def test_blocks_that_cannot_be_seen(text, tmp_path, monkeypatch):
    """Experts that run in an unknown way are named before the model runs; the rest is recorded if that will do."""
    save_random(CONFIGS["qwen2_moe"](), tmp_path / "model")
    monkeypatch.setattr("ripple_place.capture.described_sites.experts_around", lambda path, modules: None)
    with pytest.raises(UnsupportedError) as refusal:
        record(tmp_path / "model", tmp_path / "work")
    assert "layers.0.experts.0, layers.0.experts.1, layers.0.experts.2, layers.0.experts.3 and 4 more" in str(
        refusal.value
    )
    assert "Qwen2MoeExperts, which runs experts in a way of its own" in str(refusal.value)
    done = record(tmp_path / "model", tmp_path / "work", allow_unsupported=True)
    assert list(done.trace.blocks) == ["layers.0.shared_expert", "layers.1", "layers.2.shared_expert"]
    assert "not recorded: Qwen2MoeExperts" in done.notes[0]


@pytest.mark.parametrize("name", NO_READERS)
def test_models_that_read_no_text(name, text, tmp_path):
    """What a model reads is known before it runs."""
    save_random(CONFIGS[name](), tmp_path / "model")
    with pytest.raises(UnsupportedError, match=r"(Model|For\w+), which reads .*; expected a model that reads text"):
        record(tmp_path / "model", tmp_path / "work")


def test_weights_that_change_before_they_run(text, tmp_path):
    """RWKV halves the weights of every sixth layer and those after it, all at once: such models run whole."""
    save_random(CONFIGS["rwkv"](), tmp_path / "model")
    with pytest.raises(UnsupportedError, match=r"RwkvForCausalLM, which rescales .* --whole-model"):
        record(tmp_path / "model", tmp_path / "work", layer_by_layer=True)
