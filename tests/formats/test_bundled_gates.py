"""A bundled file with gates apart of an earlier version: read by its index and the stock reader, and written anew."""

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
from tests.formats.contents import pico_gates
from tests.formats.kept import FORMATS, check_still_written

if TYPE_CHECKING:
    from pathlib import Path

NAME = "bundled-gates-apart.safetensors"


def test_written_as_ever(tmp_path: Path) -> None:
    """The same checkpoint and orders give the same bytes."""
    model = pico_gates()
    described = describe_ffn(Checkpoint.open(model.write(tmp_path / "checkpoint")))
    execute(plan_rewrite(described, model.placement, tmp_path / "out", formats={"bundled"}, gates="apart"))
    check_still_written(NAME, (tmp_path / "out" / "ripple_place" / "bundled.safetensors").read_bytes())


def test_read_for_ever_by_the_index() -> None:
    """A gate row in each slot of one region, an up row and a down column in each of the other."""
    model, data = pico_gates(), (FORMATS / NAME).read_bytes()
    with safe_open(FORMATS / NAME, "numpy") as file:
        assert file.metadata()["format"] == "ripple-place.bundled/3"
        index = json.loads(file.metadata()["index"])
    assert list(index) == ["layers.0", "layers.1"]
    for block in index.values():
        assert (block["stride_bytes"], block["gates"]["stride_bytes"]) == (16, 8)
        for region in (block, block["gates"]):
            for slot, neuron in enumerate(block["order"]):
                for part in region["components"]:
                    first = region["offset_bytes"] + slot * region["stride_bytes"] + part["offset_bytes"]
                    tensor = model.tensors[part["tensor"]]
                    expected = tensor[:, neuron] if part["role"] == "down" else tensor[neuron]
                    assert data[first : first + part["length_bytes"]] == expected.tobytes()


def test_in_the_stock_reader() -> None:
    """Gates and bundles of both blocks, padding of zeros, and all other tensors as they were."""
    model, stored = pico_gates(), load_file(FORMATS / NAME)
    shapes = {key: tensor.shape for key, tensor in stored.items() if key.startswith("layers.") and "padding" not in key}
    assert shapes == {f"layers.{n}.{kind}": shape for n in (0, 1) for kind, shape in
                      (("gates", (6, 4)), ("bundles", (6, 2, 4)))}  # fmt: skip
    assert not any(tensor.any() for key, tensor in stored.items() if ".padding" in key)
    others = {key: tensor for key, tensor in stored.items() if not key.startswith("layers.")}
    assert others.keys() == {key for key in model.tensors if ".mlp." not in key}
    for key, tensor in others.items():
        np.testing.assert_array_equal(tensor, model.tensors[key], strict=True)
