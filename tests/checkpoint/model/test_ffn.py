"""FFN discovery: the right tensors along the right axis, and no tensor overlooked."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.checkpoint.model.ffn import FfnModel, describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import CheckpointError, UnsupportedArchitectureError
from tests.builders import llama_config, llama_tensors, opt_config, opt_tensors, random_placement, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.builders import Tensors

MLP = "model.layers.1.mlp."


def describe(path: Path) -> FfnModel:
    """Open a checkpoint and describe its FFNs."""
    return describe_ffn(Checkpoint.open(path))


def test_opt(pico_opt: Path) -> None:
    """Two components, and a bias that moves but is not bundled; the embedding, as long as the FFN, is free."""
    model = describe(pico_opt)
    assert list(model.blocks) == ["layers.0", "layers.1"]
    block = model.blocks["layers.1"]
    assert (block.n_neurons, block.hidden, block.dtype, block.bundle_bytes) == (24, 8, "F16", 2 * 8 * 2)
    assert [(component.role, component.tensor.action) for component in block.components] == [
        ("up", "rows"),
        ("down", "columns"),
    ]
    assert [tensor.name for tensor in block.carriers] == ["model.decoder.layers.1.fc1.bias"]


def test_llama(pico_llama: Path) -> None:
    """Three components, each in a shard of its own."""
    block = describe(pico_llama).blocks["layers.0"]
    assert [tensor.role for tensor in block.components] == ["gate", "up", "down"]
    assert len({component.tensor.shard for component in block.components}) == 3
    assert block.bundle_bytes == 3 * 8 * 2
    assert not block.carriers


def test_layers_are_numbers(tmp_path: Path) -> None:
    """Layer 10 comes after layer 9."""
    path = write_checkpoint(tmp_path / "m", llama_tensors(n_layers=11), llama_config(n_layers=11))
    assert list(describe(path).blocks) == [f"layers.{layer}" for layer in range(11)]


@pytest.mark.parametrize("prefix", ["model.decoder.", "decoder.", ""])
def test_prefixes(tmp_path: Path, prefix: str) -> None:
    """Dumps of the bare decoder have shorter names; the blocks are called the same."""
    path = write_checkpoint(tmp_path / "m", opt_tensors(prefix=prefix), opt_config())
    assert list(describe(path).blocks) == ["layers.0", "layers.1"]


@pytest.mark.parametrize(
    ("n_neurons", "hidden", "vocab"), [(16, 8, 16), (16, 16, 40), (8, 4, 16), (16, 32, 32), (16, 16, 16)]
)
@pytest.mark.parametrize("kind", ["opt", "llama"])
def test_sizes_that_coincide(tmp_path: Path, kind: str, n_neurons: int, hidden: int, vocab: int) -> None:
    """Vocabulary or hidden state as wide as the FFN, or twice: the family file decides, not the shape."""
    build, config = (opt_tensors, opt_config) if kind == "opt" else (llama_tensors, llama_config)
    tensors = build(n_neurons=n_neurons, hidden=hidden, vocab=vocab, bias=True)
    block = describe(write_checkpoint(tmp_path / "m", tensors, config(n_neurons=n_neurons))).blocks["layers.0"]
    assert (block.n_neurons, block.hidden) == (n_neurons, hidden)
    assert [part.tensor.action for part in block.components] == ["rows"] * (len(block.components) - 1) + ["columns"]


def test_config_without_the_ffn_width(tmp_path: Path) -> None:
    """The weights tell it too."""
    path = write_checkpoint(tmp_path / "m", llama_tensors(), {"model_type": "mistral"})
    assert describe(path).blocks["layers.1"].n_neurons == 24


def test_widths_that_differ_by_layer(tmp_path: Path) -> None:
    """A config may give the width of each layer."""
    tensors = llama_tensors(n_layers=1) | {
        name: tensor for name, tensor in llama_tensors(n_neurons=16).items() if "layers.1." in name
    }
    model = describe(
        write_checkpoint(tmp_path / "m", tensors, llama_config(n_neurons=0) | {"intermediate_size": [24, 16]})
    )
    assert [block.n_neurons for block in model.blocks.values()] == [24, 16]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(MLP + "up_proj.weight"), r"layers.1: found no tensor model.layers.1.mlp.up_proj.weight"),
        (lambda t: t.update({MLP + "up_proj.weight": t[MLP + "up_proj.weight"][:-1]}), r"shape \[23, 8\].*24 neurons"),
        (
            lambda t: t.update({MLP + "down_proj.weight": t[MLP + "down_proj.weight"].T.copy()}),
            "24 neurons along axis 1",
        ),
        (lambda t: t.update({MLP + "up_proj.weight": np.zeros((24, 9), "f2")}), r"shape \[24, 9\].*8 along axis 1"),
        (lambda t: t.update({MLP + "up_proj.weight": np.zeros(24, "f2")}), r"shape \[24\].*a matrix"),
        (lambda t: t.update({MLP + "up_proj.bias": np.zeros(23, "f2")}), r"up_proj.bias.*shape \[23\]"),
        (lambda t: t.update({MLP + "up_proj.bias": np.zeros((24, 1), "f2")}), "a vector"),
        (lambda t: t.update({MLP + "ffn_norm.weight": np.zeros(3, "f2")}), "ffn_norm.weight.*lies in an FFN module"),
        (lambda t: t.update({"model.layers.1.ffn_norm": np.zeros(24, "f2")}), "ffn_norm.*as long as the FFN is wide"),
        (lambda t: t.update({"model.fused": np.zeros((2, 48), "f2")}), "model.fused.*as long as the FFN is wide"),
        (lambda t: [t.pop(name) for name in list(t) if "mlp" in name], "no FFN tensors"),
        (lambda t: [t.pop(name) for name in list(t) if "layers.1." in name], "no FFN in layers 1"),
        (lambda t: t.update({"layers.0.mlp.up_proj.weight": np.zeros((24, 8), "f2")}), "under 'model.' and ''"),
    ],
)
def test_weights_that_are_wrong(tmp_path: Path, change: Callable[[Tensors], Any], message: str) -> None:
    """Missing, misshapen and unknown tensors are named: silence here would be a wrong model."""
    tensors = llama_tensors()
    change(tensors)
    with pytest.raises(CheckpointError, match=message):
        describe(write_checkpoint(tmp_path / "m", tensors, llama_config()))


def test_widths_that_the_config_says_once(tmp_path: Path) -> None:
    """A pruned model whose config has one number: the remedy is a list, and it helps."""
    narrow = {name: tensor for name, tensor in llama_tensors(n_neurons=16).items() if "layers.1." in name}
    path = write_checkpoint(tmp_path / "m", llama_tensors() | narrow, llama_config())
    with pytest.raises(CheckpointError, match=r"\[16, 8\].*Give config.json a list in intermediate_size, one number"):
        describe(path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"intermediate_size": [24, 16]}))
    assert [block.n_neurons for block in describe(path).blocks.values()] == [24, 16]


def test_layers_without_an_ffn(tmp_path: Path) -> None:
    """They stay as they are, and a note says which they are; the output is the same model."""
    tensors = {name: t for name, t in llama_tensors(n_layers=4).items() if not re.search(r"layers\.[12]\.mlp", name)}
    path = write_checkpoint(tmp_path / "m", tensors, llama_config(n_layers=4))
    model = describe(path)
    assert list(model.blocks) == ["layers.0", "layers.3"]
    assert model.notes == ("layers 1-2 have no FFN by the names of family llama: they stay as they are",)
    execute(plan_rewrite(model, random_placement(model), tmp_path / "out"))
    verify(path, tmp_path / "out")


def test_layers_that_were_cut_out(tmp_path: Path) -> None:
    """No tensor of the last two is there: either the config is corrected, or the weights are not all there."""
    path = write_checkpoint(tmp_path / "m", llama_tensors(), llama_config(n_layers=4))
    with pytest.raises(CheckpointError, match=r"in layers 2-3, and no other.*set num_hidden_layers in config.json to"):
        describe(path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    assert len(describe(path).blocks) == 2


def test_an_ffn_of_another_kind(tmp_path: Path) -> None:
    """What is there instead is named: a gate that this model has not cannot be downloaded."""
    tensors = {name: tensor for name, tensor in llama_tensors().items() if "gate_proj" not in name}
    path = write_checkpoint(tmp_path / "m", tensors, llama_config())
    message = (
        r"no tensor model.layers.0.mlp.gate_proj.weight, only .*down_proj.weight, .*up_proj.weight.*docs/families.md"
    )
    with pytest.raises(CheckpointError, match=message):
        describe(path)


def test_config_of_another_model(tmp_path: Path) -> None:
    """All components agree with each other, but not with the config."""
    with pytest.raises(CheckpointError, match="32 neurons along axis 0"):
        describe(write_checkpoint(tmp_path / "m", llama_tensors(), llama_config(n_neurons=32)))


@pytest.mark.parametrize(
    ("config", "extra", "message"),
    [
        ({"quantization_config": {"quant_method": "hqq"}}, "", r"quantization_config \(hqq\).*then quantise"),
        ({"quantization_config": "new"}, "", r"quantization_config \(new\)"),
        ({}, MLP + "up_proj.qweight", "qweight without GPTQ or AWQ in quantization_config"),
        ({}, MLP + "up_proj.weight_packed", "packed weights of the format None"),
        ({}, MLP + "up_proj.weight_scale", r"weight_scale: found shape \[2, 2\]"),
        ({}, MLP + "up_proj.qzeros", "qzeros of a quantised"),
    ],
)
def test_quantised(tmp_path: Path, config: dict[str, Any], extra: str, message: str) -> None:
    """Scales and packed words carry the neuron axis in ways of their own: refused where no rule covers them."""
    tensors = llama_tensors() | ({extra: np.zeros((2, 2), np.int32)} if extra else {})
    with pytest.raises(UnsupportedArchitectureError, match=message):
        describe(write_checkpoint(tmp_path / "m", tensors, llama_config(**config)))
