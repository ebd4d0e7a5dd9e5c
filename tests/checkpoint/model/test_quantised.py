"""Quantised checkpoints: what they stand for is the same after reordering, or they are refused.

The dequantisation is written from the formats' descriptions, bit by bit, and shares nothing with the package.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from ripple_place.checkpoint import fileio
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output import packed, permute
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.proof import compare
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import UnsupportedError, VerificationError
from ripple_place.placement import ModelPlacement, NeuronPlacement
from tests.builders import adjust_manifest, llama_config, swap_neurons, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.builders import Tensors

H, N, GROUP = 64, 96, 32
MLP = "model.layers.0.mlp."
PROJECTIONS = {"gate_proj": (N, H), "up_proj": (N, H), "down_proj": (H, N)}


def words(values: np.ndarray, bits: int, axis: int) -> np.ndarray:
    """Pack integers into int32 words along an axis, each after the other, lowest bits first."""
    values = np.moveaxis(values.astype(np.uint8), axis, -1)
    stream = np.unpackbits(values[..., None], axis=-1, bitorder="little")[..., :bits]
    packed_bytes = np.packbits(stream.reshape(*values.shape[:-1], -1), axis=-1, bitorder="little")
    return np.ascontiguousarray(np.moveaxis(packed_bytes.view("<i4"), -1, axis))


def integers(packed_words: np.ndarray, bits: int, axis: int) -> np.ndarray:
    """Unpack what `words` packed."""
    as_bytes = np.ascontiguousarray(np.moveaxis(packed_words, axis, -1)).view(np.uint8)
    stream = np.unpackbits(as_bytes, axis=-1, bitorder="little")
    values = stream.reshape(*stream.shape[:-1], -1, bits) @ (1 << np.arange(bits))
    return np.moveaxis(values, -1, axis)


def gptq(rng: np.random.Generator, out: int, n_in: int, bits: int, shuffled: bool) -> Tensors:
    """Return GPTQ's tensors of a matrix [out, in]."""
    n_groups = n_in // GROUP
    g_idx = np.arange(n_in) // GROUP
    return {
        "qweight": words(rng.integers(0, 2**bits, (n_in, out)), bits, 0),
        "qzeros": words(rng.integers(0, 2**bits, (n_groups, out)), bits, 1),
        "scales": rng.random((n_groups, out)).astype("f2"),
        "g_idx": (rng.permutation(g_idx) if shuffled else g_idx).astype("i4"),
    }


def gptq_weight(t: Tensors, bits: int) -> np.ndarray:
    """(q - (z + 1)) * s, by the group that g_idx names; as [out, in]."""
    q, zeros, group = integers(t["qweight"], bits, 0), integers(t["qzeros"], bits, 1), t["g_idx"]
    return ((q - (zeros[group] + 1)) * t["scales"].astype("f8")[group]).T


def awq(rng: np.random.Generator, out: int, n_in: int) -> Tensors:
    """Return AWQ's tensors: nibble k of a word is output 0, 2, 4, 6, 1, 3, 5, 7 of its eight."""
    lanes = [0, 2, 4, 6, 1, 3, 5, 7]

    def by_lanes(values: np.ndarray) -> np.ndarray:
        return words(values.reshape(len(values), -1, 8)[..., lanes].reshape(len(values), -1), 4, 1)

    n_groups = n_in // GROUP
    return {
        "qweight": by_lanes(rng.integers(0, 16, (n_in, out))), "qzeros": by_lanes(rng.integers(0, 16, (n_groups, out))),
        "scales": rng.random((n_groups, out)).astype("f2"),
    }  # fmt: skip


def awq_weight(t: Tensors) -> np.ndarray:
    """(q - z) * s, groups of inputs in order; as [out, in]."""
    back = [0, 4, 1, 5, 2, 6, 3, 7]

    def in_order(packed_words: np.ndarray) -> np.ndarray:
        values = integers(packed_words, 4, 1)
        return values.reshape(len(values), -1, 8)[..., back].reshape(len(values), -1)

    group = np.arange(len(t["qweight"])) // GROUP
    return ((in_order(t["qweight"]) - in_order(t["qzeros"])[group]) * t["scales"].astype("f8")[group]).T


def pack_quantized(rng: np.random.Generator, out: int, n_in: int, g_idx: bool) -> Tensors:
    """Return compressed-tensors' pack-quantized tensors."""
    n_groups = n_in // GROUP
    tensors = {
        "weight_packed": words(rng.integers(0, 16, (out, n_in)), 4, 1),
        "weight_scale": rng.random((out, n_groups)).astype("f2"),
        "weight_zero_point": words(rng.integers(0, 16, (out, n_groups)), 4, 0),
        "weight_shape": np.array([out, n_in]),
    }
    return tensors | ({"weight_g_idx": rng.permutation(np.arange(n_in) // GROUP).astype("i4")} if g_idx else {})


def pack_quantized_weight(t: Tensors) -> np.ndarray:
    """(q - z) * s."""
    q, zeros = integers(t["weight_packed"], 4, 1), integers(t["weight_zero_point"], 4, 0)
    group = t.get("weight_g_idx", np.arange(q.shape[1]) // GROUP)
    return (q - zeros[:, group]) * t["weight_scale"].astype("f8")[:, group]


def scaled(rng: np.random.Generator, out: int, n_in: int, name: str, shape: tuple[int, ...], dtype: str) -> Tensors:
    """Return bytes and a scale; which 8-bit format the bytes have does not matter to their order."""
    scale = rng.random(shape).astype("f4")
    return {"weight": rng.integers(-128, 128, (out, n_in)).astype(dtype), name: scale, "input_scale": np.ones((), "f4")}


def scaled_weight(t: Tensors) -> np.ndarray:
    """Weight times scale: one, by output, or by block of outputs and inputs."""
    (name,) = set(t) & {"weight_scale", "weight_scale_inv", "SCB"}
    weight, scale = t["weight"].astype("f8"), t[name].astype("f8")
    if scale.size == 1:
        return weight * scale
    if scale.size == len(weight):
        return weight * scale.reshape(-1, 1)
    by_item = scale.repeat(GROUP, 0)[: weight.shape[0]].repeat(GROUP, 1)[:, : weight.shape[1]]
    return weight * by_item


def nf4(rng: np.random.Generator, out: int, n_in: int, block: int) -> Tensors:
    """Return bitsandbytes' tensors of a matrix: two weights to a byte, the first in the high nibble."""
    state = json.dumps({"quant_type": "nf4", "blocksize": block, "dtype": "float16", "shape": [out, n_in]})
    return {
        "weight": rng.integers(0, 256, (out * n_in // 2, 1)).astype("u1"),
        "weight.absmax": rng.random(out * n_in // block).astype("f4"),
        "weight.quant_map": rng.random(16).astype("f4"),
        "weight.quant_state.bitsandbytes__nf4": np.frombuffer(state.encode(), "u1").copy(),
    }


def nf4_weight(t: Tensors) -> np.ndarray:
    """Map entry times the scale of its block of the flat weights."""
    state = json.loads(t["weight.quant_state.bitsandbytes__nf4"].tobytes())
    flat = np.stack([t["weight"] >> 4, t["weight"] & 15], axis=-1).reshape(-1)
    values = t["weight.quant_map"].astype("f8")[flat] * t["weight.absmax"].astype("f8").repeat(state["blocksize"])
    return values.reshape(state["shape"])


def compressed(**more: Any) -> dict[str, Any]:
    """Return compressed-tensors' settings."""
    weights = {"num_bits": 4, "group_size": GROUP}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}, **more}


def settings_gptq(bits: int, desc_act: bool) -> dict[str, Any]:
    """Return GPTQ's settings."""
    return {"quant_method": "gptq", "bits": bits, "group_size": GROUP, "desc_act": desc_act}


ROW, BLOCK = lambda out, n_in: (out, 1), lambda out, n_in: (-(-out // GROUP), -(-n_in // GROUP))
Build = "Callable[[np.random.Generator, int, int], Tensors]"
SCHEMES: dict[str, tuple[dict[str, Any], Any, Callable[[Tensors], np.ndarray], int]] = {
    **{
        f"gptq {bits} bits, desc_act": (
            settings_gptq(bits, True), lambda rng, o, i, bits=bits: gptq(rng, o, i, bits, True),
            lambda t, bits=bits: gptq_weight(t, bits), 1,
        )
        for bits in (2, 3, 4, 8)
    },
    "gptq in order": (settings_gptq(4, False), lambda rng, o, i: gptq(rng, o, i, 4, False),
                      lambda t: gptq_weight(t, 4), GROUP),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"}, awq, awq_weight, GROUP),
    "pack-quantized": (compressed(format="pack-quantized"), lambda rng, o, i: pack_quantized(rng, o, i, False),
                       pack_quantized_weight, GROUP),
    "pack-quantized, g_idx": (compressed(format="pack-quantized"), lambda rng, o, i: pack_quantized(rng, o, i, True),
                              pack_quantized_weight, 1),
    "int8 by output": (compressed(format="int-quantized"),
                       lambda rng, o, i: scaled(rng, o, i, "weight_scale", (o, 1), "i1"), scaled_weight, 1),
    "fp8, one scale": ({"quant_method": "fp8"}, lambda rng, o, i: scaled(rng, o, i, "weight_scale", (), "i1"),
                       scaled_weight, 1),
    "fp8 by output": ({"quant_method": "fbgemm_fp8"}, lambda rng, o, i: scaled(rng, o, i, "weight_scale", (o,), "i1"),
                      scaled_weight, 1),
    "fp8 by block": ({"quant_method": "fp8", "weight_block_size": [GROUP, GROUP]},
                     lambda rng, o, i: scaled(rng, o, i, "weight_scale_inv", BLOCK(o, i), "i1"), scaled_weight, GROUP),
    "bitsandbytes int8": ({"quant_method": "bitsandbytes", "load_in_8bit": True},
                          lambda rng, o, i: scaled(rng, o, i, "SCB", (o,), "i1"), scaled_weight, 1),
    "bitsandbytes 4 bits": ({"quant_method": "bitsandbytes", "load_in_4bit": True},
                            lambda rng, o, i: nf4(rng, o, i, GROUP), nf4_weight, GROUP),
}  # fmt: skip


def write_quantised(path: Path, scheme: str, n_neurons: int = N) -> Path:
    """Write a Llama of one layer whose FFN is quantised."""
    settings, build, _, _ = SCHEMES[scheme]
    rng = np.random.default_rng(0)
    tensors = {"model.norm.weight": np.ones(H, "f2")}
    for name, shape in PROJECTIONS.items():
        out, n_in = (n_neurons if size == N else size for size in shape)
        tensors |= {f"{MLP}{name}.{part}": tensor for part, tensor in build(rng, out, n_in).items()}
    config = llama_config(n_layers=1, n_neurons=n_neurons, hidden_size=H, quantization_config=settings)
    return write_checkpoint(path, tensors, config)


def weights_of(path: Path, scheme: str) -> dict[str, np.ndarray]:
    """Return the dequantised matrices of a checkpoint."""
    tensors = load_file(path / "model.safetensors")
    weights = {}
    for name in PROJECTIONS:
        prefix = f"{MLP}{name}."
        own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        weights[name] = SCHEMES[scheme][2](own)
    return weights


def order_of(granule: int, n_neurons: int = N) -> np.ndarray:
    """Return a random order that keeps granules together, shuffled within; one that is not full stays last."""
    rng = np.random.default_rng(7)
    granules = [rng.permutation(np.arange(g * granule, (g + 1) * granule)) for g in range(n_neurons // granule)]
    rng.shuffle(granules)
    rest = rng.permutation(np.arange(n_neurons - n_neurons % granule, n_neurons))
    return np.concatenate([*granules, rest])


def rewrite(source: Path, out: Path, order: np.ndarray, **options: Any) -> None:
    """Rewrite the only block of a checkpoint."""
    model = describe_ffn(Checkpoint.open(source))
    options = {"formats": ["drop-in"]} | options
    execute(plan_rewrite(model, ModelPlacement({"layers.0": NeuronPlacement(order)}), out, **options))
    verify(source, out)


@pytest.mark.parametrize("chunk_bytes", [None, 100])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_dequantised_weights_are_equal(
    tmp_path: Path, scheme: str, chunk_bytes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the integers stand for moves with the neurons, to the last bit; wrong scales and weights are found."""
    for module in (fileio, permute, packed, compare) if chunk_bytes else ():
        monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    source, out = write_quantised(tmp_path / "m", scheme), tmp_path / "out"
    order = order_of(SCHEMES[scheme][3])
    rewrite(source, out, order)
    before, after = weights_of(source, scheme), weights_of(out, scheme)
    for name in ("gate_proj", "up_proj"):
        np.testing.assert_array_equal(after[name], before[name][order])
    np.testing.assert_array_equal(after["down_proj"], before["down_proj"][:, order])
    model = describe_ffn(Checkpoint.open(source))
    for tensor in model.blocks["layers.0"].tensors:
        whole = (out / "model.safetensors").read_bytes()
        swap_neurons(out / "model.safetensors", model.checkpoint.extent(tensor.name), tensor)
        adjust_manifest(out)
        with pytest.raises(VerificationError, match=f"{tensor.name}: found other weights for neuron"):
            verify(source, out)
        (out / "model.safetensors").write_bytes(whole)


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if SCHEMES[scheme][3] > 1])
def test_orders_that_part_a_group(tmp_path: Path, scheme: str) -> None:
    """Refused with the granule that would do; nothing is written."""
    source = write_quantised(tmp_path / "m", scheme)
    assert describe_ffn(Checkpoint.open(source)).blocks["layers.0"].granule == GROUP
    with pytest.raises(UnsupportedError, match=r"parts those.*32 neighbours.*[Oo]rder with --granule 32, or reorder"):
        rewrite(source, tmp_path / "out", order_of(1))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bundles(tmp_path: Path, scheme: str) -> None:
    """Whole bytes can be bundled; packed integers cannot, and the message says what to ask for instead."""
    source = write_quantised(tmp_path / "m", scheme)
    options = {"formats": ["drop-in", "bundled"]}
    if "fp8" in scheme or "int8" in scheme:
        rewrite(source, tmp_path / "out", order_of(GROUP), **options)
        bundles = load_file(tmp_path / "out/ripple_place/bundled.safetensors")["layers.0.bundles"]
        tensors = load_file(source / "model.safetensors")
        np.testing.assert_array_equal(bundles[:, 1], tensors[f"{MLP}up_proj.weight"][order_of(GROUP)])
        np.testing.assert_array_equal(bundles[:, 2], tensors[f"{MLP}down_proj.weight"].T[order_of(GROUP)])
    else:
        with pytest.raises(UnsupportedError, match=r"packed weights.*Add --format drop-in"):
            rewrite(source, tmp_path / "out", order_of(GROUP), **options)


def test_a_last_block_that_is_not_full(tmp_path: Path) -> None:
    """FP8 scales by block of 32, and 80 neurons: the last 16 stay last."""
    source, out = write_quantised(tmp_path / "m", "fp8 by block", 80), tmp_path / "out"
    order = order_of(GROUP, 80)
    rewrite(source, out, order)
    before, after = weights_of(source, "fp8 by block"), weights_of(out, "fp8 by block")
    np.testing.assert_array_equal(after["up_proj"], before["up_proj"][order])
    np.testing.assert_array_equal(after["down_proj"], before["down_proj"][:, order])
    with pytest.raises(UnsupportedError, match="parts those"):
        rewrite(source, tmp_path / "refused", np.roll(np.arange(80), 16))


def test_experts_in_fp8(tmp_path: Path) -> None:
    """DeepSeek-V3's form: scales by block in every expert, the shared one, and layers without experts."""
    rng, config = np.random.default_rng(0), {
        "model_type": "deepseek_v3", "hidden_size": H, "intermediate_size": N, "moe_intermediate_size": 64,
        "n_shared_experts": 1, "num_hidden_layers": 2,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [GROUP, GROUP]},
    }  # fmt: skip
    modules = {"layers.0.mlp.": N} | {f"layers.1.mlp.{m}.": 64 for m in ("experts.0", "experts.1", "shared_experts")}
    tensors: Tensors = {}
    for module, n in modules.items():
        for name, (out, n_in) in {"gate_proj": (n, H), "up_proj": (n, H), "down_proj": (H, n)}.items():
            parts = scaled(rng, out, n_in, "weight_scale_inv", BLOCK(out, n_in), "i1")
            tensors |= {f"model.{module}{name}.{part}": tensor for part, tensor in parts.items()}
    source, out_path = write_checkpoint(tmp_path / "m", tensors, config), tmp_path / "out"
    model = describe_ffn(Checkpoint.open(source))
    assert list(model.blocks) == ["layers.0", "layers.1.experts.0", "layers.1.experts.1", "layers.1.shared_expert"]
    orders = {name: order_of(GROUP, block.n_neurons) for name, block in model.blocks.items()}
    placement = ModelPlacement({name: NeuronPlacement(order) for name, order in orders.items()})
    execute(plan_rewrite(model, placement, out_path))
    verify(source, out_path)
    after = load_file(out_path / "model.safetensors")
    for module, order in zip(modules, orders.values(), strict=True):
        for name in PROJECTIONS:
            prefix = f"model.{module}{name}."
            before_weight, after_weight = (
                scaled_weight({key.removeprefix(prefix): t for key, t in all_of.items() if key.startswith(prefix)})
                for all_of in (tensors, after)
            )
            moved = before_weight[:, order] if name == "down_proj" else before_weight[order]
            np.testing.assert_array_equal(after_weight, moved)


def change(path: Path, scheme: str, part: str, tensor: np.ndarray | None) -> None:
    """Replace, add or remove a part of down_proj in a written checkpoint."""
    from safetensors.numpy import save_file

    tensors = load_file(path / "model.safetensors")
    tensors.pop(f"{MLP}down_proj.{part}", None)
    if tensor is not None:
        tensors[f"{MLP}down_proj.{part}"] = tensor
    save_file(tensors, path / "model.safetensors")


@pytest.mark.parametrize(
    ("scheme", "part", "tensor", "message"),
    [
        ("gptq in order", "g_idx", np.roll(np.arange(N) // GROUP, 1).astype("i4"), "g_idx out of order"),
        ("gptq in order", "scales", None, r"no tensor .*scales"),
        ("bitsandbytes 4 bits", "weight.nested_absmax", np.zeros(1, "f4"), "double quantisation"),
        ("bitsandbytes 4 bits", "weight.quant_state.bitsandbytes__nf4", None, "without its quant_state"),
        ("bitsandbytes 4 bits", "weight.quant_state.bitsandbytes__nf4", np.zeros(3, "u1"), "says no shape"),
        ("fp8 by block", "weight_scale_inv", np.zeros((5, 5), "f4"), r"weight_scale_inv: found shape \[5, 5\]"),
        ("fp8, one scale", "lattice_scales", np.zeros((5, 5), "f4"), "lattice_scales of a quantised checkpoint"),
    ],
)
def test_weights_that_no_rule_covers(
    tmp_path: Path, scheme: str, part: str, tensor: np.ndarray | None, message: str
) -> None:
    """Refused with the reason, and with what always works."""
    source = write_quantised(tmp_path / "m", scheme)
    change(source, scheme, part, tensor)
    with pytest.raises(UnsupportedError, match=rf"{message}.*[Rr]eorder the checkpoint before it was quantised"):
        describe_ffn(Checkpoint.open(source))


@pytest.mark.parametrize(
    ("scheme", "settings", "message"),
    [
        ("gptq in order", {"bits": 5}, "5 bits"),
        ("awq", {"version": "gemv"}, "AWQ gemv of 4 bits"),
        ("pack-quantized", {"format": "marlin-24"}, "format marlin-24"),
        ("pack-quantized", {"config_groups": {"a": {}, "b": {}}}, "2 groups of layers"),
        ("awq", {"quant_method": "quip"}, r"quantization_config \(quip\)"),
        ("gptq in order", {"group_size": 2**40}, "group_size 1099511627776"),
        ("gptq in order", {"bits": "four"}, "bits 'four'"),
        ("gptq in order", {"bits": 2}, "a g_idx out of order"),
        ("pack-quantized", {"config_groups": {"a": {"weights": {"group_size": "x"}}}}, "group_size 'x'"),
        ("fp8 by block", {"weight_block_size": 128}, "blocks of 128"),
        ("fp8 by block", {"weight_block_size": [0, 1]}, "weight_block_size 0"),
    ],
)
def test_settings_that_no_rule_covers(tmp_path: Path, scheme: str, settings: dict[str, Any], message: str) -> None:
    """A method, or a variant of one, that stores things otherwise."""
    source = write_quantised(tmp_path / "m", scheme)
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] |= settings
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match=message):
        describe_ffn(Checkpoint.open(source))


def test_blocks_that_do_not_fill_rows(tmp_path: Path) -> None:
    """Bitsandbytes cuts the flat weights: a block that runs on into the next row belongs to two neurons."""
    source = write_quantised(tmp_path / "m", "bitsandbytes 4 bits", 80)
    with pytest.raises(UnsupportedError, match="blocks of 32 that do not fill rows of 80"):
        describe_ffn(Checkpoint.open(source))


def test_no_width_in_the_config(tmp_path: Path) -> None:
    """Packed shapes do not tell the width of the hidden state."""
    source = write_quantised(tmp_path / "m", "awq")
    config = json.loads((source / "config.json").read_text())
    del config["hidden_size"]
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="no width of the hidden state; expected hidden_size"):
        describe_ffn(Checkpoint.open(source))


def mxfp4_weight(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return [E, out, in] in float64: nibbles, low first, times 2 to the power of the scale."""
    table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
    values = table[np.stack([blocks & 15, blocks >> 4], axis=-1)].reshape(*blocks.shape[:-1], 32)
    return (values * np.exp2(scales.astype("f8") - 127)[..., None]).reshape(*blocks.shape[:2], -1)


def test_mxfp4_experts(tmp_path: Path) -> None:
    """gpt-oss as published: rows in pairs, down in blocks of 32 neurons; one order an expert."""
    rng, base, n_experts = np.random.default_rng(0), "model.layers.0.mlp.experts.", 2
    tensors = {
        base + "gate_up_proj_blocks": rng.integers(0, 256, (n_experts, 2 * N, H // 32, 16)).astype("u1"),
        base + "gate_up_proj_scales": rng.integers(120, 130, (n_experts, 2 * N, H // 32)).astype("u1"),
        base + "gate_up_proj_bias": rng.standard_normal((n_experts, 2 * N)),
        base + "down_proj_blocks": rng.integers(0, 256, (n_experts, H, N // 32, 16)).astype("u1"),
        base + "down_proj_scales": rng.integers(120, 130, (n_experts, H, N // 32)).astype("u1"),
        base + "down_proj_bias": rng.standard_normal((n_experts, H)),
    }
    config = {"model_type": "gpt_oss", "intermediate_size": N, "hidden_size": H, "num_hidden_layers": 1,
              "quantization_config": {"quant_method": "mxfp4"}}  # fmt: skip
    source, out = write_checkpoint(tmp_path / "m", tensors, config), tmp_path / "out"
    model = describe_ffn(Checkpoint.open(source))
    assert model.blocks["layers.0.experts.1"].granule == 32
    orders = {"layers.0.experts.0": np.arange(N), "layers.0.experts.1": order_of(32)}
    placement = ModelPlacement({name: NeuronPlacement(order) for name, order in orders.items()})
    execute(plan_rewrite(model, placement, out, formats=["drop-in"]))
    verify(source, out)
    after = load_file(out / "model.safetensors")
    up, down = (
        [mxfp4_weight(t[f"{base}{name}_blocks"], t[f"{base}{name}_scales"]) for t in (tensors, after)]
        for name in ("gate_up_proj", "down_proj")
    )
    for e, order in enumerate(orders.values()):
        pairs = np.stack([2 * order, 2 * order + 1], axis=-1).ravel()
        np.testing.assert_array_equal(up[1][e], up[0][e][pairs])
        np.testing.assert_array_equal(down[1][e], down[0][e][:, order])
        bias = base + "gate_up_proj_bias"
        np.testing.assert_array_equal(after[bias][e], tensors[bias][e][pairs])
