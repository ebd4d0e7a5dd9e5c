"""Columns of real models: what is recorded, what it costs and what rules choose, against plain hooks on the modules."""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from ripple_place.capture import model as models
from ripple_place.capture import params as params_module
from ripple_place.capture.described_sites import described_sites
from ripple_place.capture.ffn_inputs import watch_input, with_inputs
from ripple_place.capture.importance import measure_importance
from ripple_place.capture.loss import measure_loss
from ripple_place.capture.loss_run import Run
from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.rules_in_model import ModelText, RuleRun
from ripple_place.capture.run import run_capture
from ripple_place.capture.setup import set_up
from ripple_place.capture.sites import Site
from ripple_place.capture.whole import forward
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.errors import TraceFormatError, UnsupportedError, UsageError
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.flash.simulator import SimulationParams
from ripple_place.placement import NeuronPlacement
from ripple_place.select.registry import parse_rule
from ripple_place.select.rule import Tuning
from ripple_place.select.sight import Noise
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.trace.dip import KeepLargest
from ripple_place.trace.files import write_trace
from ripple_place.tracking import no_track
from tests.flash.builders import linear_device
from tests.reference import dip
from tests.torch.capture_models import CAUSAL, ENCODER_DECODER, load, write_model, write_text, write_tokenizer
from tests.torch.label_gradients import label_gradients, windows_of
from tests.torch.models import CONFIGS, save_random
from tests.trace_builders import unpack

DATA = os.environ.get("RIPPLE_PLACE_DATA")
WINDOWS = WindowParams(max_tokens=132, segment_length=44, sequence_length=16)
"""Three segments; captures see windows that overlap, rules windows of 16, 16 and 12 tokens."""
FFNS = {
    "llama": lambda layer: ([layer.mlp.gate_proj, layer.mlp.up_proj], layer.mlp.down_proj),
    "qwen2": lambda layer: ([layer.mlp.gate_proj, layer.mlp.up_proj], layer.mlp.down_proj),
    "phi3": lambda layer: ([layer.mlp.gate_up_proj], layer.mlp.down_proj),
    "gpt2": lambda layer: ([layer.mlp.c_fc], layer.mlp.c_proj),
    "opt": lambda layer: ([layer.fc1], layer.fc2),
}
"""By family, the modules that read the input of an FFN, and the one that reads what its neurons put out."""
GATED = ("llama", "qwen2", "phi3")
SMOOTH = {"gpt2": {"activation_function": "gelu"}, "opt": {"activation_function": "gelu"}}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Batches of four windows: segments begin within some. Qwen2's own tokenizer class knows no words."""
    monkeypatch.setattr(params_module, "BATCH_TOKENS", 64)
    monkeypatch.setattr(models, "read_tokenizer", transformers.PreTrainedTokenizerFast.from_pretrained)


def smooth(family):
    """Return the config of a family in which hardly any neuron puts out zero."""
    config = CAUSAL[family]()
    for key in ("hidden_act", "activation_function"):
        if hasattr(config, key):
            setattr(config, key, "silu")
    return config


def params_of(path, **more):
    """Return parameters of a capture of columns on the text beside a model."""
    rule = more.pop("rule", "dip=0.5")
    named = None if rule is None else ActivityRule.parse(rule)
    return CaptureParams(path.with_name("text"), **{"windows": WINDOWS, "rule": named, "unit": "column", **more})


def record(path, work, **more):
    """Capture columns."""
    params = params_of(path, **{"layer_by_layer": False, **more})
    return run_capture(path, params, path.with_name(work), resume=False, thresholds=None, track=no_track)


@pytest.fixture
def written(tmp_path):
    """Return what writes a smooth model of a family, and a text beside it."""

    def write(family):
        write_text(tmp_path / "text")
        return write_model(tmp_path / "model", smooth(family))

    return write


def layers_of(family, model):
    """Return the layers of a model."""
    if family == "opt":
        return model.model.decoder.layers
    return model.transformer.h if family == "gpt2" else model.model.layers


def shares_of(rule, family):
    """Return which shares of inputs and of down columns a rule keeps."""
    name, _, keep = rule.partition("=")
    if name == "glu-pruning":
        return 1.0, float(keep)
    return dip.split(float(keep)) if family in GATED else (float(keep), float(keep))


def pruning(share, seen):
    """Return a pre-hook that keeps the largest inputs of a module, by torch's own top-k; `seen` gets mask and input."""

    def prune(module, arguments):
        flat = arguments[0].flatten(0, -2)
        kept = flat.abs().topk(int(share * flat.shape[-1])).indices
        mask = torch.zeros_like(flat).scatter(-1, kept, 1.0)
        seen.append(((mask * flat) != 0, flat))
        return ((flat * mask).view_as(arguments[0]), *arguments[1:])

    return prune


def pruned(family, model, shares):
    """Prune all FFNs of a model by plain hooks; return what each block sees, forward by forward, and the hooks."""
    seen, handles = {}, []
    for i, layer in enumerate(layers_of(family, model)):
        readers, down = FFNS[family](layer)
        inputs = seen.setdefault(f"layers.{i}.input", [])
        handles += [
            reader.register_forward_pre_hook(pruning(shares[0], inputs if reader is readers[0] else []))
            for reader in readers
        ]
        handles.append(down.register_forward_pre_hook(pruning(shares[1], seen.setdefault(f"layers.{i}", []))))
    return seen, handles


# What is recorded.


@pytest.mark.parametrize("rule", ["dip=0.5", "glu-pruning=0.4"])
@pytest.mark.parametrize("family", FFNS)
def test_recorded_columns(family, rule, written):
    """Masks, magnitudes and perplexity are, bit for bit, those of a model that plain hooks prune."""
    path = written(family)
    done = record(path, "work", rule=rule, magnitudes=True)
    assert done.trace.unit == "column"
    assert done.trace.metadata["activity"] == rule
    setup = set_up(path, params_of(path, layer_by_layer=False), None)
    model = load(path, torch.float32)
    seen, _ = pruned(family, model, shares_of(rule, family))
    nats, n_scored = 0.0, 0
    with torch.inference_mode():
        for batch in setup.batches:
            logits = forward(model, batch, "cpu", logits=True).flatten(0, 1)
            positions, targets = batch.targets()
            loss = torch.nn.functional.cross_entropy(
                logits[torch.from_numpy(positions)], torch.from_numpy(targets), reduction="none"
            )
            nats, n_scored = nats + float(loss.double().sum()), n_scored + len(targets)
    assert done.perplexity == math.exp(nats / n_scored)
    assert done.perplexity != done.perplexity_without_rule
    assert list(done.trace.blocks) == list(seen), "an FFN's inputs come before its down columns"
    recorded_rows = [batch.rows()[""].positions for batch in setup.batches]
    for name, calls in seen.items():
        block = done.trace.blocks[name]
        mask, values = (
            np.concatenate([call[i].numpy()[rows] for call, rows in zip(calls, recorded_rows, strict=True)])
            for i in range(2)
        )
        assert block.n_neurons == (32 if name.endswith("input") else 76)
        np.testing.assert_array_equal(unpack(block), mask)
        np.testing.assert_array_equal(block.magnitudes.values, values[mask])
        share = shares_of(rule, family)[0 if name.endswith("input") else 1]
        assert set(mask.sum(axis=1)) == {int(share * block.n_neurons)}


def test_perplexity_without_the_rule(written):
    """It is that of the model of neurons by a rule that drops nothing; the more is kept, the nearer is the other."""
    path = written("llama")
    found = {rule: record(path, f"work{rule}", rule=rule) for rule in ("dip=0.3", "dip=0.9", "dip=1")}
    assert len({done.perplexity_without_rule for done in found.values()}) == 1
    whole = found["dip=1"].perplexity_without_rule
    rises = [abs(np.log(done.perplexity / whole)) for done in found.values()]
    assert rises[0] > rises[1] > rises[2] == 0


@pytest.mark.parametrize("family", [*FFNS, "t5", "t5-gated"])
@pytest.mark.parametrize("rule", ["dip=0.5", "teal=50%"])
def test_layer_by_layer_is_the_same(family, rule, tmp_path):
    """The same file and perplexity, also of stacks, and of thresholds that are fitted in both spaces."""
    config = smooth(family) if family in FFNS else ENCODER_DECODER[family]()
    path = write_model(tmp_path / "model", config, dtype=torch.bfloat16, max_shard_size="30KB")
    write_text(tmp_path / "text")
    ways = {}
    for by_layer in (False, True):
        ways[by_layer] = record(path, f"work{by_layer}", rule=rule, layer_by_layer=by_layer, magnitudes=True)
        write_trace(tmp_path / f"trace{by_layer}", ways[by_layer].trace)
    assert (tmp_path / "traceTrue").read_bytes() == (tmp_path / "traceFalse").read_bytes()
    assert ways[True].perplexity == ways[False].perplexity
    blocks = ways[True].trace.blocks
    assert [name.endswith(".input") for name in blocks] == [True, False] * (len(blocks) // 2)
    if rule == "teal=50%":
        assert all(f'"{name}"' in ways[True].trace.metadata["thresholds"] for name in blocks)
        density = {name: unpack(block).mean() for name, block in blocks.items()}
        assert all(0.35 < share < 0.65 for name, share in density.items() if family not in ("t5", "t5-gated"))


def test_the_default_rule(written):
    """DIP at one half; and that is what the trace says."""
    assert record(written("opt"), "work", rule=None).trace.metadata["activity"] == "dip=0.5"


def test_rules_of_neurons_are_refused(tmp_path):
    """Before anything is read."""
    with pytest.raises(UsageError, match=r"--active cats=50%: found a rule of neurons.* Use --unit neuron"):
        params_of(tmp_path / "model", rule="cats=50%")
    with pytest.raises(UsageError, match=r"--active dip=0.5: found a rule of columns.* Use --unit column"):
        params_of(tmp_path / "model", unit="neuron")


@pytest.mark.parametrize("family", ["mixtral", "qwen2-moe"])
def test_mixtures_are_refused(family, tmp_path):
    """Experts share the input."""
    path = write_model(tmp_path / "model", CAUSAL[family]())
    write_text(tmp_path / "text")
    for by_layer in (False, True):
        with pytest.raises(UnsupportedError, match=r"found a mixture of experts; .* Use --unit neuron"):
            record(path, "work", layer_by_layer=by_layer)


def test_inputs_that_are_no_number(written):
    """The block, the token and the column are named."""
    path = written("llama")
    model = load(path, torch.float32)
    with torch.no_grad():
        model.model.layers[1].post_attention_layernorm.weight[5] = torch.inf
    model.save_pretrained(path)
    with pytest.raises(TraceFormatError, match=r"layers\.1\.input, token 0, neuron 5"):
        record(path, "work")


def test_the_largest_of_tensors_and_of_arrays():
    """Both keep the same: exactly as many, of equal sizes the first, and no zeros."""
    rng = np.random.default_rng(0)
    for keep in (0.0, 0.3, 0.5, 0.9, 1.0):
        rows = rng.integers(-3, 4, (40, 17)).astype(np.float32)
        on_arrays = KeepLargest(keep).active(rows)
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            on_tensors = KeepLargest(keep).active(torch.from_numpy(rows).to(dtype))
            assert on_tensors.dtype == torch.bool
            np.testing.assert_array_equal(on_tensors.numpy(), on_arrays)
        assert on_arrays.tolist() == [dip.keep_largest(row, keep) for row in rows.tolist()]


# Where the input of an FFN is seen.

EVERY_INPUT = ("opt", "gpt2", "gptj", "falcon", "bloom", "mpt", "phi", "phi3", "glm4", "starcoder2", "gemma3n",
               "bitnet", "cohere", "llama-mlp-bias", "stablelm", "nemotron", "olmo2")  # fmt: skip


def sites_at(path):
    """Load a model, and return it with the sites of its columns."""
    model, ffn = load(path, torch.float32), describe_ffn(Checkpoint.open(path))
    return model, with_inputs(model, described_sites(model, ffn).sites, ffn, path)


@pytest.mark.parametrize("family", EVERY_INPUT)
def test_nothing_of_the_ffn_sees_what_was_dropped(family, tmp_path):
    """With zeros for its input, an FFN puts out the same for every token: no matrix gets the input past the hooks."""
    save_random(CONFIGS[family](), tmp_path / "model")
    model, sites = sites_at(tmp_path / "model")
    outputs, n_seen = {site.block: [] for site in sites}, dict.fromkeys((site.block for site in sites), 0)
    for site in sites:

        def zeros(values, block=site.block):
            n_seen[block] += 1
            assert values.shape[-1] == 32
            return torch.zeros_like(values)

        watch_input(site, zeros)
        site.module.register_forward_pre_hook(
            lambda module, arguments, found=outputs[site.block]: found.append(arguments[0].flatten(0, -2))
        )
        assert site.layouts().keys() == {f"{site.block}.input", site.block}
        assert site.layouts()[f"{site.block}.input"].n_neurons == 32
    with torch.no_grad():
        model(input_ids=torch.arange(24)[None] * 3 % 80)
    assert set(n_seen.values()) == {1}
    for rows in outputs.values():
        torch.testing.assert_close(rows[0], rows[0][:1].expand_as(rows[0]))


def two_readers():
    """Return a site of a gated FFN of linear modules, which read an input of four."""
    torch.manual_seed(0)
    up, gate, down = torch.nn.Linear(4, 8), torch.nn.Linear(4, 8), torch.nn.Linear(8, 4)
    return Site("layers.0", "", "mlp.down", down, 8, 0, None, True, (up, gate)), up, gate


def test_watching_an_input():
    """It is looked at once for all its readers, however often the FFN runs; None leaves it; then it is over."""
    site, up, gate = two_readers()
    seen, answer = [], [None]

    def see(values):
        seen.append(values)
        return answer[0]

    end = watch_input(site, see)
    x, other = torch.randn(2, 3, 4)
    plain = torch.nn.functional.linear(x, up.weight, up.bias)
    torch.testing.assert_close(up(x), plain, rtol=0, atol=0)
    gate(x)
    assert len(seen) == 1
    assert seen[0] is x
    answer[0] = other
    # In any order, by name or by place; the same tensor again is another run.
    first, second = gate(input=x), up(x)
    torch.testing.assert_close(first, torch.nn.functional.linear(other, gate.weight, gate.bias), rtol=0, atol=0)
    torch.testing.assert_close(second, torch.nn.functional.linear(other, up.weight, up.bias), rtol=0, atol=0)
    assert len(seen) == 2
    end()
    torch.testing.assert_close(up(x), plain, rtol=0, atol=0)
    assert len(seen) == 2


def test_readers_of_two_inputs_are_refused():
    """What one mask would prune is not one."""
    site, up, gate = two_readers()
    watch_input(site, lambda values: None)
    up(torch.ones(3, 4))
    with pytest.raises(UnsupportedError, match=r"mlp\.down: found up and gate projections that read different inputs"):
        gate(torch.ones(3, 4))


# What dropping inputs costs.


def measured(path):
    """Measure importance in float64; return it with the setup."""
    params = params_of(path, dtype="float64", importance=True, layer_by_layer=False)
    setup = set_up(path, params, None)
    return measure_importance(setup, no_track), setup


def weight_of(module):
    """Return the weight of a linear module as [out, in]."""
    weight = module.weight.detach()
    return weight.T if hasattr(module, "nf") else weight


def check_importance(found, setup, model, ffns):
    """Compare with 1/2 E[(dL/dx)^2], where dL/dx comes back through the readers of x and through nothing else."""
    readers = {f"{name}.input.{i}": module for name, (into, _) in ffns.items() for i, module in enumerate(into)}
    downs = {name: down for name, (_, down) in ffns.items()}
    parts = [label_gradients(model, readers | downs, ids, token) for ids, token in windows_of(setup)]
    gradients = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    assert list(found.values) == [block for name in ffns for block in (f"{name}.input", name)]
    for name, down in downs.items():
        of_inputs = sum(
            gradients[reader] @ weight_of(module) for reader, module in readers.items()
            if reader.startswith(f"{name}.input.")
        )  # fmt: skip
        np.testing.assert_allclose(found.values[f"{name}.input"], 0.5 * of_inputs.square().mean(0), rtol=1e-5)
        of_neurons = gradients[name] @ weight_of(down)
        np.testing.assert_allclose(found.values[name], 0.5 * of_neurons.square().mean(0), rtol=1e-5)
        assert found.note.n_rows[f"{name}.input"] == found.note.n_rows[name] == 132


@pytest.mark.parametrize("family", FFNS)
def test_importance_of_columns(family, written):
    """Of inputs over the paths through gate and up; of down columns as of neurons."""
    path = written(family)
    found, setup = measured(path)
    model = load(path)
    ffns = {f"layers.{i}": FFNS[family](layer) for i, layer in enumerate(layers_of(family, model))}
    check_importance(found, setup, model, ffns)


PARALLEL = {
    "gptj": lambda model: {
        f"layers.{i}": ([layer.mlp.fc_in], layer.mlp.fc_out) for i, layer in enumerate(model.transformer.h)
    },
    "phi": lambda model: {
        f"layers.{i}": ([layer.mlp.fc1], layer.mlp.fc2) for i, layer in enumerate(model.model.layers)
    },
    "cohere": lambda model: {
        f"layers.{i}": ([layer.mlp.gate_proj, layer.mlp.up_proj], layer.mlp.down_proj)
        for i, layer in enumerate(model.model.layers)
    },
}


@pytest.mark.parametrize("family", PARALLEL)
def test_importance_beside_attention(family, tmp_path):
    """Where attention reads the same tensor, its path does not count: it gets the whole input."""
    save_random(CONFIGS[family](), tmp_path / "model")
    write_tokenizer(tmp_path / "model")
    write_text(tmp_path / "text")
    found, setup = measured(tmp_path / "model")
    model = load(tmp_path / "model")
    check_importance(found, setup, model, PARALLEL[family](model))


@pytest.mark.parametrize("family", PARALLEL)
def test_attention_sees_the_whole_input(family, tmp_path):
    """With all FFN inputs dropped by a hook of ours, the logits are those of a model whose FFNs get zeros directly."""
    save_random(CONFIGS[family](), tmp_path / "model")
    ids = torch.arange(24)[None] * 3 % 80
    model, sites = sites_at(tmp_path / "model")
    with torch.no_grad():
        whole = model(ids).logits
        for site in sites:
            watch_input(site, torch.zeros_like)
        found = model(ids).logits
        plain = load(tmp_path / "model", torch.float32)
        for readers, _ in PARALLEL[family](plain).values():
            for reader in readers:
                reader.register_forward_pre_hook(lambda module, arguments: (torch.zeros_like(arguments[0]),))
        expected = plain(ids).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not torch.allclose(found, whole)


# Rules inside the model.


def model_at(path, *, dtype="float32", windows=WINDOWS, text=None):
    """Load a model whose blocks are columns, with its text."""
    params = params_of(path, rule=None, dtype=dtype, windows=windows, layer_by_layer=False)
    return ModelText.load(path, params if text is None else replace(params, texts=text))


def layout_of(model, seed=0):
    """Return random orders of all columns."""
    rng = np.random.default_rng(seed)
    blocks = {block: found for site in model.scored.sites for block, found in site.layouts().items()}
    return Layout(f"order {seed}", {
        name: BlockLayout(
            NeuronPlacement(rng.permutation(found.n_neurons)), BlockExtent.packed(model.bundle_bytes[name])
        )
        for name, found in blocks.items()
    })  # fmt: skip


def run_rules(model, runs, *, with_dropped=False, **params):
    """Run rules inside a model; `runs` are texts, layouts and tunings by name."""
    nothing = Tuning.nothing()
    made = {name: RuleRun(parse_rule(rule), layout, tuning or nothing) for name, (rule, layout, tuning) in runs.items()}
    return model.run_rules(
        made, linear_device(128), SimulationParams(**params), Noise(), no_track, with_dropped=with_dropped
    )


def token_nll(model, batches):
    """Return the loss of all tokens that follow another one in their window, in float64."""
    found = []
    with torch.inference_mode():
        for batch in batches:
            scores = torch.log_softmax(forward(model, batch, "cpu", logits=True).double(), -1).flatten(0, 1)
            positions, targets = batch.targets()
            found.append(-scores[torch.from_numpy(positions), torch.from_numpy(targets)].numpy())
    return np.concatenate(found)


@pytest.mark.parametrize("family", FFNS)
def test_bytes_of_columns(family, written):
    """An input column has a weight for each neuron in each matrix that reads it, a down column one for each output."""
    model = model_at(written(family))
    n_readers = 2 if family in GATED else 1
    for i in range(3):
        assert model.bundle_bytes[f"layers.{i}.input"] == n_readers * 76 * 4
        assert model.bundle_bytes[f"layers.{i}"] == 32 * 4
    assert model.unit == "column"


@pytest.mark.parametrize("family", FFNS)
def test_rules_inside_a_model(family, written):
    """Exact is the plain model to the last bit; pruning loses what plain hooks on the modules lose."""
    path = written(family)
    model = model_at(path, dtype="float64")
    layout = layout_of(model)
    rules = ["exact", "dip=0.5", "glu-pruning=0.4", "dip-ca=0.5,gamma=1"]
    found = run_rules(model, {rule: (rule, layout, None) for rule in rules})
    plain = load(path)
    exact = token_nll(plain, model.scored.batches)
    assert not found["exact"].loss.token_kl.any()
    np.testing.assert_array_equal(found["exact"].loss.token_nll, found["exact"].loss.token_nll_exact)
    np.testing.assert_allclose(found["exact"].loss.token_nll, exact, rtol=1e-9)
    for rule in rules[1:]:
        _, handles = pruned(family, plain, shares_of(rule.replace("dip-ca", "dip").partition(",")[0], family))
        np.testing.assert_allclose(found[rule].loss.token_nll, token_nll(plain, model.scored.batches), rtol=1e-7)
        for handle in handles:
            handle.remove()
        assert found[rule].loss.kl > 1e-4
        document = found[rule].flash.to_json()
        assert document["needs"] == "any reader"
        shares = shares_of(rule.replace("dip-ca", "dip").partition(",")[0], family)
        for name, block in found[rule].flash.blocks.items():
            n, share = (32, shares[0]) if name.endswith("input") else (76, shares[1])
            assert block.totals.n_active == 132 * int(share * n)


def test_later_blocks_see_what_was_dropped_before(written):
    """Down columns are chosen by what the pruned input makes of them, not by what the whole one would."""
    path = written("llama")
    model = model_at(path)
    layout = layout_of(model)
    of_inputs = Layout("inputs", {name: block for name, block in layout.blocks.items() if name.endswith(".input")})
    found = run_rules(
        model, {"both": ("dip=0.5", layout, None), "inputs": ("dip=0.5", of_inputs, None)}, with_dropped=True
    )
    assert found["inputs"].flash.blocks.keys() == of_inputs.blocks.keys()
    assert 0 < found["inputs"].loss.kl < found["both"].loss.kl
    # The first block alone sees the same in both.
    np.testing.assert_array_equal(found["both"].dropped["layers.0.input"], found["inputs"].dropped["layers.0.input"])
    assert not np.array_equal(found["both"].dropped["layers.1.input"], found["inputs"].dropped["layers.1.input"])
    seen, _ = pruned("llama", plain := load(path, torch.float32), dip.split(0.5))
    token_nll(plain, model.scored.batches)
    rows = [batch.rows()[""].positions for batch in model.scored.batches]
    for name, calls in seen.items():
        mask, values = (
            np.concatenate([call[i].numpy()[at] for call, at in zip(calls, rows, strict=True)]) for i in range(2)
        )
        expected = np.where(mask, 0, values).mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(found["both"].dropped[name], expected, atol=1e-5)


def test_a_compensation_of_inputs_is_added_to_them(written):
    """With what is dropped, and without: up and gate read x, or what is left of it, plus the constant."""
    path = written("llama")
    model = model_at(path, dtype="float64")
    added = np.linspace(-0.5, 0.5, 32, dtype=np.float32)
    tuning = replace(Tuning.nothing(), compensation={"layers.1.input": added})
    layout = layout_of(model)
    found = run_rules(model, {"pruned": ("dip=0.5", layout, tuning), "bare": ("dip=0.5", layout, None)})
    alone = measure_loss(model.scored, {"a": Run({}, {"layers.1.input": added})}, track=no_track)["a"]

    def add(module, arguments):
        return (arguments[0] + torch.from_numpy(added).double(),)

    plain = load(path)
    for reader in FFNS["llama"](plain.model.layers[1])[0]:
        reader.register_forward_pre_hook(add)
    np.testing.assert_allclose(alone.token_nll, token_nll(plain, model.scored.batches), rtol=1e-9)
    assert alone.kl > 1e-4
    plain = load(path)
    pruned("llama", plain, dip.split(0.5))
    for reader in FFNS["llama"](plain.model.layers[1])[0]:
        reader.register_forward_pre_hook(add)
    np.testing.assert_allclose(found["pruned"].loss.token_nll, token_nll(plain, model.scored.batches), rtol=1e-7)
    assert found["pruned"].loss.kl != found["bare"].loss.kl


def test_layouts_share_a_run(written):
    """A rule that looks at outputs alone runs once for all layouts, and each costs what it costs by itself."""
    model = model_at(written("llama"))
    layouts = [layout_of(model, seed) for seed in range(3)]
    rules = ("exact", "dip=0.5", "dip-ca=0.5", "chunk=0.5")
    runs = {f"{rule} {i}": (rule, layout, None) for rule in rules for i, layout in enumerate(layouts)}
    params = {
        "cache": "mask-first-lfu",
        "capacity_neurons": dict.fromkeys(layouts[0].blocks, 20),
        "reset_tokens": (0, 44),
    }
    forwards = []
    handle = model.scored.model.register_forward_hook(lambda *_: forwards.append(1))
    together = run_rules(model, runs, **params)
    handle.remove()
    # One exact run, one for each of the first two rules, and for each layout by the others.
    assert len(forwards) == len(model.scored.batches) * (1 + 2 + 2 * 3)
    for name, run in runs.items():
        alone = run_rules(model, {"alone": run}, **params)["alone"]
        assert together[name].flash.to_json() == alone.flash.to_json()
        np.testing.assert_array_equal(together[name].loss.token_nll, alone.loss.token_nll)
        assert together[name].flash.name == run[1].name
    # What is in DRAM does not depend on the order, and so neither does what cache-aware masking keeps.
    caching = [together[f"dip-ca=0.5 {i}"] for i in range(3)]
    assert len({outcome.loss.kl for outcome in caching}) == 1
    assert len({outcome.flash.totals.n_hits for outcome in caching}) == 1
    assert len({outcome.flash.totals.flash_time_us for outcome in caching}) == 3
    assert caching[0].flash.totals.n_hits > together["dip=0.5 0"].flash.totals.n_hits


def test_tunings_keep_runs_apart(written):
    """Layouts for which something else was fitted run by themselves."""
    model = model_at(written("llama"))
    layout = layout_of(model)
    tuning = replace(Tuning.nothing(), compensation={"layers.1.input": np.ones(32, np.float32)})
    found = run_rules(model, {"a": ("dip=0.5", layout, tuning), "b": ("dip=0.5", layout, None)})
    assert found["a"].loss.kl != found["b"].loss.kl


def test_rules_of_neurons_have_no_place_in_columns(written):
    """And the other way round."""
    path = written("llama")
    model = model_at(path)
    with pytest.raises(UsageError, match="found a rule of neurons, and blocks of columns"):
        run_rules(model, {"a": ("partial-glu=0.3", layout_of(model), None)})
    neurons = ModelText.load(path, replace(params_of(path, layer_by_layer=False, rule=None), unit="neuron"))
    order = NeuronPlacement.original(76)
    layout = Layout("neurons", {f"layers.{i}": BlockLayout(order, BlockExtent.packed(912)) for i in range(3)})
    with pytest.raises(UsageError, match="found a rule of columns, and blocks of neurons"):
        run_rules(neurons, {"a": ("dip=0.5", layout, None)})


@pytest.mark.parametrize("by", ["gate", "up"])
def test_partial_glu_inside_a_model(by, written):
    """The largest outputs of the activation function, or of up, decide; down reads the others as zeros."""
    path = written("llama")
    params = replace(params_of(path, layer_by_layer=False, rule=None, dtype="float64"), unit="neuron")
    model = ModelText.load(path, params)
    order = NeuronPlacement.original(76)
    layout = Layout("neurons", {f"layers.{i}": BlockLayout(order, BlockExtent.packed(912)) for i in range(3)})
    found = run_rules(model, {"a": (f"partial-glu=0.3,by={by}", layout, None)})["a"]
    plain = load(path)
    for layer in plain.model.layers:
        known = {}
        module = layer.mlp.act_fn if by == "gate" else layer.mlp.up_proj
        module.register_forward_hook(lambda module, inputs, output, known=known: known.update(values=output))

        def prune(module, arguments, known=known):
            sizes = known["values"].abs()
            kept = torch.zeros_like(sizes).scatter(-1, sizes.topk(int(0.3 * 76)).indices, 1.0)
            return (arguments[0] * kept,)

        layer.mlp.down_proj.register_forward_pre_hook(prune)
    np.testing.assert_allclose(found.loss.token_nll, token_nll(plain, model.scored.batches), rtol=1e-7)
    assert found.loss.kl > 1e-5
    assert found.flash.totals.n_active == 3 * 132 * int(0.3 * 76)


@pytest.mark.skipif(DATA is None, reason="RIPPLE_PLACE_DATA names no development data")
def test_a_trained_model():
    """At equal density DIP loses less than GLU pruning; cache-aware masking has more hits, and loses more."""
    path = Path(DATA) / "models" / "llama-swiglu"
    model = model_at(path, windows=WindowParams(max_tokens=512), text=Path(DATA) / "text" / "wikitext2-test.txt")
    layout = layout_of(model)
    # Up and gate in full, and a quarter of down: three quarters of the weights.
    rules = ("dip=0.75", "glu-pruning=0.25", "dip=0.5", "dip-ca=0.5,gamma=1", "dip-ca=0.5,gamma=0.2")
    capacity = {name: block.n_neurons // 2 for name, block in layout.blocks.items()}
    found = run_rules(
        model, {rule: (rule, layout, None) for rule in rules}, cache="mask-first-lfu", capacity_neurons=capacity
    )

    def density(rule):
        used = {name: block.totals.n_active / (512 * layout.blocks[name].n_neurons)
                for name, block in found[rule].flash.blocks.items()}  # fmt: skip
        return np.mean([2 * used[f"layers.{i}.input"] + used[f"layers.{i}"] for i in range(4)]) / 3

    assert density("dip=0.75") == pytest.approx(0.75, abs=0.005)
    assert density("glu-pruning=0.25") == pytest.approx(0.75, abs=0.005)
    assert found["dip=0.75"].loss.kl < found["glu-pruning=0.25"].loss.kl
    assert found["dip=0.75"].loss.kl < found["dip=0.5"].loss.kl
    plain, eager = found["dip-ca=0.5,gamma=1"], found["dip-ca=0.5,gamma=0.2"]
    assert plain.loss.kl == found["dip=0.5"].loss.kl
    assert plain.flash.totals.n_hits == found["dip=0.5"].flash.totals.n_hits
    assert eager.flash.totals.n_hits > 1.1 * plain.flash.totals.n_hits
    assert eager.loss.kl > plain.loss.kl
