"""The GGUF file, read back with the gguf package's own reader and its dump."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.scripts import gguf_dump

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output import gguf_export
from ripple_place.checkpoint.output.gguf_export import check_exportable, export_gguf
from ripple_place.errors import UnsupportedError
from tests.builders import llama_config, llama_tensors, opt_config, opt_tensors, random_placement, write_checkpoint
from tests.checkpoint.model.test_families import CASES

if TYPE_CHECKING:
    from pathlib import Path


def export(source: Path, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Export a checkpoint at random, and return what the reader sees and the orders."""
    model = describe_ffn(Checkpoint.open(source))
    check_exportable(model)
    orders = {name: block.order for name, block in random_placement(model).blocks.items()}
    export_gguf(model, orders, path)
    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}, orders


def test_opt(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of up and of the transposed down in slot order, the bias too, page-aligned; gguf-dump reads it."""
    tensors = opt_tensors(hidden=16)
    source = write_checkpoint(tmp_path / "m", tensors, opt_config())
    found, orders = export(source, tmp_path / "m.gguf")
    assert set(found) == {f"blk.{i}.{name}" for i in range(2)
                          for name in ("ffn_up.weight", "ffn_down_t.weight", "ffn_up.bias", "ffn_order")}  # fmt: skip
    for layer in range(2):
        order, module = orders[f"layers.{layer}"], f"model.decoder.layers.{layer}."
        up, down = found[f"blk.{layer}.ffn_up.weight"], found[f"blk.{layer}.ffn_down_t.weight"]
        assert list(up.shape) == [16, 24]  # ne0 is the hidden state: a row per neuron.
        np.testing.assert_array_equal(up.data, tensors[module + "fc1.weight"][order])
        np.testing.assert_array_equal(down.data, tensors[module + "fc2.weight"].T[order])
        np.testing.assert_array_equal(found[f"blk.{layer}.ffn_up.bias"].data, tensors[module + "fc1.bias"][order])
        np.testing.assert_array_equal(found[f"blk.{layer}.ffn_order"].data, order)
        assert up.data_offset % 4096 == down.data_offset % 4096 == 0
    monkeypatch.setattr(sys, "argv", ["gguf-dump", str(tmp_path / "m.gguf")])
    gguf_dump.main()
    assert "blk.1.ffn_down_t.weight" in capsys.readouterr().out
    assert not list(tmp_path.glob(".*"))


def test_bf16(tmp_path: Path) -> None:
    """Half precision that numpy does not have: the same bytes, under its own type."""
    tensors = llama_tensors()
    source = write_checkpoint(tmp_path / "m", tensors, llama_config(), bf16=True)
    found, orders = export(source, tmp_path / "m.gguf")
    gate = found["blk.1.ffn_gate.weight"]
    assert (gate.tensor_type.name, list(gate.shape)) == ("BF16", [8, 24])
    expected = tensors["model.layers.1.mlp.gate_proj.weight"][orders["layers.1"]]
    assert gate.data.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["smallthinker", "qwen3-vl-moe on disk", "qwen3-vl-moe at run time", "internlm2"])
def test_other_layouts(tmp_path: Path, name: str) -> None:
    """Experts have a tensor each, however the checkpoint stores them."""
    case, rng = CASES[name], np.random.default_rng(0)
    tensors = {key: rng.standard_normal(shape) for key, shape in case.shapes.items()}
    found, orders = export(write_checkpoint(tmp_path / "m", tensors, case.config), tmp_path / "m.gguf")
    for block, order in orders.items():
        layer, *expert = block.removeprefix("layers.").split(".experts.")
        weights = [found[f"blk.{layer}.{part}{''.join('.' + e for e in expert)}.weight"].data
                   for part in ("ffn_gate", "ffn_up", "ffn_down_t")]  # fmt: skip
        assert [matrix.shape for matrix in weights] == [(24, 8)] * 3
        every = np.concatenate([tensor.ravel() for tensor in tensors.values()])
        assert np.isin(np.concatenate([matrix.ravel() for matrix in weights]), every).all()
        np.testing.assert_array_equal(found[f"blk.{layer}.ffn_order{''.join('.' + e for e in expert)}"].data, order)


def test_what_cannot_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers, fused biases, and no package."""
    source = write_checkpoint(tmp_path / "m", opt_tensors(dtype="u1"), opt_config())
    with pytest.raises(UnsupportedError, match=r"found U8; expected float weights.*Leave --gguf out"):
        check_exportable(describe_ffn(Checkpoint.open(source)))
    case = CASES["phi3small"]
    fused = write_checkpoint(tmp_path / "f", {k: np.zeros(s) for k, s in case.shapes.items()}, case.config)
    with pytest.raises(UnsupportedError, match=r"up_proj.bias; expected"):
        check_exportable(describe_ffn(Checkpoint.open(fused)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"pip install .gguf"):
        check_exportable(describe_ffn(Checkpoint.open(source)))


def test_nothing_is_left_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-written file does not stay."""
    source = write_checkpoint(tmp_path / "m", opt_tensors(), opt_config())

    def refuse(*arguments: Any) -> None:
        raise OSError("full")

    monkeypatch.setattr(gguf_export, "_rows", refuse)
    with pytest.raises(OSError, match="full"):
        export(source, tmp_path / "x.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
