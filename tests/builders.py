"""Pico checkpoints, written with the stock safetensors library: our reader and writer must not vouch for themselves."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from ripple_place.blocks import sorted_blocks, unit_metadata
from ripple_place.checkpoint.names import MANIFEST_FILE
from ripple_place.checkpoint.output.manifest import format_manifest, read_manifest
from ripple_place.placement import ModelPlacement, NeuronPlacement

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.checkpoint.model.neuron_tensor import NeuronTensor
    from ripple_place.tensorfile import TensorExtent

Tensors = dict[str, np.ndarray]


def opt_tensors(
    *, n_layers: int = 2, n_neurons: int = 24, hidden: int = 8, vocab: int = 16, prefix: str = "model.decoder.",
    bias: bool = True, dtype: str = "<f2", seed: int = 0,
) -> Tensors:  # fmt: skip
    """Return the tensors of an OPT model; every weight is another number."""
    draw = _draw(seed, dtype)
    tensors = {
        f"{prefix}embed_tokens.weight": draw(vocab, hidden),
        f"{prefix}embed_positions.weight": draw(6, hidden),
        f"{prefix}final_layer_norm.weight": draw(hidden),
    }
    for layer in range(n_layers):
        module = f"{prefix}layers.{layer}"
        tensors[f"{module}.self_attn.q_proj.weight"] = draw(hidden, hidden)
        tensors[f"{module}.self_attn_layer_norm.weight"] = draw(hidden)
        tensors[f"{module}.fc1.weight"] = draw(n_neurons, hidden)
        tensors[f"{module}.fc2.weight"] = draw(hidden, n_neurons)
        if bias:
            tensors[f"{module}.fc1.bias"] = draw(n_neurons)
            tensors[f"{module}.fc2.bias"] = draw(hidden)
        tensors[f"{module}.final_layer_norm.weight"] = draw(hidden)
    return tensors


def llama_tensors(
    *, n_layers: int = 2, n_neurons: int = 24, hidden: int = 8, vocab: int = 16, prefix: str = "model.",
    bias: bool = False, dtype: str = "<f2", seed: int = 0,
) -> Tensors:  # fmt: skip
    """Return the tensors of a Llama model; every weight is another number."""
    draw = _draw(seed, dtype)
    tensors = {
        f"{prefix}embed_tokens.weight": draw(vocab, hidden),
        f"{prefix}norm.weight": draw(hidden),
        "lm_head.weight": draw(vocab, hidden),
    }
    for layer in range(n_layers):
        module = f"{prefix}layers.{layer}"
        tensors[f"{module}.input_layernorm.weight"] = draw(hidden)
        tensors[f"{module}.self_attn.q_proj.weight"] = draw(hidden, hidden)
        tensors[f"{module}.post_attention_layernorm.weight"] = draw(hidden)
        for name, shape in (("gate", (n_neurons, hidden)), ("up", (n_neurons, hidden)), ("down", (hidden, n_neurons))):
            tensors[f"{module}.mlp.{name}_proj.weight"] = draw(*shape)
            if bias:
                tensors[f"{module}.mlp.{name}_proj.bias"] = draw(shape[0])
    return tensors


def write_checkpoint(
    path: Path, tensors: Tensors, config: dict[str, Any], *, shards: dict[str, str] | None = None, bf16: bool = False
) -> Path:
    """Write a checkpoint directory with a tokenizer and a licence beside the weights.

    Parameters
    ----------
    path : Path
        To be made.
    tensors : dict of str to ndarray
    config : dict
        Becomes config.json.
    shards : dict of str to str, optional
        Tensor -> shard; the others go to the first shard. Without, all go to model.safetensors.
    bf16 : bool
        Call two-byte weights BF16, which numpy does not have: the header is patched.
    """
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_text('{"model": "pico"}')
    (path / "LICENSE").write_text("free")
    (path / "notes").mkdir()
    (path / "notes" / "card.md").write_text("# pico")
    first = min(shards.values()) if shards else "model.safetensors"
    weight_map = {name: (shards or {}).get(name, first) for name in tensors}
    for shard in set(weight_map.values()):
        inside = {name: tensor for name, tensor in tensors.items() if weight_map[name] == shard}
        save_file(inside, path / shard, metadata={"format": "pt"})
        if bf16:
            whole = (path / shard).read_bytes()
            (path / shard).write_bytes(whole.replace(b'"dtype":"F16"', b'"dtype":"BF16"'))
            _fix_header_length(path / shard)
    if shards:
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def opt_config(*, n_layers: int = 2, n_neurons: int = 24, **more: Any) -> dict[str, Any]:
    """Return the config of `opt_tensors`."""
    return {"model_type": "opt", "ffn_dim": n_neurons, "num_hidden_layers": n_layers, **more}


def llama_config(*, n_layers: int = 2, n_neurons: int = 24, **more: Any) -> dict[str, Any]:
    """Return the config of `llama_tensors`."""
    return {"model_type": "llama", "intermediate_size": n_neurons, "num_hidden_layers": n_layers, **more}


def random_placement(
    model: FfnModel, *, seed: int = 1, skip: tuple[str, ...] = (), copies: tuple[str, ...] = ()
) -> ModelPlacement:
    """Return a placement that shuffles every block but the skipped ones; those of `copies` in a second order, too."""
    rng = np.random.default_rng(seed)
    orders = {name: rng.permutation(model.blocks[name].n_neurons) for name in sorted_blocks(model.blocks)}
    second = {name: rng.permutation(model.blocks[name].n_neurons) for name in copies}
    return ModelPlacement(
        {name: NeuronPlacement(order, order_2=second.get(name)) for name, order in orders.items() if name not in skip},
        unit_metadata(model.unit),
    )


def adjust_manifest(out: Path, **changes: Any) -> None:
    """Make the manifest agree with the files as they are now: hashes are no proof against intent."""
    document = dict(read_manifest(out).document) | changes
    document["files"] = {
        name: {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name in document["files"]
        for data in [(out / name).read_bytes()]
    }
    del document["manifest_sha256"]
    document["manifest_sha256"] = hashlib.sha256(format_manifest(document).encode()).hexdigest()
    (out / MANIFEST_FILE).write_text(format_manifest(document))


def swap_neurons(path: Path, extent: TensorExtent, tensor: NeuronTensor) -> None:
    """Swap the first neuron of a tensor (or granule, or word) with the first that differs, in place, in one row."""
    data = np.frombuffer(bytearray(path.read_bytes()), np.uint8)
    begin = extent.offset_bytes + tensor.begin_bytes
    row = data[begin : begin + tensor.row_bytes].reshape(tensor.n_units, tensor.unit_bytes)
    other = int(np.flatnonzero((row != row[0]).any(axis=1))[0])
    row[[0, other]] = row[[other, 0]]
    path.write_bytes(data.tobytes())


def contents(path: Path) -> dict[str, bytes]:
    """Return all files under a directory, by relative name."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def _draw(seed: int, dtype: str) -> Any:
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.standard_normal(shape).astype(dtype)


def _fix_header_length(path: Path) -> None:
    """Make the length field right again after the header's text has grown."""
    whole = path.read_bytes()
    header = whole[8 : whole.index(b"}}", 8) + 2]
    length = int.from_bytes(whole[:8], "little") + header.count(b'"BF16"')
    path.write_bytes(length.to_bytes(8, "little") + whole[8:])
