"""Mixtures with renumbered experts are the same models to transformers: logits, and the tokens that they generate."""

import json

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from ripple_place.checkpoint.model.experts import open_experts
from ripple_place.checkpoint.model.routers import grouped_order, groups_of
from ripple_place.checkpoint.output.expert_plan import plan_pack
from ripple_place.checkpoint.pack import execute_pack
from ripple_place.errors import UsageError
from ripple_place.placement import ModelPlacement, NeuronPlacement, write_placement
from ripple_place.workflows.pack import PackParams, pack_experts
from ripple_place.workflows.verify import verify
from tests.torch.models import CONFIGS, DEEPSEEK, EXPERT_MODELS, EXPERTS, HEADS, TINY_TWO_FORMS, logits, save_random

GROUPED = DEEPSEEK | {"n_routed_experts": 8, "n_group": 4, "topk_group": 2}
NAMED = {
    "qwen3_moe": lambda: hf.Qwen3MoeConfig(**HEADS, **EXPERTS | {"num_experts": 8}),
    "gpt_oss": lambda: hf.GptOssConfig(**HEADS, num_local_experts=8, num_experts_per_tok=2),
    "deepseek_v3": lambda: hf.DeepseekV3Config(**GROUPED),
    "mixtral": EXPERT_MODELS["mixtral"],
}
STORED_ALIKE = {"llama4", "gpt_oss", "dbrx"}
"""Models that transformers saves the same way whether or not it restores the original format."""
WITHOUT_ROUTERS = {"jetmoe"}
TINY = {
    "gemma4-experts", "internvl-of-experts", "granitemoe_swa", "granitemoehybrid", "lfm2_moe", "jamba", "nemotron_h",
    "minimax_m2", "kimi_k25", "kimi_linear", "mistral_large4", "qwen3_5_moe", "glm4_moe_lite", "mimo_v2_flash",
    "afmoe", "hunyuan_v1_moe", "hy_v3", "cohere2_moe",
}  # fmt: skip
"""Of each way to name a router one at least."""
OF_EXPERTS = sorted((EXPERT_MODELS.keys() - WITHOUT_ROUTERS) | TINY)
TWO_FORMS = [name for name in OF_EXPERTS if name not in STORED_ALIKE and name in EXPERT_MODELS | TINY_TWO_FORMS]
CASES = [(name, True) for name in OF_EXPERTS] + [(name, False) for name in TWO_FORMS]


def random_orders(model, seed=3):
    """Return a placement of experts in random orders that keep groups, and that give no expert its old number back."""
    rng = np.random.default_rng(seed)
    blocks = {}
    for name, block in model.blocks.items():
        order = np.arange(block.n_neurons)
        while (order == np.arange(block.n_neurons)).any():
            order = grouped_order(rng.permutation(block.n_neurons).astype(np.int32), groups_of(model, name))
        blocks[name] = NeuronPlacement(order)
    return ModelPlacement(blocks, {"unit": "expert", "ordering": "random"})


def renumber(source, out, **options):
    """Write a checkpoint with its experts renumbered in random order."""
    placement = source.with_name("placement")
    write_placement(placement, random_orders(open_experts(source)))
    return pack_experts(source, out, placement=placement, params=PackParams(permute_experts=True, **options))


def assert_same(found, expected):
    """Raise unless logits differ by rounding only: many routers compute in float32 whatever the dtype."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def in_float32(path):
    """Return a checkpoint's model in float32."""
    return hf.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, experts_implementation="eager").eval()


@pytest.mark.parametrize("name", NAMED)
def test_logits_and_tokens_in_float32(name, tmp_path):
    """Logits are equal to rounding, and greedy decoding gives the same tokens; `verify --logits` says so too."""
    source, out = tmp_path / "source", tmp_path / "out"
    save_random(NAMED[name](), source)
    report = renumber(source, out)
    assert any("same score" in warning for warning in report.warnings)
    models = [in_float32(path) for path in (source, out)]
    prompt = torch.arange(12).reshape(2, 6) * 7 % 80
    with torch.no_grad():
        before, after = (model(prompt).logits for model in models)
        texts = [model.generate(prompt, max_new_tokens=24, do_sample=False, use_cache=True) for model in models]
    assert_same(after, before)
    assert torch.equal(*texts)
    checks = verify(source, out, logits=True).verification.checks
    assert checks["logits equal, in float64, on random tokens"] > 0


@pytest.mark.parametrize(
    ("name", "original"), CASES, ids=lambda value: {True: "original", False: "fused"}.get(value, value)
)
def test_every_family_with_a_router(name, original, tmp_path):
    """In float64, as transformers writes them; a router that stays as it was does not pass."""
    config, source, out = CONFIGS[name](), tmp_path / "source", tmp_path / "out"
    save_random(config, source, save_original_format=original)
    renumber(source, out, formats=["drop-in"])
    before = logits(source, config)
    assert_same(logits(out, config), before)
    routers = {part.tensor for of in open_experts(source).routers.values() for part in of.parts}
    for path in out.glob("*.safetensors"):
        old = load_file(source / path.name)
        save_file(load_file(path) | {key: old[key] for key in old.keys() & routers}, path, {"format": "pt"})
    with pytest.raises(AssertionError, match="not close"):
        assert_same(logits(out, config), before)


def test_a_correction_bias_left_behind(tmp_path):
    """DeepSeek's bias decides which experts are chosen: as it was, it chooses others."""
    config, source, out = hf.DeepseekV3Config(**GROUPED), tmp_path / "source", tmp_path / "out"
    save_random(config, source)
    for path in source.glob("*.safetensors"):
        tensors = load_file(path)
        for name in tensors:
            if name.endswith("e_score_correction_bias"):
                tensors[name] = torch.linspace(-1, 1, 8)
        save_file(tensors, path, {"format": "pt"})
    renumber(source, out, formats=["drop-in"])
    before = logits(source, config)
    assert_same(logits(out, config), before)
    for path in out.glob("*.safetensors"):
        tensors, old = load_file(path), load_file(source / path.name)
        save_file(tensors | {name: old[name] for name in old if name.endswith("_bias")}, path, {"format": "pt"})
    with pytest.raises(AssertionError, match="not close"):
        assert_same(logits(out, config), before)


def test_logits_of_a_pack_are_still_refused(tmp_path):
    """Where nothing was renumbered there is nothing to run."""
    source, out = tmp_path / "source", tmp_path / "out"
    save_random(NAMED["qwen3_moe"](), source)
    execute_pack(plan_pack(open_experts(source), random_orders(open_experts(source)), out))
    with pytest.raises(UsageError, match="a pack of experts"):
        verify(source, out, logits=True)


def test_mxfp4(tmp_path):
    """gpt-oss in MXFP4, with blocks and scales: the values that transformers unpacks give the same logits."""
    config = hf.GptOssConfig(**HEADS | {"intermediate_size": 64}, num_local_experts=8, num_experts_per_tok=2)
    source, out = tmp_path / "source", tmp_path / "out"
    save_random(config, source)
    rng = torch.Generator().manual_seed(5)
    n_experts, hidden, width = 8, config.hidden_size, config.intermediate_size
    tensors = {}
    for path in sorted(source.glob("*.safetensors")):
        for name, tensor in load_file(path).items():
            if not name.endswith("_proj") or "experts" not in name:
                tensors[name] = tensor
                continue
            n_out, n_in = (2 * width, hidden) if "gate_up" in name else (hidden, width)
            shape = (n_experts, n_out, n_in // 32)
            tensors[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), generator=rng, dtype=torch.uint8)
            tensors[f"{name}_scales"] = torch.randint(118, 124, shape, generator=rng, dtype=torch.uint8)
        path.unlink()
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    (source / "model.safetensors.index.json").unlink()
    written = json.loads((source / "config.json").read_text())
    written["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": []}
    (source / "config.json").write_text(json.dumps(written))
    renumber(source, out)
    unpacked = hf.Mxfp4Config(dequantize=True)
    prompt = torch.arange(12).reshape(2, 6) * 7 % 80
    with torch.no_grad():
        before, after = (
            hf.AutoModelForCausalLM.from_pretrained(path, quantization_config=unpacked).float()(prompt).logits
            for path in (source, out)
        )
    assert before.abs().max() > 1e-3
    assert_same(after, before)
