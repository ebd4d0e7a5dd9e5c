"""Which tensors are experts: by family, named or fused, quantised in any way; and what is refused."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from ripple_place.checkpoint.model.experts import open_experts
from ripple_place.checkpoint.model.ffn import open_model
from ripple_place.checkpoint.model.gguf_experts import describe_gguf
from ripple_place.errors import CheckpointError, RipplePlaceError, UnsupportedError, UsageError
from tests.builders import write_checkpoint
from tests.expert_builders import N_EXPERTS, gguf_mixture, gpt_oss, qwen3_moe

if TYPE_CHECKING:
    from pathlib import Path

MIXTRAL = "model.layers.{}.block_sparse_moe.experts.{}."


def written(path: Path, tensors: dict[str, Any], model_type: str, **config: Any) -> Path:
    """Write a checkpoint of some tensors."""
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    return write_checkpoint(path, arrays, {"model_type": model_type, **config})


def roles_of(path: Path, block: str = "layers.0") -> list[str]:
    """Return the roles of the parts of a layer's experts."""
    return [part.role for part in open_experts(path).blocks[block].parts]


@pytest.mark.parametrize(
    "endings",
    [
        ("qweight", "qzeros", "scales", "g_idx"),
        ("W_q", "meta"),
        ("weight", "weight.absmax", "weight.nested_absmax", "weight.quant_map"),
        ("weight_packed", "weight_scale", "weight_global_scale", "input_global_scale"),
        ("codes", "codebooks", "scales"),
    ],
)
def test_quantised_in_any_way(tmp_path: Path, endings: tuple[str, ...]) -> None:
    """Tensors of any name in an expert's modules belong to it, also where no neuron could be moved."""
    rng = np.random.default_rng(0)
    tensors = {
        f"{MIXTRAL.format(0, expert)}{module}.{ending}": rng.integers(0, 9, (8 - place, 4), dtype=np.int32)
        for expert in range(3)
        for module in ("w2", "w3", "w1")
        for place, ending in enumerate(endings)
    }
    tensors["model.layers.0.block_sparse_moe.gate.weight"] = np.ones((3, 4), np.float32)
    path = written(tmp_path / "m", tensors, "mixtral")
    first = [f"{role}.{ending}".removesuffix(".weight") for role in ("gate", "up", "down") for ending in endings]
    assert roles_of(path) == first
    assert [resident.name for resident in open_experts(path).residents] == [
        "model.layers.0.block_sparse_moe.gate.weight"
    ]
    with pytest.raises(CheckpointError):
        open_model(path)  # So that this is not what neurons can do anyway.


def test_whatever_lies_in_an_expert(tmp_path: Path) -> None:
    """A tensor of an expert that is of no projection comes last."""
    tensors = {f"{MIXTRAL.format(0, e)}{name}.weight": np.ones((2, 2), np.float32)
               for e in range(2) for name in ("act", "w1", "w2", "w3")}  # fmt: skip
    assert roles_of(written(tmp_path / "m", tensors, "mixtral")) == ["gate", "up", "down", "act.weight"]


def test_ten_experts_in_order(tmp_path: Path) -> None:
    """Expert 10 comes after expert 9, whatever the order in the file, and layer 10 after layer 9."""
    tensors = {
        f"{MIXTRAL.format(layer, expert)}{name}.weight": np.full((2, 2), 100 * layer + expert, np.float32)
        for layer in (10, 9)
        for expert in (10, 9, *range(9))
        for name in ("w1", "w2", "w3")
    }
    path = written(tmp_path / "m", tensors, "mixtral")
    model, data = open_experts(path), (path / "model.safetensors").read_bytes()
    assert list(model.blocks) == ["layers.9", "layers.10"]
    for part in model.blocks["layers.10"].parts:
        values = [np.frombuffer(data, "f4", 4, runs.offset_bytes) for runs in part.experts]
        assert [value[0] for value in values] == [1000 + expert for expert in range(11)]


def test_in_a_wrapper(tmp_path: Path) -> None:
    """Names that training put before those of the model do no harm."""
    tensors = {f"_orig_mod.{MIXTRAL.format(0, e)}{name}.weight": np.ones((2, 2), np.float32)
               for e in range(2) for name in ("w1", "w2", "w3")}  # fmt: skip
    assert open_experts(written(tmp_path / "m", tensors, "mixtral")).blocks["layers.0"].n_neurons == 2


def without(tensors: dict[str, Any], name: str) -> dict[str, Any]:
    """Return tensors without one."""
    return {key: tensor for key, tensor in tensors.items() if key != name}


def test_experts_that_differ(tmp_path: Path) -> None:
    """A missing expert, a missing tensor, another dtype and another shape: no such layer has one stride."""
    whole = {f"{MIXTRAL.format(0, e)}{name}.weight": np.ones((4, 2), np.float32)
             for e in range(3) for name in ("w1", "w2", "w3")}  # fmt: skip
    odd = f"{MIXTRAL.format(0, 1)}w3.weight"
    cases = {
        "and no expert 1": {name: tensor for name, tensor in whole.items() if ".experts.1." not in name},
        "expert 1 of layers.0 with another": without(whole, odd),
        "expert 1 of layers.0 with another model.*w3": {**whole, odd: np.ones((4, 2), np.float16)},
        "experts.{expert}.w3.weight than expert 0": {**whole, odd: np.ones((8, 2), np.float32)},
    }
    for place, (match, tensors) in enumerate(cases.items()):
        path = written(tmp_path / str(place), tensors, "mixtral")
        with pytest.raises(UnsupportedError, match=match):
            open_experts(path)


def test_a_flat_tensor_of_all_experts(tmp_path: Path) -> None:
    """Bytes of all experts without an axis that counts them cannot be cut."""
    path = gpt_oss(tmp_path / "m")
    tensors = load_file(path / "model.safetensors")
    name = "model.layers.0.mlp.experts.gate_up_proj"
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(f"{name}_")}
    save_file({**tensors, name: np.ones((600, 1), np.uint8)}, path / "model.safetensors")
    with pytest.raises(UnsupportedError, match=r"gate_up_proj of shape \[600, 1\]"):
        open_experts(path)


def test_without_experts(pico_llama: Path, pico_opt: Path, tmp_path: Path) -> None:
    """A dense model, and a mixture's family whose file has dense layers only."""
    for path in (pico_llama, pico_opt):
        with pytest.raises(UnsupportedError, match=r"no experts, by the tensor names of family .* Leave --unit out"):
            open_experts(path)
    dense = {f"model.layers.0.mlp.{role}_proj.weight": np.ones((4, 4), np.float32) for role in ("gate", "up", "down")}
    with pytest.raises(UnsupportedError, match="no experts"):
        open_experts(written(tmp_path / "m", dense, "qwen3_moe"))


def test_an_unknown_type(tmp_path: Path) -> None:
    """No family describes it: the error is that of neurons, and --family helps here too."""
    path = qwen3_moe(tmp_path / "m")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_type": "nobody"}))
    with pytest.raises(CheckpointError, match="add --family qwen_moe"):
        open_experts(path)


def test_an_unstored_expert(tmp_path: Path) -> None:
    """An index that names an expert which no shard has: something is missing."""
    path = qwen3_moe(tmp_path / "m")
    index = json.loads((path / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.layers.1.mlp.experts.6.up_proj.weight"] = "model-00001-of-00003.safetensors"
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"experts\.6\.up_proj"):
        open_experts(path)


# GGUF.


def test_a_split_gguf(tmp_path: Path) -> None:
    """Any file of a split stands for all of them; a missing one is named."""
    one = gguf_mixture(tmp_path / "m-00001-of-00002.gguf", n_layers=1)
    with pytest.raises(CheckpointError, match=r"m-00002-of-00002\.gguf: found no such file"):
        describe_gguf(one)
    two = tmp_path / "m-00002-of-00002.gguf"
    two.write_bytes(gguf_mixture(tmp_path / "other.gguf", n_layers=1).read_bytes().replace(b"blk.0.", b"blk.1."))
    models = [describe_gguf(path) for path in (one, two)]
    for model in models:
        assert list(model.blocks) == ["layers.0", "layers.1"]
        assert model.weight_files.keys() == {one.name, two.name}
        assert {part.experts[0].file for part in model.blocks["layers.1"].parts} == {two}


def test_old_ggufs(tmp_path: Path) -> None:
    """Files of early Mixtrals have a tensor for each expert."""
    from gguf import GGUFWriter

    rng = np.random.default_rng(0)
    writer = GGUFWriter(str(tmp_path / "m.gguf"), "llama")
    arrays = {f"blk.0.ffn_{role}.{expert}.weight": rng.random((4, 8), np.float32)
              for expert in range(11) for role in ("down", "gate", "up")}  # fmt: skip
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = (tmp_path / "m.gguf").read_bytes()
    block = describe_gguf(tmp_path / "m.gguf").blocks["layers.0"]
    assert block.n_neurons == 11
    for part in block.parts:
        for expert, runs in enumerate(part.experts):
            expected = arrays[part.tensor.replace("{expert}", str(expert))].tobytes()
            assert data[runs.offset_bytes : runs.offset_bytes + runs.run_bytes] == expected


def test_gguf_without_experts(tmp_path: Path) -> None:
    """A dense GGUF has nothing to pack."""
    path = gguf_mixture(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes().replace(b"_exps", b"_none"))
    with pytest.raises(UnsupportedError, match="no experts, by the tensor names of architecture qwen3moe"):
        open_experts(path)


def test_no_gguf(tmp_path: Path) -> None:
    """Nothing there, and something else under that name."""
    with pytest.raises(UsageError, match="nothing there"):
        open_experts(tmp_path / "m.gguf")
    (tmp_path / "m.gguf").write_text("<html><title>404</title></html>")
    with pytest.raises(CheckpointError, match="error page"):
        open_experts(tmp_path / "m.gguf")


def test_a_count_beyond_the_file(tmp_path: Path) -> None:
    """An array of 2**60 items, and tensors without number: refused at once."""
    path = gguf_mixture(tmp_path / "m.gguf", n_layers=1)
    data = path.read_bytes()
    tokens = data.index(b"tokenizer.ggml.tokens") + len(b"tokenizer.ggml.tokens") + 8
    for place, count in ((tokens, 2**60), (8, 2**60), (16, 2**60)):
        path.write_bytes(data[:place] + struct.pack("<Q", count) + data[place + 8 :])
        with pytest.raises(CheckpointError, match="no GGUF header that holds"):
            open_experts(path)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.99])
def test_a_gguf_cut_short(tmp_path: Path, share: float) -> None:
    """A download that has not ended is no model."""
    path = gguf_mixture(tmp_path / "m.gguf")
    data = path.read_bytes()
    path.write_bytes(data[: 30 + int(share * (len(data) - 64))])
    with pytest.raises(CheckpointError):
        open_experts(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_gguf_header(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever bytes a header has: it is refused by our errors, or its experts lie within the file."""
    folder = tmp_path_factory.getbasetemp()
    path, whole = folder / "damaged.gguf", folder / "whole.gguf"
    if not whole.exists():
        gguf_mixture(whole, n_layers=1)
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, 700))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        model = describe_gguf(path)
    except RipplePlaceError:
        return
    for block in model.blocks.values():
        for part in block.parts:
            assert len(part.experts) == block.n_neurons <= N_EXPERTS * 2**8
            for runs in part.experts:
                end = runs.offset_bytes + (runs.n_runs - 1) * runs.step_bytes + runs.run_bytes
                assert 0 <= runs.offset_bytes < end <= len(content)
