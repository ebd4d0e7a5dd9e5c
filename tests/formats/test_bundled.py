"""Bundled files of an earlier version: read by their index alone and by the stock reader, and written anew."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors import safe_open

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.rewrite import execute
from ripple_place.tensorfile import NUMPY_DTYPES, TensorFile
from tests.formats.contents import mixed_llama, pico_llama, pico_opt
from tests.formats.kept import FORMATS, check_still_written

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.formats.contents import PicoModel

BUNDLED: dict[str, Callable[[], PicoModel]] = {
    "bundled-packed.safetensors": pico_opt,
    "bundled-page.safetensors": lambda: pico_llama(1, 4, stride="page"),
    "bundled-two-copies.safetensors": lambda: pico_llama(2, 6, second=True),
    "bundled-mixed.safetensors": mixed_llama,
}
FORMAT = "ripple-place.bundled/1"
SHAPES = {
    "bundled-packed.safetensors": {f"layers.{layer}.bundles": ("F16", [24, 2, 4]) for layer in range(2)},
    "bundled-page.safetensors": {"layers.0.bundles": ("U8", [4, 4096])},
    "bundled-two-copies.safetensors": {
        f"layers.{name}": ("F16", [6, 3, 4]) for name in ("0.bundles", "1.bundles", "1.bundles_2")
    },
    "bundled-mixed.safetensors": {"layers.0.bundles": ("U8", [6, 4 * (4 + 2 + 2)])},
}


@pytest.mark.parametrize("name", BUNDLED)
def test_written_as_ever(tmp_path: Path, name: str) -> None:
    """The same checkpoint and orders give the same bytes."""
    model = BUNDLED[name]()
    described = describe_ffn(Checkpoint.open(model.write(tmp_path / "checkpoint")))
    execute(plan_rewrite(described, model.placement, tmp_path / "out", formats={"bundled"}, stride=model.stride))
    check_still_written(name, (tmp_path / "out" / "ripple_place" / "bundled.safetensors").read_bytes())


def weights_of(model: PicoModel, component: dict[str, Any], neuron: int) -> np.ndarray:
    """Return a neuron's row of an up or gate projection, or its column of a down projection."""
    tensor = model.tensors[component["tensor"]]
    return tensor[:, neuron] if component["role"] == "down" else tensor[neuron]


def assert_bundles(path: Path, model: PicoModel) -> None:
    """Find each neuron's weights where the index says, in each copy, with nothing but the file's bytes."""
    file, data = TensorFile.open(path), path.read_bytes()
    assert file.metadata["format"] == FORMAT
    index = json.loads(file.metadata["index"])
    assert list(index) == list(model.placement.blocks)
    for name, placement in model.placement.blocks.items():
        block = index[name]
        copies = [(placement.order, block["order"], block["offset_bytes"])]
        assert ("order_2" in block) == ("offset_2_bytes" in block) == (placement.order_2 is not None)
        if placement.order_2 is not None:
            copies.append((placement.order_2, block["order_2"], block["offset_2_bytes"]))
        for order, recorded, offset_bytes in copies:
            assert recorded == order.tolist()
            assert block["n_neurons"] == len(recorded)
            assert offset_bytes % 4096 == 0
            for slot, neuron in enumerate(recorded):
                begin = offset_bytes + slot * block["stride_bytes"]
                for component in block["components"]:
                    first = begin + component["offset_bytes"]
                    found = np.frombuffer(
                        data[first : first + component["length_bytes"]], NUMPY_DTYPES[component["dtype"]]
                    )
                    np.testing.assert_array_equal(found, weights_of(model, component, neuron), strict=True)


@pytest.mark.parametrize("name", BUNDLED)
def test_read_for_ever_by_the_index(name: str) -> None:
    """All weights of a neuron lie side by side in its slot."""
    assert_bundles(FORMATS / name, BUNDLED[name]())


def test_strides_dtypes_and_roles() -> None:
    """What the index says beside offsets: packed or on pages, of one dtype or several, up and down or gate as well."""
    entries = {}
    for name in BUNDLED:
        entry = json.loads(TensorFile.open(FORMATS / name).metadata["index"])["layers.0"]
        components = [(part["role"], part["dtype"], part["length_bytes"]) for part in entry["components"]]
        entries[name] = (entry["stride_bytes"], entry["dtype"], components)
    gate, up, down = ("gate", "F16", 8), ("up", "F16", 8), ("down", "F16", 8)
    assert entries == {
        "bundled-packed.safetensors": (16, "F16", [up, down]),
        "bundled-page.safetensors": (4096, "F16", [gate, up, down]),
        "bundled-two-copies.safetensors": (24, "F16", [gate, up, down]),
        "bundled-mixed.safetensors": (32, "mixed", [("gate", "F32", 16), up, down]),
    }


@pytest.mark.parametrize("name", BUNDLED)
def test_in_the_stock_reader(name: str) -> None:
    """Bundles by slot, padding of zeros, and all other tensors under their own names, biases permuted."""
    model = BUNDLED[name]()
    with safe_open(FORMATS / name, "numpy") as file:
        index = json.loads(file.metadata()["index"])
        names = set(file.keys())
        bundles = {key for key in names if ".bundles" in key}
        assert {key: (file.get_slice(key).get_dtype(), file.get_slice(key).get_shape()) for key in bundles} == (
            SHAPES[name]
        )
        for key in bundles:
            block_name, _, copy = key.partition(".bundles")
            block = index[block_name]
            for slot, neuron in enumerate(block[f"order{copy}"]):
                expected = b"".join(weights_of(model, part, neuron).tobytes() for part in block["components"])
                assert file.get_tensor(key)[slot].tobytes().rstrip(b"\0") == expected.rstrip(b"\0")
        padding = {key for key in names if ".padding" in key}
        assert not any(file.get_tensor(key).any() for key in padding)
        bundled = {part["tensor"] for block in index.values() for part in block["components"]}
        assert names - bundles - padding == model.tensors.keys() - bundled
        for key in names - bundles - padding:
            expected = model.tensors[key]
            if key.endswith("fc1.bias"):
                layer = key.split(".")[-3]
                expected = expected[index[f"layers.{layer}"]["order"]]
            np.testing.assert_array_equal(file.get_tensor(key), expected, strict=True)
