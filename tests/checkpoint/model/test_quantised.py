"""Quantised checkpoints: what they stand for is the same after reordering, or they are refused.

The dequantisation is written from the formats' descriptions, bit by bit, and shares nothing with the package.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

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
    "int8 by output, static activations": (
        compressed(format="int-quantized"),
        lambda rng, o, i: scaled(rng, o, i, "weight_scale", (o, 1), "i1")
        | {"input_scale": rng.random(i).astype("f4"), "input_zero_point": rng.integers(0, 9, i).astype("i1")},
        scaled_weight, 1,
    ),
    "bitsandbytes int8": ({"quant_method": "bitsandbytes", "load_in_8bit": True},
                          lambda rng, o, i: scaled(rng, o, i, "SCB", (o,), "i1"), scaled_weight, 1),
    "bitsandbytes 4 bits": ({"quant_method": "bitsandbytes", "load_in_4bit": True},
                            lambda rng, o, i: nf4(rng, o, i, GROUP), nf4_weight, GROUP),
}  # fmt: skip


DECLARED: dict[str, tuple[str, dict[str, Any]]] = {
    "2:4": ("int8 by output", {"sparsity_config": {"sparsity_structure": "2:4", "format": "dense"}}),
    "activations in groups": ("int8 by output", {
        "config_groups": {"a": {"targets": ["Linear"], "weights": {"num_bits": 8, "strategy": "channel"},
                                "input_activations": {"num_bits": 8, "strategy": "group", "group_size": 16}}},
    }),
    "several groups": ("pack-quantized", {
        "config_groups": {"a": {"weights": {"num_bits": 8, "group_size": 16}},
                          "b": {"weights": {"num_bits": 4, "group_size": GROUP}}},
    }),
    "dynamic": ("gptq in order", {"dynamic": {"+:.*down_proj": {"bits": 4, "group_size": 64}, "-:lm_head": {}}}),
    "auto-round": ("gptq in order", {
        "quant_method": "auto-round", "packing_format": "auto_round:auto_gptq", "act_bits": 8, "act_group_size": 32,
        "extra_config": {"lm_head": {"bits": 16, "data_type": "float"}, "layers.1": {"bits": 8, "group_size": 64}},
    }),
}  # fmt: skip
"""Schemes, and what else their settings may declare."""


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
    moved, stored = load_file(out / "model.safetensors"), load_file(source / "model.safetensors")
    for part in ("input_scale", "input_zero_point"):
        name = f"{MLP}down_proj.{part}"
        if name in stored and stored[name].size == N:
            np.testing.assert_array_equal(moved[name], stored[name][order])
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


def sparse_24(rng: np.random.Generator, out: int, n_in: int) -> np.ndarray:
    """Return a matrix of which two of four neighbouring inputs are zero."""
    weight = rng.standard_normal((out, n_in // 4, 4)).astype("f4")
    np.put_along_axis(weight, np.argsort(rng.random(weight.shape), axis=-1)[..., :2], 0, axis=-1)
    return weight.reshape(out, n_in)


def is_sparse_24(weight: np.ndarray) -> bool:
    """Tell whether at most two of each four neighbours are there."""
    return bool(((weight.reshape(len(weight), -1, 4) != 0).sum(axis=-1) <= 2).all())


SPARSITY = {"sparsity_structure": "2:4", "format": "dense", "targets": ["Linear"], "global_sparsity": 0.5}


@pytest.mark.parametrize(
    "config",
    [
        {"sparsity_config": SPARSITY},
        {"compression_config": SPARSITY},
        {"compression_config": {"sparsity_config": SPARSITY}},
        {"quantization_config": {"sparsity_config": SPARSITY}},
        {"text_config": {"compression_config": {"sparsity_config": SPARSITY}}},
        {"quantization_config": compressed(format="dense", sparsity_config=SPARSITY)},
        {"compression_config": compressed(format="dense", sparsity_config=SPARSITY)},
    ],
)
def test_two_of_four(tmp_path: Path, config: dict[str, Any]) -> None:
    """Groups of four inputs of down stay whole, with --granule 8; an order that parts them is refused."""
    rng = np.random.default_rng(0)
    tensors = {f"{MLP}{name}.weight": sparse_24(rng, *shape) for name, shape in PROJECTIONS.items()}
    config = llama_config(n_layers=1, n_neurons=N, hidden_size=H, **config)
    source = write_checkpoint(tmp_path / "m", tensors, config)
    assert describe_ffn(Checkpoint.open(source)).blocks["layers.0"].granule == 8
    within_eight = np.arange(N).reshape(-1, 8)[:, [0, 4, 1, 5, 2, 6, 3, 7]].ravel()
    for order in (order_of(1), within_eight):
        with pytest.raises(UnsupportedError, match=r"declared groups .* of 4 neurons.*[Oo]rder with --granule 8, or"):
            rewrite(source, tmp_path / "refused", order)
    whole_eights = np.random.default_rng(1).permutation(N // 8)[:, None] * 8 + np.arange(8)
    rewrite(source, tmp_path / "out", whole_eights.ravel(), formats=["drop-in", "bundled"])
    rewrite(source, tmp_path / "four", order_of(4))
    for name in ("out", "four"):
        assert is_sparse_24(load_file(tmp_path / name / "model.safetensors")[f"{MLP}down_proj.weight"])


@pytest.mark.parametrize(
    ("sparsity", "granule"),
    [({"sparsity_structure": "unstructured"}, 1), ({"sparsity_structure": "0:0"}, 1), ({"format": "dense"}, 1),
     ({"sparsity_structure": "16:32"}, 32), ({"sparsity_structure": "1:3"}, 24), ({"sparsity_structure": "9:999"}, 1)],
)  # fmt: skip
def test_other_sparsity(tmp_path: Path, sparsity: dict[str, Any], granule: int) -> None:
    """Without a pattern any order is as sparse; of a pattern N:M, M inputs stay together, unless a row has fewer."""
    rng = np.random.default_rng(0)
    tensors = {f"{MLP}{name}.weight": rng.random(shape) for name, shape in PROJECTIONS.items()}
    config = llama_config(n_layers=1, n_neurons=N, hidden_size=H, sparsity_config=sparsity)
    source = write_checkpoint(tmp_path / "m", tensors, config)
    assert describe_ffn(Checkpoint.open(source)).blocks["layers.0"].granule == granule


def with_activations(**activations: Any) -> dict[str, Any]:
    """Return compressed-tensors' settings of 8-bit weights with quantised activations."""
    group = {"weights": {"num_bits": 8, "strategy": "channel"}, "input_activations": activations}
    return {"config_groups": {"group_0": group}}


@pytest.mark.parametrize(
    ("scheme", "settings", "granule"),
    [
        ("int8 by output", with_activations(num_bits=8, strategy="token", dynamic=True), 1),
        ("int8 by output", with_activations(num_bits=8, strategy="tensor", dynamic=False), 1),
        ("int8 by output", with_activations(num_bits=8), 1),
        ("int8 by output", with_activations(num_bits=8, strategy="group", group_size=32, dynamic=True), 32),
        ("int8 by output", with_activations(num_bits=4, strategy="tensor_group", group_size=16, dynamic="local"), 16),
        ("int8 by output", {"config_groups": {"a": {"output_activations": {"group_size": 48}}}}, 48),
        ("gptq 4 bits, desc_act", {"act_bits": 8, "act_group_size": 16}, 16),
        ("gptq 4 bits, desc_act", {"act_bits": 16, "act_group_size": 16}, 1),
        ("gptq 4 bits, desc_act", {"act_bits": 8, "act_group_size": -1}, 1),
    ],
)
def test_activations_in_groups(tmp_path: Path, scheme: str, settings: dict[str, Any], granule: int) -> None:
    """Neurons whose activations share a scale stay together; one scale for each token does not mind the order."""
    source = write_quantised(tmp_path / "m", scheme)
    adjust_config(source, settings)
    assert describe_ffn(Checkpoint.open(source)).blocks["layers.0"].granule == granule
    rewrite(source, tmp_path / "out", order_of(granule))
    if granule > 1:
        with pytest.raises(UnsupportedError, match=rf"declared groups .* of {granule} neurons.*--granule {granule}"):
            rewrite(source, tmp_path / "refused", order_of(1))


def adjust_config(source: Path, settings: dict[str, Any]) -> None:
    """Change some settings of the quantisation."""
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] |= settings
    (source / "config.json").write_text(json.dumps(config))


def move_to_sidecar(source: Path, name: str, settings: dict[str, Any]) -> None:
    """Take the settings out of config.json, and write others to a file beside it."""
    config = json.loads((source / "config.json").read_text())
    del config["quantization_config"]
    (source / "config.json").write_text(json.dumps(config))
    (source / name).write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("scheme", "name", "settings"),
    [
        ("gptq 8 bits, desc_act", "quantize_config.json", {"bits": 8, "group_size": GROUP, "desc_act": True}),
        ("gptq in order", "quantize_config.json", {"bits": 4, "group_size": GROUP, "desc_act": False, "sym": True}),
        ("awq", "quant_config.json", {"zero_point": True, "q_group_size": GROUP, "w_bit": 4, "version": "GEMM"}),
        ("gptq in order", "quantization_config.json",
         {"quant_method": "auto-round", "bits": 4, "group_size": GROUP, "packing_format": "auto_round:auto_gptq"}),
    ],
)  # fmt: skip
def test_settings_in_a_sidecar(tmp_path: Path, scheme: str, name: str, settings: dict[str, Any]) -> None:
    """Read as the tool that wrote the file reads it."""
    source = write_quantised(tmp_path / "m", scheme)
    move_to_sidecar(source, name, settings)
    rewrite(source, tmp_path / "out", order_of(SCHEMES[scheme][3]))
    before, after = weights_of(source, scheme), weights_of(tmp_path / "out", scheme)
    order = order_of(SCHEMES[scheme][3])
    np.testing.assert_array_equal(after["down_proj"], before["down_proj"][:, order])
    np.testing.assert_array_equal(after["up_proj"], before["up_proj"][order])


@pytest.mark.parametrize(
    ("scheme", "layout"), [("gptq in order", "auto_round:auto_gptq"), ("awq", "auto_round:auto_awq")]
)
def test_auto_round(tmp_path: Path, scheme: str, layout: str) -> None:
    """Stored as GPTQ or AWQ; layers that stay in 16 bits are named and do not matter."""
    source = write_quantised(tmp_path / "m", scheme)
    extra = {"lm_head": {"bits": 16}, "model.layers.0.self_attn.q_proj": {"bits": 4, "group_size": 64}}
    adjust_config(source, {"quant_method": "auto-round", "packing_format": layout, "extra_config": extra})
    rewrite(source, tmp_path / "out", order_of(GROUP))
    before, after = weights_of(source, scheme), weights_of(tmp_path / "out", scheme)
    np.testing.assert_array_equal(after["down_proj"], before["down_proj"][:, order_of(GROUP)])


@pytest.mark.parametrize("in_order", [True, False])
def test_gptq_bits_by_module(tmp_path: Path, in_order: bool) -> None:
    """GPTQModel's `dynamic`: what a module has is seen from its shapes, and group sizes from those that are named."""
    source = write_quantised(tmp_path / "m", "gptq in order" if in_order else "gptq 4 bits, desc_act")
    rng = np.random.default_rng(5)
    tensors = load_file(source / "model.safetensors")
    down = gptq(rng, H, N, 8, not in_order)
    for part, tensor in down.items():
        tensors[f"{MLP}down_proj.{part}"] = tensor
    save_file(tensors, source / "model.safetensors")
    adjust_config(source, {"group_size": 64, "dynamic": {
        r"+:.*\.down_proj": {"bits": 8, "group_size": GROUP}, r".*\.(gate|up)_proj": {"group_size": GROUP},
        r"-:.*lm_head": {},
    }})  # fmt: skip
    order = order_of(GROUP if in_order else 1)
    rewrite(source, tmp_path / "out", order)
    moved = load_file(tmp_path / "out/model.safetensors")
    after = {part: moved[f"{MLP}down_proj.{part}"] for part in down}
    np.testing.assert_array_equal(gptq_weight(after, 8), gptq_weight(down, 8)[:, order])
    if in_order:
        with pytest.raises(UnsupportedError, match="--granule 32"):
            rewrite(source, tmp_path / "refused", order_of(1))


def test_several_groups_of_layers(tmp_path: Path) -> None:
    """Of compressed-tensors' groups, the one counts whose bits and groups the shapes of a module have."""
    source = write_quantised(tmp_path / "m", "pack-quantized")
    groups = {f"group_{bits}": {"targets": [bits], "weights": {"num_bits": bits, "group_size": size}}
              for bits, size in ((8, 16), (4, GROUP), (2, -1))}  # fmt: skip
    adjust_config(source, {"config_groups": groups})
    order = order_of(GROUP)
    rewrite(source, tmp_path / "out", order)
    before, after = weights_of(source, "pack-quantized"), weights_of(tmp_path / "out", "pack-quantized")
    np.testing.assert_array_equal(after["down_proj"], before["down_proj"][:, order])
    groups["group_2"]["weights"] = {"num_bits": 4, "group_size": 33}
    adjust_config(source, {"config_groups": groups})
    with pytest.raises(UnsupportedError, match="3 groups of layers, 2 of which fit it"):
        describe_ffn(Checkpoint.open(source))


@pytest.mark.parametrize(
    ("scheme", "config", "message"),
    [
        ("int8 by output", {"transform_config": {"config_groups": {"R4": {"type": "hadamard"}}}}, "mix neurons"),
        ("int8 by output", with_activations(strategy="channel"), "activations quantised by channel"),
        ("int8 by output", with_activations(strategy="group", group_size="x"), "group_size of activations 'x'"),
        ("int8 by output", {"config_groups": {"W8A8": ["Linear"]}}, "such as presets"),
        ("int8 by output", {"sparsity_config": {"format": "sparse-24-bitmask", "sparsity_structure": "2:4"}},
         "compressed as sparse-24-bitmask"),
        ("int8 by output", {"sparsity_config": {"sparsity_structure": "butterfly"}}, "sparsity_structure 'butterfly'"),
        ("int8 by output", {"sparsity_config": "2:4"}, "sparsity_config '2:4'"),
        ("gptq in order", {"checkpoint_format": "marlin"}, "GPTQ weights in the format marlin"),
        ("gptq in order", {"is_marlin_format": True}, "format marlin"),
        ("gptq in order", {"checkpoint_format": "bitblas"}, "format bitblas"),
        ("gptq in order", {"pack_dtype": "int16"}, "packed into int16"),
        ("gptq in order", {"rotation": "hadamard"}, "rotation, which mixes neurons"),
        ("gptq in order", {"adapter": {"path": "x"}}, "adapter: a low-rank adapter"),
        ("gptq in order", {"dynamic": {".*": {"desc_act": True}}}, "desc_act that differs by module"),
        ("gptq in order", {"dynamic": {".*": {"checkpoint_format": "marlin"}}}, "format marlin"),
        ("gptq in order", {"dynamic": ["x"]}, "dynamic that names no settings"),
        ("gptq in order", {"dynamic": {"x": "y"}}, "dynamic that names no settings"),
        ("gptq in order", {"dynamic": {".*": {"group_size": 33}}}, "3 groups, which 2 of the group sizes fit"),
        ("awq", {"quant_method": "auto-round", "packing_format": "auto_round:fp8"}, "packed as auto_round:fp8"),
        ("gptq in order", {"act_bits": 8, "act_group_size": "x"}, "act_group_size 'x'"),
    ],
)  # fmt: skip
def test_declared_structure_that_no_rule_covers(
    tmp_path: Path, scheme: str, config: dict[str, Any], message: str
) -> None:
    """Refused for what the config says."""
    source = write_quantised(tmp_path / "m", scheme)
    adjust_config(source, config)
    with pytest.raises(UnsupportedError, match=rf"{message}.*[Rr]eorder the checkpoint before it was quantised"):
        describe_ffn(Checkpoint.open(source))


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("quantize_config.json", '{"bits": 8, "group_size": 32}', UnsupportedError,
         "bits 4 in config.json: quantization_config, and 8 in quantize_config.json"),
        ("quantize_config.json", '{"bits": 4, "desc_act": true}', UnsupportedError, "desc_act False in"),
        ("quant_config.json", '{"quant_method": "awq"}', UnsupportedError, "quant_method 'gptq' in"),
        ("quant_config.json", "[]", ValueError, "found a JSON list"),
        ("quantize_config.json", "{", ValueError, "expected a JSON object"),
    ],
)  # fmt: skip
def test_sidecars_that_contradict(tmp_path: Path, name: str, text: str, error: type[Exception], message: str) -> None:
    """Loaders differ in which of the files they read."""
    source = write_quantised(tmp_path / "m", "gptq in order")
    (source / name).write_text(text)
    with pytest.raises(error, match=message):
        describe_ffn(Checkpoint.open(source))


def test_a_sidecar_of_modelopt(tmp_path: Path) -> None:
    """Refused by its own name."""
    source = write_quantised(tmp_path / "m", "fp8, one scale")
    move_to_sidecar(source, "hf_quant_config.json", {"quantization": {"quant_algo": "NVFP4"}})
    with pytest.raises(UnsupportedError, match=r"a quantization_config \(modelopt\)"):
        describe_ffn(Checkpoint.open(source))


def test_scales_of_inputs_in_groups(tmp_path: Path) -> None:
    """Static scales for some inputs each have a neuron axis of their own; no rule says how long."""
    source = write_quantised(tmp_path / "m", "int8 by output")
    change(source, "int8 by output", "input_scale", np.ones(3, "f4"))
    with pytest.raises(UnsupportedError, match=r"input_scale: found shape \[3\] for 96 inputs"):
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
