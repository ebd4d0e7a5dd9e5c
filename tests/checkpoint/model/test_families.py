"""Families that transformers does not build, tensor by tensor, with a forward pass of their own in numpy.

The forward passes are written from the models' published code, in terms of the stored names and layouts: they know
nothing of the family files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import CheckpointError, VerificationError
from tests.builders import adjust_manifest, llama_tensors, random_placement, swap_neurons, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ripple_place.checkpoint.model.neuron_tensor import Component
    from tests.builders import Tensors

H, N = 8, 24


class Case(NamedTuple):
    """A model: its config, the shapes of its tensors, its blocks, and what its FFNs compute."""

    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    blocks: dict[str, int]
    forward: Callable[[Tensors, np.ndarray], np.ndarray]


def silu(x: np.ndarray) -> np.ndarray:
    """Return x times its logistic function."""
    return x / (1 + np.exp(-x))


def linear(t: Tensors, name: str, x: np.ndarray) -> np.ndarray:
    """Apply an nn.Linear."""
    bias = t.get(f"{name}.bias")
    return x @ t[f"{name}.weight"].T + (0 if bias is None else bias)


def by_layer(n_layers: int, layer: Callable[[Tensors, np.ndarray, int], np.ndarray]) -> Callable[..., np.ndarray]:
    """Return a forward pass that runs layers one after the other, with a residual."""

    def forward(t: Tensors, x: np.ndarray) -> np.ndarray:
        for i in range(n_layers):
            x = x + layer(t, x, i)
        return x

    return forward


def internlm2() -> Case:
    """w2(silu(w1 x) * w3 x)."""
    base = "model.layers.{}.feed_forward."
    shapes = {base.format(i) + f"w{k}.weight": (H, N) if k == 2 else (N, H) for i in range(2) for k in (1, 2, 3)}

    def layer(t: Tensors, x: np.ndarray, i: int) -> np.ndarray:
        m = base.format(i)
        return linear(t, m + "w2", silu(linear(t, m + "w1", x)) * linear(t, m + "w3", x))

    config = {"model_type": "internlm2", "intermediate_size": N, "hidden_size": H, "num_hidden_layers": 2}
    shapes |= {"model.tok_embeddings.weight": (N, H), "output.weight": (N, H)}
    return Case(config, shapes, {"layers.0": N, "layers.1": N}, by_layer(2, layer))


def qwen() -> Case:
    """c_proj(w1 x * silu(w2 x)); the config's width is twice the neurons."""
    base = "transformer.h.{}.mlp."
    shapes = {base.format(0) + name + ".weight": s for name, s in (("w1", (N, H)), ("w2", (N, H)), ("c_proj", (H, N)))}

    def layer(t: Tensors, x: np.ndarray, i: int) -> np.ndarray:
        m = base.format(i)
        return linear(t, m + "c_proj", linear(t, m + "w1", x) * silu(linear(t, m + "w2", x)))

    config = {"model_type": "qwen", "intermediate_size": 2 * N, "hidden_size": H, "num_hidden_layers": 1}
    return Case(config, shapes, {"layers.0": N}, by_layer(1, layer))


def chatglm() -> Case:
    """Halves: silu(first) * second."""
    base = "transformer.encoder.layers.{}.mlp."
    shapes = {
        base.format(0) + "dense_h_to_4h.weight": (2 * N, H), base.format(0) + "dense_h_to_4h.bias": (2 * N,),
        base.format(0) + "dense_4h_to_h.weight": (H, N), base.format(0) + "dense_4h_to_h.bias": (H,),
    }  # fmt: skip

    def layer(t: Tensors, x: np.ndarray, i: int) -> np.ndarray:
        first, second = np.split(linear(t, base.format(i) + "dense_h_to_4h", x), 2, axis=-1)
        return linear(t, base.format(i) + "dense_4h_to_h", silu(first) * second)

    config = {"model_type": "chatglm", "ffn_hidden_size": N, "hidden_size": H, "num_layers": 1}
    return Case(config, shapes, {"layers.0": N}, by_layer(1, layer))


def phi3small() -> Case:
    """Pairs: gelu(even) * (odd + 1)."""
    base = "model.layers.{}.mlp."
    shapes = {
        base.format(0) + "up_proj.weight": (2 * N, H), base.format(0) + "up_proj.bias": (2 * N,),
        base.format(0) + "down_proj.weight": (H, N), base.format(0) + "down_proj.bias": (H,),
    }  # fmt: skip

    def layer(t: Tensors, x: np.ndarray, i: int) -> np.ndarray:
        both = linear(t, base.format(i) + "up_proj", x)
        even, odd = both[..., ::2], both[..., 1::2]
        return linear(t, base.format(i) + "down_proj", even * silu(1.702 * even) * (odd + 1))

    config = {"model_type": "phi3small", "ff_intermediate_size": N, "hidden_size": H, "num_hidden_layers": 1}
    return Case(config, shapes, {"layers.0": N}, by_layer(1, layer))


def old_phi2() -> Case:
    """Phi-2 as first released."""
    base = "transformer.h.{}.mlp."
    shapes = {base.format(0) + name: s for name, s in (("fc1.weight", (N, H)), ("fc1.bias", (N,)),
                                                      ("fc2.weight", (H, N)), ("fc2.bias", (H,)))}  # fmt: skip

    def layer(t: Tensors, x: np.ndarray, i: int) -> np.ndarray:
        return linear(t, base.format(i) + "fc2", silu(linear(t, base.format(i) + "fc1", x)))

    config = {"model_type": "phi-msft", "n_inner": None, "n_embd": H, "n_layer": 1}
    return Case(config, shapes, {"layers.0": N}, by_layer(1, layer))


def smallthinker() -> Case:
    """Experts with ReLU gates, all of them run with equal weight; the router has a row per expert."""
    base = "model.layers.{}.block_sparse_moe."
    shapes = {f"{base.format(0)}experts.{e}.{name}.weight": (H, N) if name == "down" else (N, H)
              for e in range(11) for name in ("gate", "up", "down")}  # fmt: skip
    shapes[base.format(0) + "primary_router.weight"] = (11, H)

    def layer(t: Tensors, x: np.ndarray, i: int) -> np.ndarray:
        out = 0 * x
        for e in range(11):
            m = f"{base.format(i)}experts.{e}."
            out = out + linear(t, m + "down", np.maximum(linear(t, m + "gate", x), 0) * linear(t, m + "up", x))
        return out

    config = {"model_type": "smallthinker", "moe_ffn_hidden_size": N, "hidden_size": H, "num_hidden_layers": 1}
    return Case(config, shapes, {f"layers.0.experts.{e}": N for e in range(11)}, by_layer(1, layer))


def turbosparse_mixtral() -> Case:
    """Mixtral's names: w2(relu(w1 x) * relu(w3 x))."""
    base = "model.layers.0.block_sparse_moe."
    shapes = {f"{base}experts.{e}.w{k}.weight": (H, N) if k == 2 else (N, H) for e in range(2) for k in (1, 2, 3)}

    def layer(t: Tensors, x: np.ndarray, i: int) -> np.ndarray:
        names = [f"{base}experts.{e}.w" for e in range(2)]
        gated = [np.maximum(linear(t, m + "1", x), 0) * np.maximum(linear(t, m + "3", x), 0) for m in names]
        return sum(linear(t, m + "2", hidden) for m, hidden in zip(names, gated, strict=True))

    config = {"model_type": "mixtral", "intermediate_size": N, "hidden_size": H, "num_hidden_layers": 1}
    return Case(config, shapes, {"layers.0.experts.0": N, "layers.0.experts.1": N}, by_layer(1, layer))


def llama_shaped(model_type: str, prefix: str, activation: Callable[[np.ndarray], np.ndarray], norm: str = "") -> Case:
    """Llama's names, a width of its own in each layer, perhaps a norm over the neurons before down."""
    base, widths = prefix + "layers.{}.mlp.", (N, 16)
    shapes: dict[str, tuple[int, ...]] = {}
    for i, n in enumerate(widths):
        shapes |= {base.format(i) + f"{name}_proj.weight": s
                   for name, s in (("gate", (n, H)), ("up", (n, H)), ("down", (H, n)))}  # fmt: skip
        if norm:
            shapes[base.format(i) + norm] = (n,)

    def layer(t: Tensors, x: np.ndarray, i: int) -> np.ndarray:
        m = base.format(i)
        hidden = activation(linear(t, m + "gate_proj", x)) * linear(t, m + "up_proj", x)
        if norm.endswith("scales"):
            hidden = hidden / t[m + norm]
        elif norm:
            hidden = hidden / np.sqrt((hidden**2).mean(-1, keepdims=True) + 1e-5) * t[m + norm]
        return linear(t, m + "down_proj", hidden)

    config = {"model_type": model_type, "text_config": {"intermediate_size": list(widths), "hidden_size": H,
              "num_hidden_layers": 2}}  # fmt: skip
    return Case(config, shapes, {f"layers.{i}": n for i, n in enumerate(widths)}, by_layer(2, layer))


def gemma3n() -> Case:
    """Gemma 3n as the hub has it: the text model inside, beside towers with matrices as wide as its FFNs."""
    case = llama_shaped("gemma3n", "model.language_model.", silu)
    towers = {
        "model.vision_tower.timm_model.blocks.1.0.pw_exp.conv.weight": (N, H, 1, 1),
        "model.audio_tower.conformer.0.ffw_layer_start.ffw_layer_1.weight": (N, H),
        "model.embed_vision.embedding.weight": (N, H),
        "model.language_model.layers.0.altup.prediction_coefs.weight": (N, 4),
        "model.language_model.layers.0.per_layer_input_gate.weight": (16, H),
    }
    return case._replace(shapes=case.shapes | towers)


def with_several_tokens(case: Case, prefix: str) -> Case:
    """Return a model with a head for several tokens, which has an FFN of the same width that no profile sees."""
    ffn = {"gate_proj.weight": (N, H), "up_proj.weight": (N, H), "down_proj.weight": (H, N)}
    head = {prefix + name: shape for name, shape in {"fc.weight": (H, 2 * H), "norm.weight": (H,)}.items()}
    head |= {f"{prefix}layers.0.{module}.{name}": shape for module in ("mlp", "mlp.experts.0", "mlp.shared_expert")
             for name, shape in ffn.items()}  # fmt: skip
    return case._replace(shapes=case.shapes | head)


def openelm(*, gated: bool) -> Case:
    """Halves, proj_2(silu(first) * second), or one matrix; every layer of its own width, which no config key says."""
    base, widths = "transformer.layers.{}.ffn.", (N, 16)
    shapes: dict[str, tuple[int, ...]] = {"transformer.token_embeddings.weight": (2 * N, H)}
    for i, n in enumerate(widths):
        shapes |= {
            base.format(i) + "proj_1.weight": (2 * n if gated else n, H),
            base.format(i) + "proj_2.weight": (H, n),
        }

    def layer(t: Tensors, x: np.ndarray, i: int) -> np.ndarray:
        hidden = linear(t, base.format(i) + "proj_1", x)
        if gated:
            first, second = np.split(hidden, 2, axis=-1)
            return linear(t, base.format(i) + "proj_2", silu(first) * second)
        return linear(t, base.format(i) + "proj_2", silu(hidden))

    config = {"model_type": "openelm", "ffn_multipliers": [3.0, 2.0], "model_dim": H, "num_transformer_layers": 2}
    return Case(config, shapes, {f"layers.{i}": n for i, n in enumerate(widths)}, by_layer(2, layer))


def nemotron_nas(*, says_widths: bool) -> Case:
    """Llama's names; of four layers one has no FFN, and one a single matrix in its place."""
    base, widths = "model.layers.{}.mlp.", {0: N, 3: 16}
    shapes: dict[str, tuple[int, ...]] = {base.format(1) + "linear_mlp.weight": (H, H), "lm_head.weight": (N, H)}
    shapes["model.layers.2.input_layernorm.weight"] = (H,)
    for i, n in widths.items():
        shapes |= {base.format(i) + f"{name}_proj.weight": s
                   for name, s in (("gate", (n, H)), ("up", (n, H)), ("down", (H, n)))}  # fmt: skip

    def layer(t: Tensors, x: np.ndarray, i: int) -> np.ndarray:
        m = base.format(i)
        if i == 1:
            return linear(t, m + "linear_mlp", x)
        return (
            0 * x
            if i == 2
            else linear(t, m + "down_proj", silu(linear(t, m + "gate_proj", x)) * linear(t, m + "up_proj", x))
        )

    ffns = [{"no_op": i == 2, "replace_with_linear": i == 1, "ffn_mult": 1.5,
             "intermediate_size": widths.get(i) if says_widths else None} for i in range(4)]  # fmt: skip
    config = {"model_type": "nemotron-nas", "hidden_size": H, "num_hidden_layers": 4, "intermediate_size": None,
              "block_configs": [{"attention": {}, "ffn": ffn} for ffn in ffns]}  # fmt: skip
    return Case(config, shapes, {f"layers.{i}": n for i, n in widths.items()}, by_layer(4, layer))


def fused_experts(model_type: str, *, transposed: bool, pairs: bool) -> Case:
    """All experts in one tensor, [E, 2I, H] or [E, H, 2I], gate and up as halves or by turns."""
    base, n_experts = "model.layers.0.mlp.experts.", 3
    up, down = (n_experts, H, 2 * N), (n_experts, N, H)
    if not transposed:
        up, down = (n_experts, 2 * N, H), (n_experts, H, N)
    shapes: dict[str, tuple[int, ...]] = {base + "gate_up_proj": up, base + "down_proj": down}
    if pairs:
        shapes |= {base + "gate_up_proj_bias": (n_experts, 2 * N), base + "down_proj_bias": (n_experts, H)}

    def layer(t: Tensors, x: np.ndarray, i: int) -> np.ndarray:
        out = 0 * x
        for e in range(n_experts):
            u, d = t[base + "gate_up_proj"][e], t[base + "down_proj"][e]
            both = x @ (u if transposed else u.T)
            if pairs:
                both = both + t[base + "gate_up_proj_bias"][e]
            gate, linear_part = (both[..., ::2], both[..., 1::2]) if pairs else np.split(both, 2, axis=-1)
            out = out + (silu(gate) * linear_part) @ (d if transposed else d.T)
            if pairs:
                out = out + t[base + "down_proj_bias"][e]
        return out

    config = {"model_type": model_type, "intermediate_size": N, "hidden_size": H, "num_hidden_layers": 1}
    return Case(config, shapes, {f"layers.0.experts.{e}": N for e in range(n_experts)}, by_layer(1, layer))


def mixture(model_type: str, config: dict[str, Any], modules: dict[str, str], names: tuple[str, ...]) -> Case:
    """FFNs in tensors of their own, by block name: gate, up and down by `names`, or no gate; the sum of all."""
    shapes = {
        f"{module}.{name}.weight": (H, N) if name == names[-1] else (N, H)
        for module in modules.values()
        for name in names
    }

    def forward(t: Tensors, x: np.ndarray) -> np.ndarray:
        out = 0 * x
        for module in modules.values():
            hidden = silu(linear(t, f"{module}.{names[0]}", x))
            for name in names[1:-1]:
                hidden = hidden * linear(t, f"{module}.{name}", x)
            out = out + linear(t, f"{module}.{names[-1]}", hidden)
        return out

    sizes = {"hidden_size": H, "num_hidden_layers": 1, "moe_intermediate_size": N, "intermediate_size": N}
    return Case({"model_type": model_type} | sizes | config, shapes, dict.fromkeys(modules, N), forward)


def deepseek_v4() -> Case:
    """DeepSeek V4 as the hub has it: no prefix, and a head for several tokens with an FFN like a layer's."""
    modules = {f"layers.0.experts.{e}": f"layers.0.ffn.experts.{e}" for e in range(2)}
    case = mixture(
        "deepseek_v4", {}, modules | {"layers.0.shared_expert": "layers.0.ffn.shared_experts"}, ("w1", "w3", "w2")
    )
    others = {"embed.weight": (N, H), "head.weight": (N, H), "layers.0.attn.wo_b.weight": (H, N),
              "layers.0.ffn.gate.weight": (2, H), "layers.0.hc_ffn_fn": (N, 4 * H), "hc_head_fn": (4, 4 * H),
              "mtp.0.ffn.experts.0.w1.weight": (N, H), "mtp.0.ffn.experts.0.w2.weight": (H, N)}  # fmt: skip
    return case._replace(shapes=case.shapes | others)


def kimi_k25() -> Case:
    """Kimi K2.5 as the hub has it: the text model inside, beside a tower whose layers are blocks."""
    base = "language_model.model.layers.0.mlp"
    modules = {
        "layers.0": base,
        "layers.0.experts.0": f"{base}.experts.0",
        "layers.0.shared_expert": f"{base}.shared_experts",
    }
    text = {"text_config": {"model_type": "kimi_k2", "n_shared_experts": 1}}
    case = mixture("kimi_k25", text, modules, ("gate_proj", "up_proj", "down_proj"))
    others = {"vision_tower.encoder.blocks.0.mlp.fc0.weight": (N, H), "mm_projector.proj.0.weight": (N, H),
              "language_model.lm_head.weight": (N, H), f"{base}.gate.weight": (1, H)}  # fmt: skip
    return case._replace(shapes=case.shapes | others)


def nemotron_h() -> Case:
    """Nemotron-H as the hub has it: no gates, layers that are an FFN or experts, and one with a state space."""
    mixer = "backbone.layers.{}.mixer"
    modules = {"layers.0": mixer.format(0), "layers.2.experts.0": mixer.format(2) + ".experts.0",
               "layers.2.shared_expert": mixer.format(2) + ".shared_experts"}  # fmt: skip
    config = {"moe_shared_expert_intermediate_size": N, "num_hidden_layers": 3}
    case = mixture("nemotron_h", config, modules, ("up_proj", "down_proj"))
    others = {mixer.format(1) + ".in_proj.weight": (N, H), mixer.format(1) + ".out_proj.weight": (H, N),
              "mtp.layers.0.mixer.up_proj.weight": (N, H), "backbone.embeddings.weight": (N, H)}  # fmt: skip
    return case._replace(shapes=case.shapes | others)


def relu(x: np.ndarray) -> np.ndarray:
    """Return the positive part."""
    return np.maximum(x, 0)


CASES = {
    "internlm2": internlm2(),
    "qwen": qwen(),
    "chatglm": chatglm(),
    "phi3small": phi3small(),
    "phi-2 with remote code": old_phi2(),
    "smallthinker": smallthinker(),
    "turbosparse-mixtral": turbosparse_mixtral(),
    "bamboo": llama_shaped("bamboo", "model.", relu),
    "prosparse": llama_shaped("sparsellama", "model.", relu),
    "text part of a vision model": llama_shaped("gemma3", "language_model.model.", silu),
    "bitnet, old name": llama_shaped("llama", "model.", silu, "ffn_layernorm.weight"),
    "awq's scaled activation": llama_shaped("llama", "", silu, "act.scales"),
    "qwen3-vl-moe on disk": fused_experts("qwen3_vl_moe", transposed=True, pairs=False),
    "qwen3-vl-moe at run time": fused_experts("qwen3_vl_moe", transposed=False, pairs=False),
    "openelm": openelm(gated=True),
    "openelm without gates": openelm(gated=False),
    "nemotron-nas": nemotron_nas(says_widths=False),
    "nemotron-nas that says widths": nemotron_nas(says_widths=True),
    "gpt-oss": fused_experts("gpt_oss", transposed=True, pairs=True),
    "gemma3n": gemma3n(),
    "deepseek-v4": deepseek_v4(),
    "kimi-k2.5": kimi_k25(),
    "nemotron-h": nemotron_h(),
    "qwen3.5, several tokens": with_several_tokens(llama_shaped("qwen3_5", "model.language_model.", silu), "mtp."),
    "qwen3-next, several tokens": with_several_tokens(
        fused_experts("qwen3_next", transposed=False, pairs=False), "mtp."
    ),
    "mimo, several tokens": with_several_tokens(
        fused_experts("mimo_v2_flash", transposed=False, pairs=False), "model.mtp."
    ),
    "hunyuan, several tokens": with_several_tokens(
        fused_experts("hy_v3", transposed=False, pairs=False), "model.mtp_layers.0."
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_forward_is_the_same(case: Case, tmp_path: Path) -> None:
    """The blocks are found, the model computes the same, and each tensor that is wrongly permuted is found."""
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape) for name, shape in case.shapes.items()}
    source, out = write_checkpoint(tmp_path / "m", tensors, case.config), tmp_path / "out"
    model = describe_ffn(Checkpoint.open(source))
    assert {name: block.n_neurons for name, block in model.blocks.items()} == case.blocks
    execute(plan_rewrite(model, random_placement(model), out))
    x = rng.standard_normal((3, H))
    after = load_file(out / "model.safetensors")
    np.testing.assert_allclose(case.forward(after, x), case.forward(tensors, x), rtol=1e-9, atol=1e-9)
    assert any(not np.array_equal(after[name], tensors[name]) for name in tensors)
    for tensor in list(model.blocks.values())[-1].tensors:
        whole = (out / "model.safetensors").read_bytes()
        swap_neurons(out / "model.safetensors", model.checkpoint.extent(tensor.name), tensor)
        adjust_manifest(out)
        with pytest.raises(VerificationError, match="other weights for neuron"):
            verify(source, out)
        (out / "model.safetensors").write_bytes(whole)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bundles(case: Case, tmp_path: Path) -> None:
    """The gate, up and down vectors of a neuron lie side by side, however the family stores them."""
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape) for name, shape in case.shapes.items()}
    source, out = write_checkpoint(tmp_path / "m", tensors, case.config), tmp_path / "out"
    model = describe_ffn(Checkpoint.open(source))
    placement = random_placement(model)
    execute(plan_rewrite(model, placement, out, formats=["bundled"]))
    bundles = load_file(out / "ripple_place" / "bundled.safetensors")
    for name, n_neurons in case.blocks.items():
        order, block = placement.blocks[name].order, bundles[f"{name}.bundles"]
        assert block.shape == (n_neurons, len(model.blocks[name].components), H)
        for component, rows in zip(model.blocks[name].components, block.swapaxes(0, 1), strict=True):
            np.testing.assert_array_equal(rows, rows_of(case, tensors, name, component)[order])


def rows_of(case: Case, tensors: Tensors, name: str, component: Component) -> np.ndarray:
    """Return a component of an FFN with a neuron per row."""
    tensor, n_neurons = tensors[component.name], case.blocks[name]
    if "experts." in component.name and tensor.ndim == 3:
        tensor = tensor[int(name.rsplit(".", 1)[1])]
    if tensor.shape[0] == H:  # A neuron per column, whatever else.
        tensor = tensor.T
    parts = len(tensor) // n_neurons
    pairs = case.config["model_type"] in ("phi3small", "gpt_oss")
    first = component.part * (1 if pairs else n_neurons)
    return tensor[first :: parts if pairs and parts == 2 else 1][:n_neurons]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_columns(case: Case, tmp_path: Path) -> None:
    """Columns of gate and up lie side by side, their weights in the order of the columns of down."""
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape) for name, shape in case.shapes.items()}
    source, out = write_checkpoint(tmp_path / "m", tensors, case.config), tmp_path / "out"
    model = describe_ffn(Checkpoint.open(source)).of_unit("column")
    placement = random_placement(model)
    execute(plan_rewrite(model, placement, out, formats=["bundled"]))
    bundles = load_file(out / "ripple_place" / "bundled.safetensors")
    for name, n_neurons in case.blocks.items():
        of_input, order = placement.blocks[f"{name}.input"].order, placement.blocks[name].order
        inputs, down = model.blocks[f"{name}.input"].components, model.blocks[name].components
        assert [part.role for part in inputs] in (["gate", "up"], ["up"])
        assert bundles[f"{name}.input.bundles"].shape == (H, len(inputs), n_neurons)
        for component, columns in zip(inputs, bundles[f"{name}.input.bundles"].swapaxes(0, 1), strict=True):
            np.testing.assert_array_equal(columns, rows_of(case, tensors, name, component).T[of_input][:, order])
        np.testing.assert_array_equal(bundles[f"{name}.bundles"][:, 0], rows_of(case, tensors, name, down[0])[order])


@pytest.mark.parametrize(
    ("model_type", "shapes", "axis"),
    [
        ("gpt2", ((H, N), (N, H)), 1),
        ("gpt2", ((N, H), (H, N)), 0),
        ("gpt2", ((H, H), (H, H)), 1),
        ("gpt_bigcode", ((N, H), (H, N)), 0),
        ("gpt_bigcode", ((H, N), (N, H)), 1),
        ("gpt_bigcode", ((H, H), (H, H)), 0),
    ],
)
@pytest.mark.parametrize("known", ["n_embd", "n_inner", "bias"])
def test_the_same_names_with_opposite_axes(
    tmp_path: Path, model_type: str, shapes: tuple[tuple[int, int], ...], axis: int, known: str
) -> None:
    """GPT-2 and its kin: shapes decide, with the config or the bias to tell which is which; else the model type."""
    up, down = shapes
    n = up[axis]
    base = "transformer.h.0.mlp."
    tensors = {base + "c_fc.weight": np.zeros(up, "f2"), base + "c_proj.weight": np.zeros(down, "f2")}
    if known == "bias":
        tensors |= {base + "c_fc.bias": np.zeros(n, "f2"), base + "c_proj.bias": np.zeros(H, "f2")}
    config = {"model_type": model_type, "n_layer": 1} | {"n_embd": {"n_embd": H}, "n_inner": {"n_inner": n}}.get(
        known, {}
    )
    block = describe_ffn(Checkpoint.open(write_checkpoint(tmp_path / "m", tensors, config))).blocks["layers.0"]
    assert (block.n_neurons, block.hidden) == (n, H)
    assert block.components[0].tensor.action == ("columns" if axis else "rows")


def test_shared_experts_are_not_experts(tmp_path: Path) -> None:
    """`experts.` is part of `shared_experts.`: each has its block, of its own width."""
    base, rng = "model.layers.0.mlp.", np.random.default_rng(0)
    tensors = {}
    for module, n in (("experts.0", 16), ("experts.1", 16), ("shared_experts", 32)):
        for name, shape in (("gate", (n, H)), ("up", (n, H)), ("down", (H, n))):
            tensors[f"{base}{module}.{name}_proj.weight"] = rng.standard_normal(shape).astype("f2")
    config = {"model_type": "deepseek_v3", "moe_intermediate_size": 16, "n_shared_experts": 2, "num_hidden_layers": 1}
    model = describe_ffn(Checkpoint.open(write_checkpoint(tmp_path / "m", tensors, config)))
    assert {name: block.n_neurons for name, block in model.blocks.items()} == {
        "layers.0.experts.0": 16, "layers.0.experts.1": 16, "layers.0.shared_expert": 32,
    }  # fmt: skip


def test_some_experts_placed(tmp_path: Path) -> None:
    """Experts share a tensor, and yet one of them moves alone."""
    case = CASES["gpt-oss"]
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape) for name, shape in case.shapes.items()}
    source = write_checkpoint(tmp_path / "m", tensors, case.config)
    model = describe_ffn(Checkpoint.open(source))
    placement = random_placement(model, skip=("layers.0.experts.0", "layers.0.experts.2"))
    execute(plan_rewrite(model, placement, tmp_path / "out"))
    after, name = load_file(tmp_path / "out" / "model.safetensors"), "model.layers.0.mlp.experts.down_proj"
    order = placement.blocks["layers.0.experts.1"].order
    np.testing.assert_array_equal(after[name][[0, 2]], tensors[name][[0, 2]])
    np.testing.assert_array_equal(after[name][1], tensors[name][1][order])


@pytest.mark.parametrize(
    ("model_type", "shapes", "message"),
    [
        ("qwen3_moe", {"gate_up_proj": (2, 2 * N, H), "down_proj": (2, N, H)}, r"down_proj.*24 neurons along axis 2"),
        ("qwen3_moe", {"gate_up_proj": (2, 2 * N, H), "down_proj": (3, H, N)}, "2 experts along axis 0"),
        ("qwen3_moe", {"gate_up_proj": (2 * N, H), "down_proj": (2, H, N)}, "a matrix for each expert"),
        ("qwen3_moe", {"gate_up_proj": (2, 2 * N, H)}, r"layers.0.experts.\*: found no tensor .*down_proj"),
        ("qwen3_moe", {"gate_up_proj": (2, 2 * N - 1, H), "down_proj": (2, H, N)}, "48 gate and up neurons"),
    ],
)
def test_fused_tensors_that_are_wrong(
    tmp_path: Path, model_type: str, shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    """The refusal is that of the layout that comes first in the family file."""
    tensors = {f"model.layers.0.mlp.experts.{name}": np.zeros(shape, "f2") for name, shape in shapes.items()}
    config = {"model_type": model_type, "moe_intermediate_size": N, "hidden_size": H, "num_hidden_layers": 1}
    with pytest.raises(CheckpointError, match=message):
        describe_ffn(Checkpoint.open(write_checkpoint(tmp_path / "m", tensors, config)))


def test_dbrx_without_its_width(tmp_path: Path) -> None:
    """Stacked experts cannot be told apart without the config."""
    tensors = {
        f"transformer.blocks.0.ffn.experts.mlp.{name}": np.zeros((4 * N, H), "f2") for name in ("w1", "v1", "w2")
    }
    for config, message in (({}, "found None neurons an expert"), ({"ffn_hidden_size": 7}, "found 7 neurons")):
        path = write_checkpoint(tmp_path / message, tensors, {"model_type": "dbrx", "ffn_config": config})
        with pytest.raises(CheckpointError, match=message):
            describe_ffn(Checkpoint.open(path))


def test_an_encoder_alone(tmp_path: Path) -> None:
    """Text encoders of image models are T5 without its decoder; a layer missing in the middle is still seen."""
    base, rng = "encoder.block.{}.layer.1.DenseReluDense.", np.random.default_rng(0)
    tensors = {base.format(i) + name: rng.standard_normal(shape).astype("f2") for i in range(2)
               for name, shape in (("wi.weight", (N, H)), ("wo.weight", (H, N)))}  # fmt: skip
    config = {"model_type": "t5", "d_ff": N, "d_model": H, "num_layers": 2}
    model = describe_ffn(Checkpoint.open(write_checkpoint(tmp_path / "m", tensors, config)))
    assert list(model.blocks) == ["encoder.layers.0", "encoder.layers.1"]
    with pytest.raises(CheckpointError, match="no FFN in layers 2"):
        describe_ffn(Checkpoint.open(write_checkpoint(tmp_path / "n", tensors, config | {"num_layers": 3})))


@pytest.mark.parametrize("name", ["experts.down_proj", "experts.0.w2.weight", "shared_mlp.up.weight", "mlp2.ffn.fc2"])
def test_an_ffn_of_another_width(tmp_path: Path, name: str) -> None:
    """Gemma 4's experts lie beside a dense FFN of another width: no family without them may take the model."""
    tensors = llama_tensors(n_neurons=N) | {f"model.layers.0.{name}": np.zeros((2, 7, 5), "f2")}
    config = {"model_type": "llama", "intermediate_size": N}
    with pytest.raises(CheckpointError, match=rf"{name}: found shape \[2, 7, 5\], which has the name of an FFN's"):
        describe_ffn(Checkpoint.open(write_checkpoint(tmp_path / "m", tensors, config)))


def test_an_unmentioned_tensor_in_an_expert(tmp_path: Path) -> None:
    """The coverage check sees fused modules as well."""
    tensors = llama_tensors(n_neurons=N) | {"model.layers.0.mlp.up_proj.lora_magnitude": np.zeros(3, "f2")}
    config = {"model_type": "llama", "intermediate_size": N}
    with pytest.raises(CheckpointError, match=r"lora_magnitude.*lies in an FFN module"):
        describe_ffn(Checkpoint.open(write_checkpoint(tmp_path / "m", tensors, config)))
