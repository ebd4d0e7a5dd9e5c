"""A bundled file of columns of an earlier version: read by its index and by the stock reader, and written anew."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.rewrite import execute
from tests.formats.contents import pico_columns
from tests.formats.kept import FORMATS, check_still_written

if TYPE_CHECKING:
    from pathlib import Path

NAME = "bundled-columns.safetensors"


def test_written_as_ever(tmp_path: Path) -> None:
    """The same checkpoint and orders give the same bytes."""
    model = pico_columns()
    described = describe_ffn(Checkpoint.open(model.write(tmp_path / "checkpoint")))
    execute(plan_rewrite(described, model.placement, tmp_path / "out", formats={"bundled"}))
    check_still_written(NAME, (tmp_path / "out" / "ripple_place" / "bundled.safetensors").read_bytes())


def test_read_for_ever_by_the_index() -> None:
    """Columns of gate and up lie side by side in each slot, in the order of the slots of down's columns."""
    model, data = pico_columns(), (FORMATS / NAME).read_bytes()
    with safe_open(FORMATS / NAME, "numpy") as file:
        assert file.metadata()["format"] == "ripple-place.bundled/2"
        index = json.loads(file.metadata()["index"])
    assert list(index) == list(model.placement.blocks) == ["layers.0.input", "layers.0"]
    assert [block["unit"] for block in index.values()] == ["column", "column"]
    assert [block["n_neurons"] for block in index.values()] == [4, 6]
    for name, block in index.items():
        for order, offset in (("order", "offset_bytes"), ("order_2", "offset_2_bytes")):
            for slot, unit in enumerate(block.get(order, [])):
                for part in block["components"]:
                    first = block[offset] + slot * block["stride_bytes"] + part["offset_bytes"]
                    column = model.tensors[part["tensor"]][:, unit]
                    expected = column if name == "layers.0" else column[index["layers.0"]["order"]]
                    assert data[first : first + part["length_bytes"]] == expected.tobytes()


def test_in_the_stock_reader() -> None:
    """Bundles of both blocks, padding of zeros, and all other tensors as they were."""
    model, stored = pico_columns(), load_file(FORMATS / NAME)
    shapes = {key: tensor.shape for key, tensor in stored.items() if ".bundles" in key}
    assert shapes == {
        "layers.0.input.bundles": (4, 2, 6), "layers.0.input.bundles_2": (4, 2, 6), "layers.0.bundles": (6, 1, 4),
    }  # fmt: skip
    assert not any(tensor.any() for key, tensor in stored.items() if ".padding" in key)
    others = {key: tensor for key, tensor in stored.items() if not key.startswith("layers.0")}
    assert others.keys() == {key for key in model.tensors if ".mlp." not in key}
    for key, tensor in others.items():
        np.testing.assert_array_equal(tensor, model.tensors[key], strict=True)
