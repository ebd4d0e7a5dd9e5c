"""Traces captured from real Hugging Face models, against the same numbers computed another way."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch.nn.functional import linear

from ripple_place.capture import model as models
from ripple_place.capture import params as params_module
from ripple_place.capture import rule_choice
from ripple_place.capture import whole as whole_module
from ripple_place.capture.experts import run_experts
from ripple_place.capture.layer_calls import same
from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.recorder import pack_on_device
from ripple_place.capture.run import run_capture
from ripple_place.errors import TraceFormatError, UnsupportedError, UsageError
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.trace.files import read_trace, write_trace
from ripple_place.tracking import no_track
from tests.torch.capture_models import CAUSAL, ENCODER_DECODER, load, write_model, write_text
from tests.trace_builders import unpack

DATA = os.environ.get("RIPPLE_PLACE_DATA")
WINDOWS = WindowParams(max_tokens=132, segment_length=44, sequence_length=16)
"""Three segments; the last window of each is shorter than a step."""


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Tiny products: more threads only wait for each other. Qwen2's own tokenizer class knows no words."""
    torch.set_num_threads(1)
    monkeypatch.setattr(models, "read_tokenizer", transformers.PreTrainedTokenizerFast.from_pretrained)


def record(model, texts, directory, *, rule="relu", resume=False, track=no_track, thresholds=None, **more):
    """Capture with the windows of these tests."""
    named = None if rule is None else ActivityRule.parse(rule)
    params = CaptureParams(tuple(texts), **{"windows": WINDOWS, "rule": named, **more})
    return run_capture(model, params, directory, resume=resume, thresholds=thresholds, track=track)


def spans(n_ids):
    """Yield (first id, length, recorded from) of each window, by the words of docs/profiling.md."""
    for segment in np.linspace(0, n_ids - 44 - 1, 3).astype(int):
        yield segment, 16, 0
        for start in (8, 16, 24):
            yield segment + start, 16, 8
        # Tokens 40 to 43 are left: the last window ends with the segment.
        yield segment + 28, 16, 12


def inputs_of(module, seen):
    """Keep what enters a module."""
    return module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))


def direct_dense(family, layer, x):
    """Return what the neurons of a dense FFN put out, from the FFN's input and its weights alone."""
    if family == "opt":
        return torch.relu(linear(x, layer.fc1.weight, layer.fc1.bias))
    if family == "gpt2":
        return torch.relu(x @ layer.mlp.c_fc.weight + layer.mlp.c_fc.bias)
    if family == "phi3":
        n_neurons = layer.mlp.gate_up_proj.weight.shape[0] // 2
        gate, up = layer.mlp.gate_up_proj.weight.split(n_neurons)
        return torch.relu(linear(x, gate)) * linear(x, up)
    return direct_gated(layer.mlp, x)


def direct_gated(mlp, x):
    """Return what the neurons of a ReGLU put out."""
    return torch.relu(linear(x, mlp.gate_proj.weight)) * linear(x, mlp.up_proj.weight)


def layers_of(family, model):
    """Return the layers and, for each, the module whose input the FFN sees."""
    base = {"opt": lambda: model.model.decoder.layers, "gpt2": lambda: model.transformer.h}
    layers = base.get(family, lambda: model.model.layers)()
    return [(layer, layer.fc1 if family == "opt" else layer.mlp) for layer in layers]


def direct_trace(family, path, ids):
    """Return dense activity by block and the tokens of each block's rows: one window at a time, no hooks of ours."""
    model = load(path)
    active, tokens = {}, {}
    token = 0
    for start, length, first in spans(ids.size):
        seen = [[] for _ in layers_of(family, model)]
        handles = [inputs_of(ffn, one) for (_, ffn), one in zip(layers_of(family, model), seen, strict=True)]
        with torch.no_grad():
            model(torch.tensor(ids[None, start : start + length]))
        for handle in handles:
            handle.remove()
        recorded = np.arange(token, token + length - first)
        token += length - first
        for i, (layer, _) in enumerate(layers_of(family, model)):
            x = seen[i][0].reshape(-1, seen[i][0].shape[-1])[first:]
            for block, values, rows in direct_blocks(family, layer, i, x):
                active.setdefault(block, []).append((values != 0).detach().numpy())
                tokens.setdefault(block, []).append(recorded[rows])
    return {block: (np.concatenate(active[block]), np.concatenate(tokens[block])) for block in active}


def direct_blocks(family, layer, i, x):
    """Yield block, values and rows of each FFN in a layer."""
    everything = np.arange(len(x))
    if not hasattr(getattr(layer, "mlp", None), "experts"):
        yield f"layers.{i}", direct_dense(family, layer, x), everything
        return
    moe = layer.mlp
    scores = torch.softmax(linear(x, moe.gate.weight), dim=-1)
    chosen = scores.topk(2, dim=-1).indices
    for expert in range(moe.experts.gate_up_proj.shape[0]):
        rows = (chosen == expert).any(dim=1).nonzero().flatten()
        gate, up = linear(x[rows], moe.experts.gate_up_proj[expert]).chunk(2, dim=-1)
        yield f"layers.{i}.experts.{expert}", torch.relu(gate) * up, rows.numpy()
    if hasattr(moe, "shared_expert"):
        yield f"layers.{i}.shared_expert", direct_gated(moe.shared_expert, x), everything


@pytest.mark.parametrize("family", CAUSAL)
def test_families(family, tmp_path):
    """Each family's trace is what its weights make of the FFNs' inputs, in float64, where no rounding hides a bit."""
    path = write_model(tmp_path / "model", CAUSAL[family]())
    ids = write_text(tmp_path / "text")
    trace = record(path, [tmp_path / "text"], tmp_path / "work", dtype="float64", layer_by_layer=False).trace
    expected = direct_trace(family, path, ids)
    assert {name for name, block in trace.blocks.items() if block.n_rows} == set(expected)
    assert trace.segment_starts.tolist() == [0, 44, 88]
    for name, (active, tokens) in expected.items():
        block = trace.blocks[name]
        index = np.arange(trace.n_tokens) if block.token_index is None else block.token_index
        np.testing.assert_array_equal(index, tokens)
        np.testing.assert_array_equal(unpack(block), active)
        assert 0.02 < active.mean() < 0.98
    segments = np.linspace(0, ids.size - 45, 3).astype(int)
    np.testing.assert_array_equal(trace.tokens, np.concatenate([ids[s : s + 44] for s in segments]))


@pytest.mark.parametrize("family", ENCODER_DECODER)
def test_encoder_decoder(family, tmp_path):
    """T5's encoder reads the earlier half of a window, its decoder goes on: each block says which tokens it saw."""
    path = write_model(tmp_path / "model", ENCODER_DECODER[family]())
    ids = write_text(tmp_path / "text")
    trace = record(path, [tmp_path / "text"], tmp_path / "work", dtype="float64").trace
    model = load(path)
    expected = {}
    token = 0
    for start, _, first in spans(ids.size):
        window = ids[start : start + 16]
        seen = {}
        for stack, layer in (("encoder", 1), ("decoder", 2)):
            for i, block in enumerate(getattr(model, stack).block):
                inputs_of(block.layer[layer].DenseReluDense, seen.setdefault(f"{stack}.layers.{i}", []))
        with torch.no_grad():
            model(
                input_ids=torch.tensor(window[None, :8]),
                decoder_input_ids=torch.tensor(np.concatenate([[0], window[8:]])[None]),
            )
        for name, (x,) in seen.items():
            stack, _, i = name.split(".")
            ffn = getattr(model, stack).block[int(i)].layer[1 if stack == "encoder" else 2].DenseReluDense
            ffn._forward_pre_hooks.clear()
            x = x[0]
            values = torch.relu(linear(x, (ffn.wi if family == "t5" else ffn.wi_0).weight))
            if family == "t5-gated":
                values = values * linear(x, ffn.wi_1.weight)
            # The encoder saw window positions 0 to 7, the decoder -1 (the start token) and 8 to 15.
            places = np.arange(8) if stack == "encoder" else np.array([-1, *range(8, 16)])
            tokens = token - first + places
            known = expected.setdefault(name, {})
            for place, number, row in zip(places, tokens, (values != 0).detach().numpy(), strict=True):
                if place >= 0 and int(number) not in known:
                    known[int(number)] = row
        token += 16 - first
    assert list(trace.blocks) == sorted(expected)
    for name, rows in expected.items():
        block = trace.blocks[name]
        np.testing.assert_array_equal(block.token_index, sorted(rows))
        np.testing.assert_array_equal(unpack(block), np.stack([rows[token] for token in sorted(rows)]))
    assert trace.blocks["encoder.layers.0"].n_rows == 3 * 36
    assert trace.blocks["decoder.layers.0"].n_rows == 3 * 36


@pytest.mark.parametrize("rule", ["relu", "cats=60%"])
@pytest.mark.parametrize("family", [*CAUSAL, *ENCODER_DECODER])
def test_layer_by_layer_is_the_same(family, rule, tmp_path):
    """One layer at a time, from several bfloat16 shards: the same file, bit for bit, and the same perplexity."""
    config = (CAUSAL | ENCODER_DECODER)[family]()
    path = write_model(tmp_path / "model", config, dtype=torch.bfloat16, max_shard_size="30KB")
    write_text(tmp_path / "text")
    ways = {}
    for by_layer in (False, True):
        done = record(
            path, [tmp_path / "text"], tmp_path / f"work{by_layer}", rule=rule, layer_by_layer=by_layer, magnitudes=True
        )
        write_trace(tmp_path / f"trace{by_layer}", done.trace)
        ways[by_layer] = done
    assert (tmp_path / "traceTrue").read_bytes() == (tmp_path / "traceFalse").read_bytes()
    assert (ways[False].layer_by_layer, ways[True].layer_by_layer) == (False, True)
    assert not list((tmp_path / "workTrue").glob("hidden*"))
    if rule != "relu":
        for name in ("perplexity", "perplexity_without_rule"):
            assert getattr(ways[True], name) == getattr(ways[False], name)


class StoppedError(Exception):
    """Stands for whatever ends a run in the middle."""


def stopping_after(n_items):
    """Return a track that breaks off before the item after `n_items`."""

    def track(items, what):
        for i, item in enumerate(items):
            if i == n_items:
                raise StoppedError
            yield item

    return track


@pytest.mark.parametrize("rule", ["relu", "teal=50%"])
@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("family", ["opt", "mixtral"])
def test_interrupted(family, by_layer, rule, tmp_path, monkeypatch):
    """A run that broke off twice and went on ends with the same trace and perplexity as one that did not."""
    monkeypatch.setattr(params_module, "BATCH_TOKENS", 64)
    path = write_model(tmp_path / "model", CAUSAL[family]())
    write_text(tmp_path / "text")
    options = {"rule": rule, "layer_by_layer": by_layer, "magnitudes": True}
    whole = record(path, [tmp_path / "text"], tmp_path / "whole", **options)
    work = tmp_path / "work"
    for n_items in (1, 1):
        with pytest.raises(StoppedError):
            record(path, [tmp_path / "text"], work, **options, resume=True, track=stopping_after(n_items))
        # What was written and not noted is cut off again.
        file = next(work.glob("layers.0.*active.raw"))
        file.write_bytes(file.read_bytes() + b"junk")
        (work / "layers.2.active.raw").touch()
    again = record(path, [tmp_path / "text"], work, **options | {"layer_by_layer": None}, resume=True)
    assert again.n_resumed == 2
    assert again.layer_by_layer == by_layer
    for name, done in (("a", whole), ("b", again)):
        write_trace(tmp_path / name, done.trace)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert again.perplexity == whole.perplexity
    assert again.perplexity_without_rule == whole.perplexity_without_rule
    with pytest.raises(UsageError, match=r"interrupted capture with another .*rule; .* or begin anew: --force"):
        record(path, [tmp_path / "text"], work, **options | {"rule": "top-k=3"}, resume=True)


def test_pads_are_masked(tmp_path):
    """Texts of different lengths share a padded batch, and are recorded as if each were alone."""
    path = write_model(tmp_path / "model", CAUSAL["mixtral"]())
    lengths = (13, 7, 16)
    for i, n_words in enumerate(lengths):
        write_text(tmp_path / f"text{i}", n_words, seed=i)
    texts = [tmp_path / f"text{i}" for i in range(3)]
    together = record(path, texts, tmp_path / "work", dtype="float64").trace
    assert together.segment_starts.tolist() == [0, 13, 20]
    alone = [record(path, [text], tmp_path / f"work{text.name}", dtype="float64").trace for text in texts]
    for name, block in together.blocks.items():
        np.testing.assert_array_equal(unpack(block), np.concatenate([unpack(one.blocks[name]) for one in alone]))
        index = [one.blocks[name].token_index + start for one, start in zip(alone, (0, 13, 20), strict=True)]
        np.testing.assert_array_equal(block.token_index, np.concatenate(index))


def masked_forward(model, ids, rule, thresholds):
    """Run a ReGLU Llama with neurons switched off, by an FFN written out; return logits and what was kept."""
    kept = []

    def ffn(mlp, threshold):
        def forward(x):
            gate = torch.relu(linear(x, mlp.gate_proj.weight))
            values = gate * linear(x, mlp.up_proj.weight)
            flat, flat_gate = values[0].numpy(), gate[0].numpy()
            if rule.startswith("top-k"):
                order = np.sort(np.abs(flat), axis=1)[:, ::-1]
                keep = np.abs(flat) >= order[:, 9:10]
                keep &= flat != 0
            elif rule.startswith("cats"):
                keep = np.abs(flat_gate) >= threshold
            elif rule.startswith("teal"):
                keep = np.abs(flat) > threshold
            else:
                keep = np.abs(flat) > 0.05
            kept.append((keep, flat))
            return linear(torch.where(torch.from_numpy(keep), values, 0.0), mlp.down_proj.weight)

        return forward

    for layer, threshold in zip(model.model.layers, thresholds, strict=True):
        layer.mlp.forward = ffn(layer.mlp, threshold)
    with torch.no_grad():
        logits = model(torch.tensor(ids[None])).logits[0]
    for layer in model.model.layers:
        del layer.mlp.forward
    return logits, kept


@pytest.mark.parametrize("rule", ["threshold=0.05", "top-k=10", "cats=70%", "teal=70%"])
def test_rules_in_the_model(rule, tmp_path, monkeypatch):
    """Bits, magnitudes and both perplexities are those of a forward in which an FFN of our own drops neurons.

    Thresholds are fitted on the middle one of three batches, a segment each, and scored on the others.
    """
    monkeypatch.setattr(params_module, "BATCH_TOKENS", 80)
    monkeypatch.setattr(whole_module, "FIT_TOKENS", 44)
    is_fitted = rule.startswith(("cats", "teal"))
    path = write_model(tmp_path / "model", CAUSAL["llama"]())
    ids = write_text(tmp_path / "text")
    done = record(path, [tmp_path / "text"], tmp_path / "work", rule=rule, dtype="float64", magnitudes=True)
    model = load(path)
    # The thresholds come from the plain model.
    plain = [[], []]
    for start, length, first in spans(ids.size):
        for mlp in (layer.mlp for layer in model.model.layers):
            mlp.gate_seen = []
            inputs_of(mlp, mlp.gate_seen)
        with torch.no_grad():
            model(torch.tensor(ids[None, start : start + length]))
            for kind in range(2):
                plain[kind].append([])
            for layer in model.model.layers:
                layer.mlp._forward_pre_hooks.clear()
                x = layer.mlp.gate_seen[0][0][first:]
                gate = torch.relu(linear(x, layer.mlp.gate_proj.weight))
                plain[0][-1].append(gate.numpy())
                plain[1][-1].append((gate * linear(x, layer.mlp.up_proj.weight)).numpy())
    looked_at = plain[0] if rule.startswith("cats") else plain[1]
    thresholds = [
        np.quantile(np.abs(np.concatenate([window[i] for window in looked_at[5:10]])).astype(np.float32), 0.7,
                    method="inverted_cdf")
        for i in range(3)
    ]  # fmt: skip
    kept, values, nats = [[], [], []], [[], [], []], {"with": [], "without": []}
    for number, (start, length, first) in enumerate(spans(ids.size)):
        window = ids[start : start + length]
        logits, masks = masked_forward(model, window, rule, thresholds)
        with torch.no_grad():
            plain_logits = model(torch.tensor(window[None])).logits[0]
        for name, output in (("with", logits), ("without", plain_logits)):
            loss = torch.log_softmax(output, dim=-1)
            if not (is_fitted and 5 <= number < 10):
                nats[name] += [-float(loss[p, window[p + 1]]) for p in range(first, length - 1)]
        for i, (keep, flat) in enumerate(masks):
            kept[i].append(keep[first:])
            values[i].append(flat[first:])
    for i in range(3):
        block = done.trace.blocks[f"layers.{i}"]
        active = np.concatenate(kept[i])
        np.testing.assert_array_equal(unpack(block), active)
        magnitudes = block.magnitudes
        np.testing.assert_array_equal(magnitudes.indptr, np.concatenate([[0], np.cumsum(active.sum(axis=1))]))
        np.testing.assert_array_equal(magnitudes.indices, np.nonzero(active)[1])
        np.testing.assert_allclose(magnitudes.values, np.concatenate(values[i])[active], rtol=1e-6)
    assert done.perplexity == pytest.approx(np.exp(np.mean(nats["with"])), rel=1e-6)
    assert done.perplexity_without_rule == pytest.approx(np.exp(np.mean(nats["without"])), rel=1e-6)
    assert done.perplexity != done.perplexity_without_rule


@pytest.mark.parametrize("rule", ["cats=70%", "teal=70%"])
def test_a_text_that_is_all_fitted_on_is_not_scored(rule, tmp_path):
    """Layer by layer, too: a rule's cost on the tokens that chose its threshold says little."""
    path = write_model(tmp_path / "model", CAUSAL["llama"]())
    write_text(tmp_path / "text")
    for by_layer in (False, True):
        done = record(path, [tmp_path / "text"], tmp_path / f"{by_layer}", rule=rule, layer_by_layer=by_layer)
        assert done.perplexity is done.perplexity_without_rule is None
        assert "perplexity" not in done.trace.metadata


def test_smooth_models_choose_their_rule(tmp_path, monkeypatch):
    """Rules are tried from mild to harsh: with the figures of a run by each, up to the first that costs too much."""
    path = write_model(tmp_path / "model", CAUSAL["llama"](hidden_act="silu"))
    write_text(tmp_path / "text")
    texts = [tmp_path / "text"]
    by_rule = {
        rule: record(path, texts, tmp_path / rule, rule=rule, dtype="float64").perplexity
        for rule in ("top-k=50%", "top-k=30%", "top-k=20%", "top-k=10%")
    }
    done = record(path, texts, tmp_path / "work", rule=None, dtype="float64")
    assert {str(trial.rule): pytest.approx(trial.perplexity) for trial in done.choice.trials} == by_rule
    assert done.choice.activation == "silu"
    assert str(done.rule) == done.trace.metadata["activity"] == "top-k=10%"
    assert done.perplexity == pytest.approx(by_rule["top-k=10%"])
    assert float(done.trace.metadata["perplexity"]) == done.perplexity

    plain = done.perplexity_without_rule
    monkeypatch.setattr(rule_choice, "ACCEPTED_RISE", np.nextafter(by_rule["top-k=30%"] / plain - 1, -1))
    again = record(path, texts, tmp_path / "again", rule=None, dtype="float64")
    assert len(again.choice.trials) < 4
    assert again.choice.trials[-1].perplexity > (1 + rule_choice.ACCEPTED_RISE) * plain
    # What was chosen stays chosen.
    record(path, texts, tmp_path / "again", rule=None, dtype="float64", resume=True)


def test_a_chosen_rule_is_kept_when_a_capture_goes_on(tmp_path):
    """And where nothing can be tried, there is one."""
    path = write_model(tmp_path / "model", CAUSAL["llama"](hidden_act="silu"))
    write_text(tmp_path / "text")
    first = record(path, [tmp_path / "text"], tmp_path / "work", rule=None, layer_by_layer=True)
    assert (str(first.rule), first.choice.trials) == ("top-k=30%", ())
    again = record(path, [tmp_path / "text"], tmp_path / "work", rule=None, resume=True)
    assert (again.rule, again.choice, again.layer_by_layer) == (first.rule, None, True)
    assert record(path, [tmp_path / "text"], tmp_path / "quick", rule=None, perplexity=False).rule == first.rule
    exact = record(
        write_model(tmp_path / "relu", CAUSAL["llama"]()), [tmp_path / "text"], tmp_path / "relu.work", rule=None
    )
    assert str(exact.rule) == "relu"
    assert exact.perplexity is None


@pytest.mark.parametrize("by_layer", [False, True])
def test_thresholds_that_are_given(by_layer, tmp_path):
    """What is added to a profile is recorded by its thresholds, not by those that the new text would give."""
    path = write_model(tmp_path / "model", CAUSAL["llama"]())
    write_text(tmp_path / "text")
    given = {f"layers.{i}": 0.01 * (i + 1) for i in range(3)}
    options = {"rule": "teal=50%", "thresholds": given, "layer_by_layer": by_layer, "magnitudes": True}
    trace = record(path, [tmp_path / "text"], tmp_path / "work", **options).trace
    assert json.loads(trace.metadata["thresholds"]) == given
    for name, block in trace.blocks.items():
        assert given[name] < np.abs(block.magnitudes.values).min() < given[name] + 0.01


def test_magnitudes_survive_the_file(tmp_path):
    """What was recorded of a ReLU model is read back, and only where it is active."""
    path = write_model(tmp_path / "model", CAUSAL["opt"]())
    write_text(tmp_path / "text")
    trace = record(path, [tmp_path / "text"], tmp_path / "work", magnitudes=True).trace
    write_trace(tmp_path / "trace", trace)
    for name, block in read_trace(tmp_path / "trace").blocks.items():
        active = unpack(block)
        assert block.magnitudes.indptr[-1] == active.sum() == block.magnitudes.values.size
        assert (np.asarray(block.magnitudes.values) > 0).all()
        np.testing.assert_array_equal(block.magnitudes.indices, trace.blocks[name].magnitudes.indices)


@pytest.mark.parametrize("family", ["mixtral", "qwen2-moe", "gpt-oss"])
def test_experts_run_as_transformers_runs_them(family):
    """Our forward of fused experts is transformers' eager one, bit for bit, whatever way the weights lie."""
    if family == "gpt-oss":
        config = transformers.GptOssConfig(
            vocab_size=96, hidden_size=32, intermediate_size=20, num_attention_heads=4, num_key_value_heads=2,
            head_dim=8, num_hidden_layers=1, num_local_experts=4,
        )  # fmt: skip
    else:
        config = CAUSAL[family](num_hidden_layers=1)
    model = transformers.AutoModelForCausalLM.from_config(config, experts_implementation="eager").eval()
    experts = model.model.layers[0].mlp.experts
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.normal_()
    x, weights = torch.randn(23, 32), torch.rand(23, 2)
    chosen = torch.stack([torch.randperm(experts.num_experts)[:2] for _ in range(23)])
    shown = []

    def show(expert, positions, values):
        shown.append((expert, positions.tolist(), values.shape))
        return values

    with torch.no_grad():
        expected = experts(x, chosen, weights)
        assert torch.equal(run_experts(experts, x, chosen, weights, show), expected)
        assert sum(len(positions) for _, positions, _ in shown) == 46
        dropped = run_experts(experts, x, chosen, weights, lambda expert, positions, values: values * 0)
    assert not torch.equal(dropped, expected)


@pytest.mark.parametrize("n_neurons", [1, 8, 13, 64])
def test_bits_packed_by_torch(n_neurons):
    """What a GPU packs is what numpy packs."""
    active = torch.rand(17, n_neurons) < 0.4
    np.testing.assert_array_equal(pack_on_device(active), np.packbits(active.numpy(), axis=1, bitorder="little"))


@pytest.mark.parametrize("rule", ["relu", "threshold=0.5", "top-k=3", "top-k=25%", "cats=50%", "teal=90%"])
def test_rules_on_tensors(rule):
    """A rule says the same of a tensor as of an array."""
    rule = ActivityRule.parse(rule)
    values, gate = torch.randn(9, 21), torch.randn(9, 21)
    values[values.abs() < 0.3] = 0
    threshold = None
    if rule.is_fitted:
        threshold = rule.fit(gate.abs().flatten())
        assert threshold == rule.fit(gate.abs().flatten().numpy())
    on_tensors = rule.active(values, gate, threshold)
    np.testing.assert_array_equal(on_tensors.numpy(), rule.active(values.numpy(), gate.numpy(), threshold))


def test_models_without_known_ffns_are_refused(tmp_path):
    """A state-space model has no family, and no down projection for those who try nevertheless."""
    config = transformers.MambaConfig(vocab_size=96, hidden_size=32, num_hidden_layers=2)
    path = write_model(tmp_path / "model", config)
    write_text(tmp_path / "text")
    with pytest.raises(UnsupportedError, match=r"model_type: found 'mamba'; .* --allow-unsupported"):
        record(path, [tmp_path / "text"], tmp_path / "work")
    with pytest.raises(UnsupportedError, match="found no FFN in MambaForCausalLM; expected down projections"):
        record(path, [tmp_path / "text"], tmp_path / "work", allow_unsupported=True)


def test_windows_longer_than_the_model_are_refused(tmp_path):
    """Positions that a model does not have are said before it runs."""
    path = write_model(tmp_path / "model", CAUSAL["opt"]())
    write_text(tmp_path / "text")
    with pytest.raises(UsageError, match=r"128: found a model of 64 positions; .* --sequence-length 64"):
        record(path, [tmp_path / "text"], tmp_path / "work", windows=WindowParams(sequence_length=128))


@pytest.mark.skipif(DATA is None, reason="RIPPLE_PLACE_DATA names no development data")
@pytest.mark.parametrize("model", ["opt-relu", "llama-reglu"])
def test_shared_traces(model, tmp_path):
    """Traces that others recorded, with other software on another machine, come out again."""
    torch.set_num_threads(2)
    params = CaptureParams((Path(DATA) / "text" / "wikitext2-test.txt",))
    trace = run_capture(
        Path(DATA) / "models" / model, params, tmp_path / "work", resume=False, thresholds=None, track=no_track
    ).trace
    expected = read_trace(Path(DATA) / "traces" / f"{model}.wikitext2-test.trace.safetensors")
    np.testing.assert_array_equal(trace.tokens, expected.tokens)
    np.testing.assert_array_equal(trace.segment_starts, expected.segment_starts)
    for name, block in expected.blocks.items():
        differing = np.bitwise_count(np.asarray(block.active) ^ np.asarray(trace.blocks[name].active)).sum()
        assert differing <= 0.001 * 8 * block.active.size


@pytest.mark.parametrize(("free_bytes", "by_layer"), [(10**5, True), (10**9, False), (None, False)])
def test_the_way_is_chosen_by_free_memory(tmp_path, monkeypatch, free_bytes, by_layer):
    """A model that does not fit runs layer by layer without being told; where nobody knows, it is tried whole."""
    path = write_model(tmp_path / "model", CAUSAL["llama"]())
    write_text(tmp_path / "text")
    monkeypatch.setattr(models, "_free_memory_bytes", lambda: free_bytes)
    assert record(path, [tmp_path / "text"], tmp_path / "work").layer_by_layer == by_layer


def test_arguments_are_compared_bit_for_bit():
    """Nested as models nest them: a mask by layer type, a pair of rotary tables."""
    call, again = (
        {"mask": {"full": torch.ones(2, 2), "sliding": None}, "rope": (torch.zeros(3), torch.ones(3)), "cache": False}
        for _ in range(2)
    )
    assert same([call], [again])
    others = [
        {**again, "cache": True},
        {**again, "rope": (torch.zeros(3), torch.ones(3).double())},
        {**again, "rope": (torch.zeros(3),)},
        {**again, "mask": {"full": torch.ones(2, 2), "sliding": torch.ones(1)}},
        {**again, "mask": {"full": torch.zeros(2, 2), "sliding": None}},
        {**again, "more": 1},
    ]
    assert not any(same([call], [other]) for other in others)


def between_layers(hook):
    """Return `build_skeleton` and `load_model` that put a hook before the third layer of what they return."""

    def hooked(real):
        def build(*arguments, **more):
            model = real(*arguments, **more)
            hook(model.model.layers)
            return model

        return build

    return {name: hooked(getattr(models, name)) for name in ("build_skeleton", "load_model")}


def test_work_between_layers(tmp_path, monkeypatch):
    """What a model does with a layer's output before the next one takes it is done layer by layer, too."""

    def double(layers):
        layers[2].register_forward_pre_hook(lambda layer, inputs: (inputs[0] * 2, *inputs[1:]))

    path = write_model(tmp_path / "model", CAUSAL["llama"]())
    write_text(tmp_path / "text")
    traces = {"plain": record(path, [tmp_path / "text"], tmp_path / "plain").trace}
    for name, built in between_layers(double).items():
        monkeypatch.setattr(models, name, built)
    for by_layer in (False, True):
        traces[by_layer] = record(path, [tmp_path / "text"], tmp_path / f"{by_layer}", layer_by_layer=by_layer).trace
    for name in ("layers.1", "layers.2"):
        np.testing.assert_array_equal(traces[True].blocks[name].active, traces[False].blocks[name].active)
    assert (traces[True].blocks["layers.2"].active != traces["plain"].blocks["layers.2"].active).any()


def test_layers_that_need_more_than_the_last_are_refused(tmp_path, monkeypatch):
    """A third layer that also takes what came out of the first would go wrong silently."""

    def skip(layers):
        seen = []
        layers[0].register_forward_hook(lambda layer, inputs, output: seen.append(output))
        layers[2].register_forward_pre_hook(lambda layer, inputs: (inputs[0] + seen.pop(), *inputs[1:]))

    path = write_model(tmp_path / "model", CAUSAL["llama"]())
    write_text(tmp_path / "text")
    monkeypatch.setattr(models, "build_skeleton", between_layers(skip)["build_skeleton"])
    with pytest.raises(UnsupportedError, match=r"depend on more than the layer before them; .* with --whole-model"):
        record(path, [tmp_path / "text"], tmp_path / "work", layer_by_layer=True)


def spoilt(path, family, value):
    """Write a model whose neuron 5 (of one expert, where there are some) puts out something that is no number."""
    write_model(path, CAUSAL[family]())
    model = load(path, torch.float32)
    with torch.no_grad():
        if family == "opt":
            model.model.decoder.layers[1].fc1.bias[5] = value
        elif family == "gpt2":
            model.transformer.h[1].mlp.c_fc.bias[5] = value
        elif family == "mixtral":
            # The gate's half comes first.
            model.model.layers[1].mlp.experts.gate_up_proj[2, 5] = value
        else:
            model.model.layers[1].mlp.gate_proj.weight[5] = value
    model.save_pretrained(path)
    return path


@pytest.mark.parametrize("layer_by_layer", [False, True])
@pytest.mark.parametrize(
    ("family", "rule"),
    [
        (family, rule)
        for family in ("opt", "gpt2", "llama", "mixtral")
        for rule in ("relu", "threshold=0.1", "top-k=10%", "cats=50%", "teal=50%")
        # Experts that are fused show no output of their activation function.
        if (family, rule) != ("mixtral", "cats=50%")
    ],
)
def test_outputs_that_are_no_numbers(family, rule, layer_by_layer, tmp_path):
    """Under relu and cats NaN and infinity counted as active, under top-k and teal a NaN as idle."""
    path = spoilt(tmp_path / "model", family, float("nan"))
    write_text(tmp_path / "text")
    match = r"layers\.1(\.experts\.2)?(, activation function)?, token \d+, neuron 5: found nan; expected finite"
    with pytest.raises(TraceFormatError, match=match):
        record(path, [tmp_path / "text"], tmp_path / "work", rule=rule, layer_by_layer=layer_by_layer, magnitudes=True)


def test_outputs_that_overflow(tmp_path):
    """An infinite output is refused, and the token is that of the trace."""
    path = spoilt(tmp_path / "model", "opt", float("inf"))
    write_text(tmp_path / "text")
    with pytest.raises(TraceFormatError, match=r"layers\.1, token 0, neuron 5: found inf"):
        record(path, [tmp_path / "text"], tmp_path / "work")
