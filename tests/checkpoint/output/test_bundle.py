"""The bundled file, read as an engine would: with the index and plain positioned reads."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, safe_open

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output import bundle_layout
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import CheckpointError, UnsupportedError
from ripple_place.flash.layout import BlockExtent, BlockLayout
from ripple_place.tensorfile import TensorFile
from tests.builders import contents, llama_config, llama_tensors, random_placement, write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.checkpoint.model.ffn import FfnModel

BUNDLED = "ripple_place/bundled.safetensors"


def write_bundled(source: Path, out: Path, **options: Any) -> TensorFile:
    """Rewrite a checkpoint at random and open its bundled file."""
    model = describe_ffn(Checkpoint.open(source))
    execute(plan_rewrite(model, random_placement(model), out, formats={"bundled"}, **options))
    return TensorFile.open(out / BUNDLED)


@pytest.mark.parametrize("stride", ["packed", "page"])
def test_read_by_index(pico_llama: Path, tmp_path: Path, stride: str) -> None:
    """The index alone leads to gate row, up row and down column of each neuron, side by side."""
    file = write_bundled(pico_llama, tmp_path / "out", stride=stride)
    index = json.loads(file.metadata["index"])
    manifest = read_manifest(tmp_path / "out")
    assert index == manifest.document["bundled"]
    weights = {}
    for shard in pico_llama.glob("*.safetensors"):
        weights |= load_file(shard)
    descriptor = os.open(file.path, os.O_RDONLY)
    try:
        for name, block in index.items():
            assert block["offset_bytes"] % 4096 == 0
            assert block["stride_bytes"] == (48 if stride == "packed" else 4096)
            assert manifest.blocks[name].offset_bytes == block["offset_bytes"]
            for slot, neuron in enumerate(block["order"]):
                data = os.pread(descriptor, 48, block["offset_bytes"] + slot * block["stride_bytes"])
                for component in block["components"]:
                    begin = component["offset_bytes"]
                    found = np.frombuffer(data[begin : begin + component["length_bytes"]], np.float16)
                    tensor = weights[component["tensor"]]
                    expected = tensor[:, neuron] if component["role"] == "down" else tensor[neuron]
                    np.testing.assert_array_equal(found, expected)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("stride", ["packed", "page"])
def test_two_copies(pico_llama: Path, tmp_path: Path, stride: str) -> None:
    """The second order's bundles follow the first's; the index leads to both, and the simulator reads them there."""
    model = describe_ffn(Checkpoint.open(pico_llama))
    placement = random_placement(model, copies=("layers.1",))
    plan = plan_rewrite(model, placement, tmp_path / "out", stride=stride)
    execute(plan)
    file = TensorFile.open(tmp_path / "out" / BUNDLED)
    assert [name for name in file.tensors if name.startswith("layers.")] == [
        f"layers.{name}" for name in ("0.bundles", "0.padding", "1.bundles", "1.padding", "1.bundles_2", "1.padding_2")
        if stride == "packed" or "padding" not in name
    ]  # fmt: skip
    index = json.loads(file.metadata["index"])
    assert index == read_manifest(tmp_path / "out").document["bundled"]
    assert "order_2" not in index["layers.0"]
    block = index["layers.1"]
    assert block["order_2"] == placement.blocks["layers.1"].order_2.tolist()
    assert block["offset_2_bytes"] % 4096 == 0
    data = file.path.read_bytes()
    first, second = (
        {
            neuron: data[begin : begin + 48]
            for slot, neuron in enumerate(block[order])
            for begin in [block[offset] + slot * block["stride_bytes"]]
        }
        for order, offset in (("order", "offset_bytes"), ("order_2", "offset_2_bytes"))
    )
    assert first == second
    assert block["order"] != block["order_2"]
    added = 4096 if stride == "packed" else 24 * 4096
    assert plan.bundle is not None
    assert plan.bundle.second_copy_bytes == added
    one = execute_and_measure(model, tmp_path / "one", stride)
    assert 0 <= file.size_bytes - one - added <= 4096, "but for a longer header"
    extent = BlockExtent(48, block["stride_bytes"], block["offset_bytes"])
    layout = BlockLayout(placement.blocks["layers.1"], extent)
    assert layout.second_extent.base_offset_bytes + 24 * block["stride_bytes"] == block["offset_2_bytes"]
    drop_in = {name: data for name, data in contents(tmp_path / "out").items() if not name.startswith("ripple_place/")}
    assert drop_in == {
        name: data for name, data in contents(tmp_path / "one").items() if not name.startswith("ripple_place/")
    }


def execute_and_measure(model: FfnModel, out: Path, stride: str) -> int:
    """Write the same placement with one copy; return the size of the bundled file."""
    execute(plan_rewrite(model, random_placement(model), out, stride=stride))
    return (out / BUNDLED).stat().st_size


def test_tensors_of_the_file(pico_opt: Path, tmp_path: Path) -> None:
    """The stock reader sees bundles and padding by block, then the residents, the bias among them permuted."""
    file = write_bundled(pico_opt, tmp_path / "out")
    names = list(file.tensors)
    assert names[:4] == ["layers.0.bundles", "layers.0.padding", "layers.1.bundles", "layers.1.padding"]
    assert file.data_start_bytes % 4096 == 0
    assert file.metadata["format"] == "ripple-place.bundled/1"
    with safe_open(file.path, framework="np") as stock:
        assert stock.get_tensor("layers.0.bundles").shape == (24, 2, 8)
        assert not stock.get_tensor("layers.0.padding").any()
        bias = stock.get_tensor("model.decoder.layers.1.fc1.bias")
    order = json.loads(file.metadata["index"])["layers.1"]["order"]
    before = load_file(pico_opt / "model.safetensors")
    np.testing.assert_array_equal(bias, before["model.decoder.layers.1.fc1.bias"][order])
    assert set(before) - set(names) == {f"model.decoder.layers.{i}.fc{j}.weight" for i in (0, 1) for j in (1, 2)}


def test_mixed_dtypes(tmp_path: Path) -> None:
    """A bundle of several dtypes is bytes, and the index tells which is which; wide residents come first."""
    tensors = llama_tensors()
    for layer in range(2):
        name = f"model.layers.{layer}.mlp.gate_proj.weight"
        tensors[name] = tensors[name].astype(np.float32)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].astype(np.float64)
    file = write_bundled(write_checkpoint(tmp_path / "m", tensors, llama_config()), tmp_path / "out")
    extent = file.tensors["layers.0.bundles"]
    assert (extent.dtype, extent.shape) == ("U8", (24, 8 * (4 + 2 + 2)))
    entry = json.loads(file.metadata["index"])["layers.0"]
    assert entry["dtype"] == "mixed"
    assert [component["dtype"] for component in entry["components"]] == ["F32", "F16", "F16"]
    assert list(file.tensors)[4] == "model.norm.weight"


def test_no_padding_where_none_is_needed(tmp_path: Path) -> None:
    """Bundles that fill their last page are followed by the next block at once."""
    source = write_checkpoint(
        tmp_path / "m", llama_tensors(n_neurons=64, hidden=32, n_layers=1), llama_config(n_neurons=64, n_layers=1)
    )
    file = write_bundled(source, tmp_path / "out")
    assert "layers.0.padding" not in file.tensors


def test_a_source_with_bundle_names(tmp_path: Path) -> None:
    """A tensor that is called like a bundle would be overwritten by it."""
    tensors = llama_tensors(prefix="") | {"layers.0.bundles": np.zeros(3, np.float16)}
    with pytest.raises(CheckpointError, match="named like a neuron bundle"):
        write_bundled(write_checkpoint(tmp_path / "m", tensors, llama_config()), tmp_path / "out")


def test_an_index_too_long(pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock reader's limit on headers holds for us too."""
    monkeypatch.setattr(bundle_layout, "MAX_HEADER_BYTES", 4000)
    with pytest.raises(UnsupportedError, match=r"index of 4096 bytes.*drop-in format only"):
        write_bundled(pico_opt, tmp_path / "out")
