"""What dropping neurons costs, measured inside real models, against the same numbers computed another way."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
import transformers

from ripple_place.capture import model as models
from ripple_place.capture import params as params_module
from ripple_place.capture.continuation import Continuation, continue_greedily
from ripple_place.capture.described_sites import described_sites
from ripple_place.capture.ffn_inputs import ffn_input_names
from ripple_place.capture.loss import ScoredModel, compensation_of, measure_loss
from ripple_place.capture.loss_run import DroppedMeans, Run
from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.setup import set_up
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.errors import TraceFormatError, UnsupportedError, UsageError
from ripple_place.tracking import no_track
from tests.torch.capture_models import CAUSAL, ENCODER_DECODER, load, write_model, write_text, write_tokenizer
from tests.torch.models import CONFIGS, save_random

WINDOWS = WindowParams(max_tokens=132, segment_length=44, sequence_length=16)
"""Three segments of windows of 16, 16 and 12 tokens."""
FAMILIES = ("opt", "llama", "gpt2", "phi3", "mixtral", "qwen2-moe")
EXPERTS = ("mixtral", "qwen2-moe", "gpt_oss", "llama4", "dbrx", "jetmoe")
ODD_INPUTS = ("gpt_oss", "llama4", "dbrx", "jetmoe")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Batches of four windows: segments begin within some. Qwen2's own tokenizer class knows no words."""
    monkeypatch.setattr(params_module, "BATCH_TOKENS", 64)
    monkeypatch.setattr(models, "read_tokenizer", transformers.PreTrainedTokenizerFast.from_pretrained)


@dataclass
class Watcher:
    """A chooser that remembers what it saw; a ``None`` among the calls is the start of a segment."""

    decide: object = staticmethod(lambda outputs: outputs != 0)
    uses_gate: bool = False
    uses_inputs: bool = False
    calls: list = field(default_factory=list)

    def start_segment(self):
        """Remember it."""
        self.calls.append(None)

    def choose(self, outputs, gate, inputs):
        """Remember the rows, and decide by the outputs alone."""
        assert (gate is None) != self.uses_gate
        assert (inputs is None) != self.uses_inputs
        self.calls.append((outputs, gate, inputs))
        return self.decide(outputs)

    def seen(self, what=0):
        """Return all rows of the outputs (0), the gate (1) or the inputs (2)."""
        return np.concatenate([call[what] for call in self.calls if call is not None])

    def n_rows_of_segments(self):
        """Return how many rows came after each start of a segment."""
        rows = []
        for call in self.calls:
            if call is None:
                rows.append(0)
            else:
                rows[-1] += len(call[0])
        return rows


def drop_all(outputs):
    """Use no neuron."""
    return np.zeros(outputs.shape, bool)


def drop_small(outputs):
    """Use the neurons above the mean."""
    return outputs > outputs.mean(axis=1, keepdims=True)


def scored_at(path, *, windows=WINDOWS, n_words=500, **options):
    """Return a model at a path, ready to be scored on random words."""
    write_text(path.with_name("text"), n_words)
    params = CaptureParams(path.with_name("text"), windows, **{"layer_by_layer": False, **options})
    return ScoredModel.from_setup(set_up(path, params, None))


def scored_model(tmp_path, family, *, windows=WINDOWS, n_words=500, options=None, **config):
    """Return a small model, ready to be scored on random words."""
    path = write_model(tmp_path / "model", CAUSAL[family](**config))
    return scored_at(path, windows=windows, n_words=n_words, **(options or {}))


def blocks_of(scored):
    """Return the names of all blocks."""
    return [block for site in scored.sites for block in site.layouts()]


def reference(tmp_path, scored, edit=lambda model: None):
    """Return the log-probabilities of each window, one window at a time, by a model that was edited."""
    # A list: a generator that is left early would leave gradients off for the tests after it.
    model, found = load(tmp_path / "model"), []
    with torch.no_grad():
        edit(model)
        windows = [window for batch in scored.batches for window in batch.windows]
        ids = scored.batches[0].ids
        for window in windows:
            tokens = torch.tensor(ids[window.start : window.start + window.length].astype(np.int64))
            found.append((torch.log_softmax(model(tokens[None]).logits[0, :-1], -1), tokens[1:]))
    return found


def without_down(model):
    """Edit an OPT: the neurons of its layer 1 reach nothing."""
    model.model.decoder.layers[1].fc2.weight.zero_()


@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_what_is_not_zero_costs_exactly_nothing(tmp_path, family):
    """No bit of the predictions changes."""
    scored = scored_model(tmp_path, family)
    run = Run({block: Watcher() for block in blocks_of(scored)})
    result = measure_loss(scored, {"all": run}, track=no_track)["all"]
    np.testing.assert_array_equal(result.token_nll, result.token_nll_exact)
    assert not result.token_kl.any()
    assert (result.nll_rise, result.nll_rise_se, result.kl, result.agreement) == (0, 0, 0, 1)
    # Each window predicts all of its tokens but the first.
    assert result.n_scored == 3 * (15 + 15 + 11)
    np.testing.assert_array_equal(np.bincount(result.text_block), [15, 15, 11] * 3)


@pytest.mark.parametrize("family", ["mixtral", "llama"])
def test_dropping_nothing_leaves_smooth_models_alone_too(tmp_path, family):
    """Whether or not zeros are among the outputs."""
    scored = scored_model(tmp_path, family, hidden_act="silu")
    run = Run({block: Watcher(lambda outputs: np.ones(outputs.shape, bool)) for block in blocks_of(scored)})
    result = measure_loss(scored, {"all": run}, track=no_track)["all"]
    assert not result.token_kl.any()


def test_losses_are_those_of_a_model_without_the_weights(tmp_path):
    """Dropping all of a block is a down projection of zeros; likelihood and divergence by plain torch, in float64."""
    scored = scored_model(tmp_path, "opt", options={"dtype": "float64"})
    run = Run({"layers.1": Watcher(drop_all)})
    result = measure_loss(scored, {"none": run}, track=no_track)["none"]
    pairs = zip(reference(tmp_path, scored), reference(tmp_path, scored, without_down), strict=True)
    nll_exact, nll, kl, agrees = [], [], [], []
    for (p, tokens), (q, _) in pairs:
        nll_exact += [-float(row[token]) for row, token in zip(p, tokens, strict=True)]
        nll += [-float(row[token]) for row, token in zip(q, tokens, strict=True)]
        kl += torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1).tolist()
        agrees += (p.argmax(-1) == q.argmax(-1)).tolist()
    np.testing.assert_allclose(result.token_nll_exact, nll_exact, rtol=1e-9)
    np.testing.assert_allclose(result.token_nll, nll, rtol=1e-9)
    np.testing.assert_allclose(result.token_kl, kl, rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(result.agrees, agrees)
    assert result.kl > 1e-3
    assert result.agreement < 1
    document = result.to_json()
    assert document["nll_rise"] == pytest.approx(np.mean(nll) - np.mean(nll_exact))
    assert document["perplexity"] == pytest.approx(np.exp(np.mean(nll)))


def test_comparing_in_chunks_changes_nothing(tmp_path, monkeypatch):
    """Whatever the size of the vocabulary."""
    scored = scored_model(tmp_path, "llama")
    whole = measure_loss(scored, {"a": Run({"layers.1": Watcher(drop_small)})}, track=no_track)["a"]
    monkeypatch.setattr("ripple_place.capture.loss_scores._CHUNK_VALUES", 700)
    parts = measure_loss(scored, {"a": Run({"layers.1": Watcher(drop_small)})}, track=no_track)["a"]
    np.testing.assert_array_equal(whole.token_kl, parts.token_kl)
    np.testing.assert_array_equal(whole.token_nll, parts.token_nll)


def test_runs_do_not_touch_each_other(tmp_path):
    """Several runs at once cost what each costs alone, and the model is as before afterwards."""
    scored = scored_model(tmp_path, "mixtral")
    makers = {
        "small": lambda: Run({block: Watcher(drop_small) for block in blocks_of(scored)}),
        "none": lambda: Run({"layers.1.experts.2": Watcher(drop_all)}),
        "exact": lambda: Run({}),
    }
    together = measure_loss(scored, {name: make() for name, make in makers.items()}, track=no_track)
    for name, make in makers.items():
        alone = measure_loss(scored, {name: make()}, track=no_track)[name]
        np.testing.assert_array_equal(together[name].token_kl, alone.token_kl)
    assert together["small"].kl > together["exact"].kl == 0
    assert together["none"].kl > 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in scored.model.modules())


@pytest.mark.parametrize("family", ["opt", "llama", "gpt2", "phi3"])
def test_choosers_see_the_text_in_order(tmp_path, family):
    """Rows of all windows one after the other, no pads, each segment announced; gate and inputs belong to them."""
    scored = scored_model(tmp_path, family)
    watcher = Watcher(uses_gate=True, uses_inputs=True)
    measure_loss(scored, {"a": Run({"layers.1": watcher})}, track=no_track)
    assert watcher.n_rows_of_segments() == [44, 44, 44]
    assert watcher.calls[0] is None

    site = next(site for site in scored.sites if site.block == "layers.1")
    rows = []
    handle = site.module.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].flatten(0, -2)))
    with torch.no_grad():
        for batch in scored.batches:
            for window in batch.windows:
                tokens = batch.ids[window.start : window.start + window.length].astype(np.int64)
                scored.model(torch.from_numpy(tokens)[None])
    handle.remove()
    np.testing.assert_allclose(watcher.seen(), torch.cat(rows).numpy(), atol=1e-5)

    module = scored.input_modules["layers.1"]
    with torch.no_grad():
        product = module(torch.from_numpy(watcher.seen(2)))
        if family == "llama":
            mlp = scored.model.model.layers[1].mlp
            expected = mlp.act_fn(mlp.gate_proj(torch.from_numpy(watcher.seen(2)))), product
        elif family == "phi3":
            gate, up = product.chunk(2, dim=-1)
            expected = gate.relu(), up
        else:
            expected = product.relu(), torch.ones(1)
    np.testing.assert_allclose(watcher.seen(1), expected[0], atol=1e-5)
    np.testing.assert_allclose(watcher.seen(), expected[0] * expected[1], atol=1e-5)


def test_experts_see_their_tokens_in_order(tmp_path):
    """Of each window the tokens that are routed to them, with the input and the gate of each."""
    scored = scored_model(tmp_path, "mixtral")
    watchers = {f"layers.1.experts.{i}": Watcher(uses_gate=True, uses_inputs=True) for i in range(4)}
    measure_loss(scored, {"a": Run(watchers)}, track=no_track)

    module = next(site.module for site in scored.sites if site.block == "layers.1.experts")
    calls = []
    handle = module.register_forward_pre_hook(lambda _, inputs: calls.append(inputs[:2]))
    with torch.no_grad():
        for batch in scored.batches:
            for window in batch.windows:
                tokens = batch.ids[window.start : window.start + window.length].astype(np.int64)
                scored.model(torch.from_numpy(tokens)[None])
    handle.remove()
    hidden, chosen = (torch.cat([call[i].flatten(0, -2) for call in calls]) for i in range(2))
    for i, watcher in enumerate(watchers.values()):
        is_routed = (chosen == i).any(dim=-1)
        x = hidden[is_routed]
        np.testing.assert_allclose(watcher.seen(2), x, atol=1e-5)
        gate, up = torch.nn.functional.linear(x, module.gate_up_proj[i].detach()).chunk(2, dim=-1)
        np.testing.assert_allclose(watcher.seen(1), gate.relu(), atol=1e-5)
        np.testing.assert_allclose(watcher.seen(), gate.relu() * up, atol=1e-5)
        assert watcher.n_rows_of_segments() == [int(part.sum()) for part in is_routed.split(44)]


@pytest.mark.parametrize("family", ODD_INPUTS)
def test_experts_that_run_in_ways_of_their_own(tmp_path, family):
    """They see as many inputs as outputs, and dropping nothing costs nothing."""
    save_random(CONFIGS[family](), tmp_path / "model")
    write_tokenizer(tmp_path / "model")
    scored = scored_at(tmp_path / "model")
    watchers = {block: Watcher(uses_inputs=True) for block in blocks_of(scored)}
    result = measure_loss(scored, {"a": Run(watchers)}, track=no_track)["a"]
    assert not result.token_kl.any()
    for watcher in watchers.values():
        if watcher.calls:
            assert watcher.seen(2).shape == (len(watcher.seen()), 32)
    if family == "llama4":
        module = scored.input_modules["layers.1.experts"]
        x = torch.from_numpy(watchers["layers.1.experts.2"].seen(2))
        gate, up = (x @ module.gate_up_proj[2].detach()).chunk(2, dim=-1)
        expected = up * module.act_fn(gate)
        np.testing.assert_allclose(watchers["layers.1.experts.2"].seen(), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["opt", "gpt2", "falcon", "bloom", "phi3", "glm4", "starcoder2", "mpt", "gemma3n"])
def test_the_input_of_every_dense_ffn_is_found(tmp_path, family):
    """By what the family's file calls it, whatever transformers does."""
    config = CONFIGS[family]()
    save_random(config, tmp_path / "model")
    model = load(tmp_path / "model", torch.float32)
    ffn = describe_ffn(Checkpoint.open(tmp_path / "model"))
    sites = described_sites(model, ffn).sites
    found = ffn_input_names(model, sites, ffn)
    assert found.keys() == {site.block for site in sites}
    names = [name for names in found.values() for name in names]
    assert all(model.get_submodule(name).weight.shape.count(config.hidden_size) for name in names)
    assert not ffn_input_names(model, sites, None)


def test_a_compensation_is_an_edit_of_the_bias(tmp_path):
    """Of a model that has one."""
    scored = scored_model(tmp_path, "opt", options={"dtype": "float64"})
    added = np.linspace(-0.5, 0.5, 32, dtype=np.float32)
    run = Run({}, {"layers.1": added})
    result = measure_loss(scored, {"a": run}, track=no_track)["a"]

    def edit(model):
        model.model.decoder.layers[1].fc2.bias.add_(torch.from_numpy(added))

    nll = [-float(row[t]) for p, tokens in reference(tmp_path, scored, edit) for row, t in zip(p, tokens, strict=True)]
    np.testing.assert_allclose(result.token_nll, nll, rtol=1e-9)
    assert result.kl > 1e-4


@pytest.mark.parametrize("family", ["opt", "gpt2", "llama", "mixtral"])
def test_the_mean_of_what_is_dropped(tmp_path, family):
    """It equals a loop over the rows that the choosers saw."""
    scored = scored_model(tmp_path, family)
    watchers = {block: Watcher(drop_small) for block in blocks_of(scored)}
    collected = DroppedMeans()
    measure_loss(scored, {"a": Run(watchers, dropped=collected)}, track=no_track)
    means = collected.means()
    assert means.keys() == watchers.keys()
    for block, watcher in watchers.items():
        rows = watcher.seen().astype(np.float64)
        total = np.zeros(rows.shape[1])
        for row, used in zip(rows, drop_small(watcher.seen()), strict=True):
            for i in np.flatnonzero(~used):
                total[i] += row[i]
        np.testing.assert_allclose(means[block], total / len(rows), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("family", ["opt", "gpt2", "llama"])
def test_a_compensation_is_the_projection_of_the_mean(tmp_path, family):
    """Without the bias, for both forms of a matrix."""
    scored = scored_model(tmp_path, family)
    site = scored.sites[1]
    mean = np.linspace(-1, 1, site.n_neurons, dtype=np.float32)
    weight = site.module.weight.detach().numpy()
    expected = mean @ weight if family == "gpt2" else weight @ mean
    found = compensation_of(site, mean)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_compensation_mends_the_mean(tmp_path):
    """Dropping all of a block whose neurons put out the same for every token costs nothing with it."""
    path = write_model(tmp_path / "model", CAUSAL["opt"]())
    model = load(path, torch.float32)
    with torch.no_grad():
        model.model.decoder.layers[1].fc1.weight.zero_()
    model.save_pretrained(path)
    scored = scored_at(path)
    collected = DroppedMeans()
    measure_loss(scored, {"a": Run({"layers.1": Watcher(drop_all)}, dropped=collected)}, track=no_track)
    dropped = collected.means()
    added = {"layers.1": compensation_of(scored.sites[1], dropped["layers.1"])}
    results = measure_loss(
        scored,
        {"bare": Run({"layers.1": Watcher(drop_all)}), "mended": Run({"layers.1": Watcher(drop_all)}, added)},
        track=no_track,
    )
    assert results["mended"].kl < 1e-9 < results["bare"].kl


def continued(scored, prompt, n_tokens, run):
    """Continue a prompt by one run."""
    return continue_greedily(scored, prompt, n_tokens, {"run": run})["run"]


PROMPT = np.array([5, 17, 40, 8, 61], np.int32)


@pytest.mark.parametrize("family", ["opt", "llama", "gpt2", "mixtral"])
def test_a_continuation_is_that_of_generate(tmp_path, family):
    """Where nothing that matters is dropped; the choosers see the prompt and all tokens but the last, in order."""
    scored = scored_model(tmp_path, family)
    watchers = {block: Watcher() for block in blocks_of(scored)}
    found = continued(scored, PROMPT, 20, Run(watchers))
    ids = torch.from_numpy(PROMPT.astype(np.int64))[None]
    expected = scored.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, eos_token_id=None, pad_token_id=0
    )[0, len(PROMPT) :]
    np.testing.assert_array_equal(found.exact, expected)
    np.testing.assert_array_equal(found.lossy, expected)
    assert (found.agreement, found.n_common) == (1, 20)
    for block, watcher in watchers.items():
        if ".experts." not in block:
            assert watcher.n_rows_of_segments() == [len(PROMPT) + 19]
            assert watcher.calls[0] is None


def test_a_continuation_goes_through_the_choosers(tmp_path):
    """Dropping all of a block continues as the model without its weights does."""
    scored = scored_model(tmp_path, "opt")
    found = continued(scored, PROMPT, 20, Run({"layers.1": Watcher(drop_all)}))
    model = load(tmp_path / "model", torch.float32)
    with torch.no_grad():
        without_down(model)
    ids = torch.from_numpy(PROMPT.astype(np.int64))[None]
    expected = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, eos_token_id=None, pad_token_id=0
    )[0, len(PROMPT) :]
    np.testing.assert_array_equal(found.lossy, expected)
    assert not np.array_equal(found.exact, found.lossy)


def test_continuations_are_compared_place_by_place():
    """Tokens may agree again after the first that differs."""
    pair = Continuation(np.array([4, 5, 6, 7], np.int32), np.array([4, 5, 1, 7], np.int32))
    assert (pair.agreement, pair.n_common) == (0.75, 2)


# What is refused, before anything runs.


def test_models_that_cannot_be_scored_are_refused(tmp_path):
    """Layer by layer; an encoder with a decoder; no prediction of the next token; a block that runs twice."""
    llama = write_model(tmp_path / "llama", CAUSAL["llama"]())
    with pytest.raises(UnsupportedError, match=r"runs layer by layer.*--whole-model"):
        scored_at(llama, layer_by_layer=True)
    with pytest.raises(UnsupportedError, match="an encoder with a decoder"):
        scored_at(write_model(tmp_path / "t5", ENCODER_DECODER["t5"]()))
    for family, match in (("albert", "does not predict the next token"), ("zamba2", "share weights")):
        path = tmp_path / family
        config = CONFIGS[family]()
        save_random(config, path)
        write_tokenizer(path)
        with pytest.raises(UnsupportedError, match=match):
            scored_at(path)
    with pytest.raises(UsageError, match="windows of one token each"):
        scored_at(llama, windows=WindowParams(max_tokens=3, segment_length=1, sequence_length=16))


def test_runs_that_do_not_fit_the_model_are_refused(tmp_path):
    """A block that is not there; a constant for experts; a gate or an input that cannot be seen."""
    scored = scored_model(tmp_path, "mixtral")
    for run, match in (
        (Run({"layers.7": Watcher()}), "a run for layers.7; expected blocks of the model: layers.0.experts.0"),
        (Run({}, {"layers.1": np.zeros(32, np.float32)}), "a run for layers.1"),
        (Run({}, {"layers.1.experts.0": np.zeros(32, np.float32)}), "a compensation for experts: layers.1.experts.0"),
    ):
        with pytest.raises((UsageError, UnsupportedError), match=match):
            measure_loss(scored, {"a": run}, track=no_track)
    save_random(CONFIGS["llama4"](), tmp_path / "llama4")
    write_tokenizer(tmp_path / "llama4")
    scored = scored_at(tmp_path / "llama4")
    with pytest.raises(UnsupportedError, match="activation function is not a module"):
        measure_loss(scored, {"a": Run({"layers.1.experts.0": Watcher(uses_gate=True)})}, track=no_track)
    scored.input_modules.clear()
    with pytest.raises(UnsupportedError, match="input is read by an unknown module"):
        measure_loss(scored, {"a": Run({"layers.0": Watcher(uses_inputs=True)})}, track=no_track)


def test_numbers_that_are_none_are_refused(tmp_path):
    """Logits beyond float16; outputs that are no number."""
    path = write_model(tmp_path / "model", CAUSAL["llama"]())
    model = load(path, torch.float32)
    with torch.no_grad():
        model.lm_head.weight.mul_(3e4 / model.lm_head.weight.abs().mean())
    model.save_pretrained(path)
    with pytest.raises(TraceFormatError, match="logits that are NaN or infinite"):
        measure_loss(scored_at(path, dtype="float16"), {"a": Run({})}, track=no_track)
    scored = scored_at(path)
    with torch.no_grad():
        scored.model.model.layers[1].mlp.up_proj.weight[3].fill_(torch.nan)
    with pytest.raises(TraceFormatError, match=r"layers.1, token \d+, neuron 3"):
        measure_loss(scored, {"a": Run({"layers.1": Watcher()})}, track=no_track)


def test_continuations_that_have_no_room_are_refused(tmp_path):
    """64 positions; and a model that keeps something else than keys and values."""
    scored = scored_model(tmp_path, "opt")
    with pytest.raises(UsageError, match="a prompt of 5 tokens to be continued by 60; expected no more than 64"):
        continued(scored, PROMPT, 60, Run({}))
    assert continued(scored, PROMPT, 59, Run({})).agreement == 1
    save_random(CONFIGS["rwkv"](), tmp_path / "rwkv")
    write_tokenizer(tmp_path / "rwkv")
    with pytest.raises(UnsupportedError, match="keeps no keys and values"):
        continued(scored_at(tmp_path / "rwkv"), PROMPT, 2, Run({}))
