"""Tiny mixtures of experts on storage, of several families and quantisations, and a plain reader of packs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open

from tests.builders import write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.checkpoint.model.expert_block import ExpertModel

Tensors = dict[str, np.ndarray]
N_EXPERTS = 6


def _words(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return two-byte words of random bits."""
    return rng.integers(0, 2**16, shape, dtype=np.uint16)


def _bytes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def qwen3_moe(path: Path, n_layers: int = 2, *, width: int = 24, hidden: int = 16, sharded: bool = True) -> Path:
    """Write a Qwen3-MoE: a tensor for each expert and projection, in three shards that cut layers apart."""
    rng = np.random.default_rng(1)
    tensors: Tensors = {"model.embed_tokens.weight": _words(rng, 32, hidden)}
    for layer in range(n_layers):
        mlp = f"model.layers.{layer}.mlp"
        tensors[f"{mlp}.gate.weight"] = _words(rng, N_EXPERTS, hidden)
        for expert in range(N_EXPERTS):
            for role, shape in (("down", (hidden, width)), ("gate", (width, hidden)), ("up", (width, hidden))):
                tensors[f"{mlp}.experts.{expert}.{role}_proj.weight"] = _words(rng, *shape)
    shards = {name: f"model-{i % 3 + 1:05}-of-00003.safetensors" for i, name in enumerate(tensors)}
    config = {"model_type": "qwen3_moe", "num_hidden_layers": n_layers, "moe_intermediate_size": width}
    return write_checkpoint(path, tensors, config, shards=shards if sharded else None)


def deepseek_v3(path: Path) -> Path:
    """Write a DeepSeek-V3 in FP8: blocks of scales, a dense layer first, a shared expert, a router with a bias."""
    rng = np.random.default_rng(2)
    tensors: Tensors = {"model.embed_tokens.weight": _words(rng, 32, 16)}
    modules = {"model.layers.0.mlp": 40, "model.layers.1.mlp.shared_experts": 24}
    modules |= {f"model.layers.1.mlp.experts.{expert}": 24 for expert in range(N_EXPERTS)}
    for module, width in modules.items():
        for role, shape in (("gate", (width, 16)), ("up", (width, 16)), ("down", (16, width))):
            tensors[f"{module}.{role}_proj.weight"] = _bytes(rng, *shape)
            tensors[f"{module}.{role}_proj.weight_scale_inv"] = rng.standard_normal((1, 1)).astype(np.float32)
    tensors["model.layers.1.mlp.gate.weight"] = _words(rng, N_EXPERTS, 16)
    tensors["model.layers.1.mlp.gate.e_score_correction_bias"] = rng.standard_normal(N_EXPERTS).astype(np.float32)
    config = {"model_type": "deepseek_v3", "num_hidden_layers": 2, "moe_intermediate_size": 24}
    return write_checkpoint(path, tensors, config)


def gpt_oss(path: Path) -> Path:
    """Write a gpt-oss in MXFP4: all experts in one tensor, with blocks, scales and biases."""
    rng = np.random.default_rng(3)
    tensors: Tensors = {"model.embed_tokens.weight": _words(rng, 32, 32)}
    for layer in range(2):
        experts = f"model.layers.{layer}.mlp.experts"
        tensors[f"model.layers.{layer}.mlp.router.weight"] = _words(rng, N_EXPERTS, 32)
        for role, n_out in (("gate_up", 2 * 64), ("down", 32)):
            n_groups = 1 if role == "gate_up" else 2
            tensors[f"{experts}.{role}_proj_blocks"] = _bytes(rng, N_EXPERTS, n_out, n_groups, 16)
            tensors[f"{experts}.{role}_proj_scales"] = _bytes(rng, N_EXPERTS, n_out, n_groups)
            tensors[f"{experts}.{role}_proj_bias"] = _words(rng, N_EXPERTS, n_out)
    return write_checkpoint(path, tensors, {"model_type": "gpt_oss", "num_hidden_layers": 2})


def dbrx(path: Path) -> Path:
    """Write a DBRX: the rows of all experts one after the other."""
    rng = np.random.default_rng(4)
    tensors: Tensors = {"transformer.wte.weight": _words(rng, 32, 16)}
    for name in ("w1", "v1", "w2"):
        tensors[f"transformer.blocks.0.ffn.experts.mlp.{name}"] = _words(rng, N_EXPERTS * 24, 16)
    config = {"model_type": "dbrx", "n_layers": 1, "ffn_config": {"ffn_hidden_size": 24}}
    return write_checkpoint(path, tensors, config)


def llama4(path: Path, **more: np.ndarray) -> Path:
    """Write a Llama 4 of one layer, experts transposed, with more tensors below its experts."""
    rng = np.random.default_rng(5)
    experts = "model.layers.0.feed_forward.experts"
    tensors: Tensors = {
        "model.embed_tokens.weight": _words(rng, 32, 16),
        f"{experts}.gate_up_proj": _words(rng, N_EXPERTS, 16, 48),
        f"{experts}.down_proj": _words(rng, N_EXPERTS, 24, 16),
    }
    tensors |= {f"{experts}.{name}": tensor for name, tensor in more.items()}
    return write_checkpoint(path, tensors, {"model_type": "llama4_text", "num_hidden_layers": 1})


def gguf_mixture(path: Path, *, n_layers: int = 2) -> Path:
    """Write a GGUF of F16 and Q4_K experts, with biases in the first layer, and a router."""
    from gguf import GGMLQuantizationType, GGUFWriter

    rng = np.random.default_rng(6)
    writer = GGUFWriter(str(path), "qwen3moe")
    writer.add_block_count(n_layers)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "c"])
    for layer in range(n_layers):
        writer.add_tensor(f"blk.{layer}.ffn_gate_inp.weight", rng.standard_normal((N_EXPERTS, 64), dtype=np.float32))
        for role in ("gate", "up"):
            values = rng.standard_normal((N_EXPERTS, 256, 64)).astype(np.float16)
            writer.add_tensor(f"blk.{layer}.ffn_{role}_exps.weight", values)
        quantised = _bytes(rng, N_EXPERTS, 64, 144)  # A row of 256 weights is one group of Q4_K, of 144 bytes.
        writer.add_tensor(
            f"blk.{layer}.ffn_down_exps.weight", quantised, raw_dtype=GGMLQuantizationType.Q4_K
        )  # fmt: skip
        if layer == 0:
            bias = rng.standard_normal((N_EXPERTS, 256)).astype(np.float32)
            writer.add_tensor(f"blk.{layer}.ffn_up_exps.bias", bias)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def stored_arrays(source: Path) -> dict[str, np.ndarray]:
    """Return all tensors of a checkpoint directory or a GGUF file as arrays, by the stock readers."""
    if source.is_file():
        from gguf import GGUFReader

        return {tensor.name: np.array(tensor.data) for tensor in GGUFReader(source).tensors}
    arrays = {}
    for shard in sorted(source.glob("*.safetensors")):
        with safe_open(shard, "numpy") as file:
            arrays |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return arrays


def expected_parts(source: Path, block: str) -> list[dict[str, bytes]]:
    """Return the bytes of each expert of a layer by tensor, cut from the arrays of the stock readers.

    Names of tensors that each expert has for itself have ``{expert}`` in place of the number.
    """
    arrays, layer = stored_arrays(source), block.removeprefix("layers.")
    parts: list[dict[str, bytes]] = [{} for _ in range(N_EXPERTS)]
    for name, array in arrays.items():
        if not any(f"{stack}.{layer}." in name for stack in ("layers", "blocks", "blk")):
            continue
        head, _, rest = name.partition(".experts.")
        number, _, tail = rest.partition(".")
        if number.isdigit():
            parts[int(number)][f"{head}.experts.{{expert}}.{tail}"] = array.tobytes()
        elif rest or "_exps" in name:
            for expert, part in enumerate(array.reshape(N_EXPERTS, -1)):
                parts[expert][name] = part.tobytes()
    return parts


def read_pack(out: Path, block: str) -> list[dict[str, bytes]]:
    """Return the bytes of each expert of a layer by tensor, read as docs/formats.md tells any reader to."""
    path = out / "ripple_place" / "bundled.safetensors"
    with safe_open(path, "numpy") as file:
        assert file.metadata()["format"] == "ripple-place.bundled/2"
        place = json.loads(file.metadata()["index"])[block]
    assert place["unit"] == "expert"
    assert place["offset_bytes"] % 4096 == place["stride_bytes"] % 4096 == 0
    parts: list[dict[str, bytes]] = [{} for _ in place["order"]]
    descriptor = os.open(path, os.O_RDONLY)
    for slot, expert in enumerate(place["order"]):
        whole = os.pread(descriptor, place["stride_bytes"], place["offset_bytes"] + slot * place["stride_bytes"])
        for part in place["components"]:
            begin = part["offset_bytes"]
            parts[expert][part["tensor"]] = whole[begin : begin + part["length_bytes"]]
    os.close(descriptor)
    return parts


def expert_placement(model: ExpertModel, seed: int = 0) -> Any:
    """Return a placement of experts in random order."""
    from ripple_place.placement import ModelPlacement, NeuronPlacement

    rng = np.random.default_rng(seed)
    blocks = {name: NeuronPlacement(rng.permutation(block.n_neurons)) for name, block in model.blocks.items()}
    return ModelPlacement(blocks, {"unit": "expert", "ordering": "random"})
