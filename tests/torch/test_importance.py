"""Fisher importance and sensitivity of tiny models, against gradients of each label by itself."""

import json

import numpy as np
import pytest
import torch
import transformers
from torch.nn.functional import log_softmax

from ripple_place.capture import model as models
from ripple_place.capture import sensitivity as sensitivity_module
from ripple_place.capture.importance import measure_importance, sampled_loss
from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.sensitivity import SensitivityFit
from ripple_place.capture.setup import set_up
from ripple_place.trace.sensitivity import sensitivity_features, sensitivity_of
from ripple_place.tracking import no_track
from tests.torch.capture_models import CAUSAL, ENCODER_DECODER, load, write_model, write_text
from tests.torch.label_gradients import label_gradients, windows_of

WINDOWS = WindowParams(max_tokens=132, segment_length=44, sequence_length=16)
"""Three segments of windows of 16, 16 and 12 tokens."""


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Qwen2's own tokenizer class knows no words."""
    monkeypatch.setattr(models, "read_tokenizer", transformers.PreTrainedTokenizerFast.from_pretrained)


def measured(path, text, **more):
    """Measure in float64, where no rounding hides a difference."""
    params = CaptureParams(text, **{"windows": WINDOWS, "dtype": "float64", "importance": True, **more})
    setup = set_up(path, params, None)
    return measure_importance(setup, no_track), setup


DOWN = {"opt": lambda layer: layer.fc2, "llama": lambda layer: layer.mlp.down_proj}


@pytest.mark.parametrize("family", DOWN)
def test_dense(family, tmp_path):
    """c_i is 1/2 w_i^T G w_i, with G of gradients at the FFN's output; every token counts once."""
    path = write_model(tmp_path / "model", CAUSAL[family]())
    write_text(tmp_path / "text")
    found, setup = measured(path, tmp_path / "text")
    model = load(path)
    layers = model.model.decoder.layers if family == "opt" else model.model.layers
    downs = {f"layers.{i}": DOWN[family](layer) for i, layer in enumerate(layers)}
    parts = [label_gradients(model, downs, ids, token) for ids, token in windows_of(setup)]
    assert list(found.values) == list(downs)
    assert found.note.n_tokens == 132
    for name, down in downs.items():
        g = torch.cat([part[name] for part in parts])
        w = down.weight.detach()
        expected = 0.5 * torch.einsum("hi,hk,ki->i", w, g.T @ g / len(g), w)
        np.testing.assert_allclose(found.values[name], expected, rtol=1e-5)
        assert found.values[name].dtype == np.float32
        assert found.note.n_rows[name] == 132


def test_fused_experts(tmp_path):
    """An expert's gradient is that of the layer's output times the router's weight, over the tokens routed to it."""
    path = write_model(tmp_path / "model", CAUSAL["mixtral"]())
    write_text(tmp_path / "text")
    found, setup = measured(path, tmp_path / "text")
    model = load(path)
    experts = {f"layers.{i}.experts": layer.mlp.experts for i, layer in enumerate(model.model.layers)}
    routes = {name: [] for name in experts}
    for name, module in experts.items():
        module.register_forward_pre_hook(lambda module, inputs, name=name: routes[name].append(inputs[1:]))
    parts = [label_gradients(model, experts, ids, token) for ids, token in windows_of(setup)]
    for name, module in experts.items():
        g = torch.cat([part[name] for part in parts])
        index, weights = (torch.cat(part).detach() for part in zip(*routes[name], strict=True))
        for expert in range(4):
            token, place = torch.where(index == expert)
            rows = weights[token, place, None] * (g[token] @ module.down_proj[expert].detach())
            np.testing.assert_allclose(found.values[f"{name}.{expert}"], 0.5 * rows.square().mean(0), rtol=1e-5)
            assert found.note.n_rows[f"{name}.{expert}"] == len(token)


def test_encoder_decoder(tmp_path):
    """Blocks of both stacks get gradients of the decoder's loss; each reads half of the tokens."""
    path = write_model(tmp_path / "model", ENCODER_DECODER["t5"]())
    write_text(tmp_path / "text")
    found, _ = measured(path, tmp_path / "text", sensitivity=True)
    assert {name.partition(".")[0] for name in found.values} == {"encoder", "decoder"}
    assert found.note.n_rows["encoder.layers.0"] + found.note.n_rows["decoder.layers.0"] == 132
    assert all((values > 0).any() for values in found.values.values())
    assert found.sensitivities.keys() == found.values.keys()


def test_deterministic_whatever_the_batches(tmp_path, monkeypatch):
    """The seed decides the labels of each window by itself; the model is as it was afterwards."""
    path = write_model(tmp_path / "model", CAUSAL["llama"]())
    write_text(tmp_path / "text")
    first, setup = measured(path, tmp_path / "text")
    assert all(parameter.requires_grad for parameter in setup.whole.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in setup.whole.modules())
    again, _ = measured(path, tmp_path / "text")
    other, _ = measured(path, tmp_path / "text", seed=1)
    monkeypatch.setattr(WindowParams, "batch_size", 1)
    alone, _ = measured(path, tmp_path / "text")
    for name, values in first.values.items():
        np.testing.assert_array_equal(values, again.values[name])
        np.testing.assert_allclose(values, alone.values[name], rtol=1e-6)
        assert not np.array_equal(values, other.values[name])


def test_after_a_run_in_inference_mode(tmp_path):
    """What such a run leaves in a model, as rotary embeddings of long contexts do, can be differentiated through."""
    scaled = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    path = write_model(tmp_path / "model", CAUSAL["llama"](rope_parameters=scaled, max_position_embeddings=16))
    write_text(tmp_path / "text")
    params = CaptureParams(tmp_path / "text", WINDOWS, importance=True)
    setup = set_up(path, params, None)
    with torch.inference_mode():
        setup.whole(torch.arange(32)[None])
        setup.whole.model.rotary_emb.kept = torch.ones(3)
    assert measure_importance(setup, no_track).values
    assert not setup.whole.model.rotary_emb.kept.is_inference()


def test_labels_are_drawn_from_the_prediction():
    """Over many draws, words come as often as the softmax says."""
    from ripple_place.capture.batches import Batch, BatchLayout, Window

    n = 20_000
    logits = torch.log(torch.tensor([0.5, 0.0, 0.3, 0.2])).repeat(1, n, 1).requires_grad_(True)
    batch = Batch(np.zeros(n, np.int32), [Window(0, n, 0, 0)], BatchLayout())
    sampled_loss(logits, batch, 3).backward()
    # The gradient of each position is p - 1[label].
    drawn = (torch.tensor([0.5, 0.0, 0.3, 0.2]) - logits.grad[0]).mean(0)
    np.testing.assert_allclose(drawn, [0.5, 0.0, 0.3, 0.2], atol=0.02)
    assert drawn[1] == 0


def test_dropping_a_neuron_costs_what_it_says(tmp_path):
    """The KL divergence from dropping one neuron at one token is about c_i h^2, on average over neurons and tokens."""
    path = write_model(tmp_path / "model", CAUSAL["llama"](hidden_act="silu"))
    write_text(tmp_path / "text", 3000)
    windows = WindowParams(max_tokens=2048, segment_length=512, sequence_length=16)
    found, setup = measured(path, tmp_path / "text", windows=windows)
    model = load(path)
    rng = np.random.default_rng(0)
    said, cost = [], []
    for block, layer in enumerate(model.model.layers):
        for ids, _ in list(windows_of(setup))[::16]:
            token, neuron = np.repeat(np.arange(16), 8), rng.integers(0, 76, 128)

            def drop(module, inputs, token=token, neuron=neuron):
                x = inputs[0].clone()
                if len(x) > 1:
                    x[np.arange(len(token)), token, neuron] = 0
                else:
                    said.append(found.values[f"layers.{block}"][neuron] * x[0, token, neuron].numpy() ** 2)  # noqa: B023
                return (x,)

            handle = layer.mlp.down_proj.register_forward_pre_hook(drop)
            with torch.no_grad():
                before, after = (log_softmax(model(part).logits, -1) for part in (ids, ids.repeat(len(token), 1)))
            handle.remove()
            cost.append((before.exp() * (before - after)).sum((1, 2)).numpy())
    assert 0.75 < np.mean(said) / np.mean(cost) < 1.33
    # A neuron that is said to cost more does: not for every token, but clearly.
    assert np.corrcoef(np.log(np.concatenate(said) + 1e-12), np.log(np.concatenate(cost) + 1e-12))[0, 1] > 0.8


def test_sensitivity_of_a_model(tmp_path):
    """Dense blocks have weights on the input of the up projection, by which the mean over the text is 1."""
    path = write_model(tmp_path / "model", CAUSAL["qwen2-moe"]())
    write_text(tmp_path / "text", 3000)
    windows = WindowParams(max_tokens=2048, segment_length=512, sequence_length=16)
    found, setup = measured(path, tmp_path / "text", windows=windows, sensitivity=True)
    dense = {
        "layers.0.shared_expert": "model.layers.0.mlp.shared_expert.up_proj", "layers.1": "model.layers.1.mlp.up_proj",
        "layers.2.shared_expert": "model.layers.2.mlp.shared_expert.up_proj",
    }  # fmt: skip
    assert {name: note.input for name, note in found.note.sensitivity.items()} == dense
    states = {name: [] for name in dense}
    model = load(path)
    for name, module in dense.items():
        model.get_submodule(module).register_forward_pre_hook(
            lambda module, inputs, name=name: states[name].append(inputs[0].reshape(-1, 32).numpy())
        )
    with torch.no_grad():
        for ids, _ in windows_of(setup):
            model(ids)
    for name, weights in found.sensitivities.items():
        assert weights.shape == (34,)
        assert weights.dtype == np.float32
        s = sensitivity_of(weights, np.concatenate(states[name]))
        assert s.mean() == pytest.approx(1, abs=1e-4)
        assert -1 < found.note.sensitivity[name].r2 < 1
    assert json.loads(found.note.to_metadata())["sensitivity"]["layers.1"]["input"] == dense["layers.1"]


def test_fit_against_least_squares():
    """Weights are those of least squares with a row for each penalty; R^2 is that of a fit without the last part."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)) * rng.lognormal(size=(400, 1))
    squared = np.exp(sensitivity_features(x) @ rng.normal(size=8) + rng.normal(size=400))
    squared[7] = 0
    fit = SensitivityFit(6)
    for first, is_held_out in ((0, False), (150, False), (300, True), (350, True)):
        last = {0: 150, 150: 300, 300: 350, 350: 400}[first]
        fit.add(x[first:last], squared[first:last], is_held_out=is_held_out)
        fit.add(x[:0], squared[:0], is_held_out=True)  # Of a batch before the last part: it must not end the fit.
    fit.finish()
    fit.add_to_scale(x[:100])
    fit.add_to_scale(x[100:])

    def lstsq(rows):
        rows = rows[squared[rows] > 0]
        features = sensitivity_features(x[rows])
        penalty = np.zeros((8, 8))
        penalty[1, 1] = 1e-3 * np.sqrt((features[:, 1] ** 2).sum())
        penalty[2:, 2:] = np.sqrt(sensitivity_module.RIDGE * (features[:, 2:] ** 2).sum() / 6) * np.eye(6)
        target = np.log(squared[rows])
        return np.linalg.lstsq(np.vstack([features, penalty]), np.append(target, np.zeros(8)), rcond=None)[0]

    expected = lstsq(np.arange(400))
    np.testing.assert_allclose(fit.weights[1:], expected[1:], rtol=1e-5)
    s = np.exp(0.5 * sensitivity_features(x) @ expected)
    assert fit.weights[0] == pytest.approx(expected[0] - 2 * np.log(s.mean()), rel=1e-5)
    assert sensitivity_of(fit.weights, x).mean() == pytest.approx(1, rel=1e-5)
    held_out = np.arange(300, 400)
    target = np.log(squared[held_out])
    error = target - sensitivity_features(x[held_out]) @ lstsq(np.arange(300))
    assert fit.r2 == pytest.approx(1 - (error**2).sum() / ((target - target.mean()) ** 2).sum())
    assert 0.3 < fit.r2 < 1


def test_fit_of_few_tokens():
    """One token, or states of one length: there are weights all the same, and no R^2."""
    fit = SensitivityFit(4)
    assert not fit.has_tokens
    fit.add(np.ones((1, 4)), np.array([2.0]), is_held_out=False)
    fit.finish()
    fit.add_to_scale(np.ones((1, 4)))
    assert fit.r2 is None
    assert sensitivity_of(fit.weights, np.ones((1, 4))) == pytest.approx(1)
