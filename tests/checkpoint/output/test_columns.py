"""Outputs whose units are columns: what lies where, that it is proved, and what is refused."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from ripple_place.checkpoint.model.ffn import FfnModel, describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import BUNDLED_FILE, MANIFEST_FILE, PLACEMENT_FILE
from ripple_place.checkpoint.output import bundle_pieces
from ripple_place.checkpoint.output.bundle import bundle_sources, plan_bundle
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.output.plan import plan_rewrite, resolve_orders, second_orders
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.restore import restore
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import UnsupportedError, VerificationError
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement, write_placement
from ripple_place.tensorfile import TensorFile
from tests.builders import (
    adjust_manifest,
    contents,
    llama_config,
    llama_tensors,
    opt_config,
    opt_tensors,
    random_placement,
    write_checkpoint,
)
from tests.checkpoint.model.test_quantised import write_quantised

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCKS = ["layers.0.input", "layers.0", "layers.1.input", "layers.1"]


def columns_of(source: Path) -> FfnModel:
    """Describe a checkpoint by its columns."""
    return describe_ffn(Checkpoint.open(source)).of_unit("column")


def rewrite(source: Path, out: Path, *, copies: tuple[str, ...] = (), **options: Any) -> ModelPlacement:
    """Rewrite a checkpoint by columns, at random; return the placement."""
    model = columns_of(source)
    placement = random_placement(model, copies=copies)
    execute(plan_rewrite(model, placement, out, **options))
    return placement


def weights_of(source: Path) -> dict[str, np.ndarray]:
    """Return all tensors of a checkpoint by the stock reader."""
    return {name: tensor for shard in source.glob("*.safetensors") for name, tensor in load_file(shard).items()}


def assert_columns(out: Path, weights: dict[str, np.ndarray], placement: ModelPlacement) -> None:
    """Find each column where the index says, with nothing but the file's bytes and numpy."""
    data = (out / BUNDLED_FILE).read_bytes()
    index = json.loads(TensorFile.open(out / BUNDLED_FILE).metadata["index"])
    assert list(index) == BLOCKS
    for name, block in index.items():
        assert block["unit"] == "column"
        assert block["offset_bytes"] % 4096 == block.get("offset_2_bytes", 0) % 4096 == 0
        of_down = placement.blocks[name.removesuffix(".input")].order
        for order, offset in (("order", "offset_bytes"), ("order_2", "offset_2_bytes")):
            for slot, unit in enumerate(block.get(order, [])):
                begin = block[offset] + slot * block["stride_bytes"]
                for part in block["components"]:
                    first = begin + part["offset_bytes"]
                    column = weights[part["tensor"]][:, unit]
                    expected = column[of_down] if name.endswith(".input") else column
                    assert data[first : first + part["length_bytes"]] == expected.tobytes()
        assert block["order"] == placement.blocks[name].order.tolist()
        assert ("order_2" in block) == (placement.blocks[name].order_2 is not None)


@pytest.mark.parametrize("stride", ["packed", "page"])
def test_read_by_index(pico_llama: Path, tmp_path: Path, stride: str) -> None:
    """Gate and up columns of an input side by side, in the order of down's slots; down columns; second copies too."""
    placement = rewrite(pico_llama, tmp_path / "out", stride=stride, copies=("layers.0.input", "layers.1"))
    assert_columns(tmp_path / "out", weights_of(pico_llama), placement)
    manifest = read_manifest(tmp_path / "out")
    assert manifest.document["unit"] == "column"
    sizes = {name: (block.n_neurons, block.bundle_bytes, block.placed) for name, block in manifest.blocks.items()}
    assert sizes == {name: (8, 96, True) if "input" in name else (24, 16, True) for name in BLOCKS}
    assert manifest.document["blocks"]["layers.0.input"]["tensors"] == {
        role: f"model.layers.0.mlp.{role}_proj.weight" for role in ("gate", "up")
    }
    names = [name for name in TensorFile.open(tmp_path / "out" / BUNDLED_FILE).tensors if name.startswith("layers.0")]
    assert [name for name in names if "padding" not in name] == [
        "layers.0.input.bundles", "layers.0.input.bundles_2", "layers.0.bundles",
    ]  # fmt: skip


def test_without_gate(pico_opt: Path, tmp_path: Path) -> None:
    """An input has its column of up alone; biases go along with the columns of down."""
    placement = rewrite(pico_opt, tmp_path / "out")
    weights = weights_of(pico_opt)
    assert_columns(tmp_path / "out", weights, placement)
    stored = load_file(tmp_path / "out" / BUNDLED_FILE)
    assert stored["layers.1.input.bundles"].shape == (8, 1, 24)
    assert stored["layers.1.bundles"].shape == (24, 1, 8)
    bias = "model.decoder.layers.1.fc1.bias"
    np.testing.assert_array_equal(stored[bias], weights[bias][placement.blocks["layers.1"].order])


def test_drop_in_has_the_order_of_neurons_alone(pico_llama: Path, tmp_path: Path) -> None:
    """Byte for byte what a placement of neurons makes, with down's order."""
    placement = rewrite(pico_llama, tmp_path / "out")
    neurons = ModelPlacement({name: placement.blocks[name] for name in ("layers.0", "layers.1")})
    execute(plan_rewrite(describe_ffn(Checkpoint.open(pico_llama)), neurons, tmp_path / "neurons"))
    by_column, by_neuron = contents(tmp_path / "out"), contents(tmp_path / "neurons")
    assert {name for name in by_column if by_column[name] != by_neuron[name]} == {
        BUNDLED_FILE, MANIFEST_FILE, PLACEMENT_FILE,
    }  # fmt: skip
    assert "unit" not in read_manifest(tmp_path / "neurons").document


def test_blocks_without_a_placement(pico_llama: Path, tmp_path: Path) -> None:
    """They lie in checkpoint order, whichever of the two is missing."""
    model = columns_of(pico_llama)
    placement = random_placement(model, skip=("layers.0", "layers.1.input"))
    execute(plan_rewrite(model, placement, tmp_path / "out"))
    original = {name: NeuronPlacement.original(block.n_neurons) for name, block in model.blocks.items()}
    whole = ModelPlacement(original | dict(placement.blocks), placement.metadata)
    assert_columns(tmp_path / "out", weights_of(pico_llama), whole)
    verify(pico_llama, tmp_path / "out")


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(["<f4", "<f2", "|i1"]),
    held_bytes=st.sampled_from([1, 256 << 20]),
    chunk_bytes=st.sampled_from([1, 300, 8 << 20]),
)
def test_bundles_are_the_transposed_slices(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int, sizes: tuple[int, int], dtype: str, held_bytes: int, chunk_bytes: int,
) -> None:  # fmt: skip
    """Whatever the order, the widths, the dtype, and the memory in which columns are turned."""
    n_neurons, hidden = sizes
    rng = np.random.default_rng(seed)
    shapes = llama_tensors(n_layers=1, n_neurons=n_neurons, hidden=hidden)
    tensors = {name: rng.integers(-99, 99, tensor.shape).astype(dtype) for name, tensor in shapes.items()}
    config = llama_config(n_layers=1, n_neurons=n_neurons, hidden_size=hidden)
    model = columns_of(write_checkpoint(tmp_path_factory.mktemp("columns") / "m", tensors, config))
    placement = random_placement(model, seed=seed, copies=("layers.0.input", "layers.0"))
    orders, second = resolve_orders(model, placement), second_orders(placement)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bundle_pieces, "HELD_ROWS_BYTES", held_bytes)
        patched.setattr(bundle_pieces, "CHUNK_BYTES", chunk_bytes)
        layout = plan_bundle(model, orders, "packed", second)
        pieces = {
            source.name: b"".join(piece.tobytes() for piece in source.pieces)
            for source in bundle_sources(model, orders, layout)
            if ".bundles" in source.name
        }
    gate, up, down = (tensors[f"model.layers.0.mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
    columns = np.stack([gate.T, up.T], axis=1)[:, :, orders["layers.0"]]
    assert pieces == {
        "layers.0.input.bundles": columns[orders["layers.0.input"]].tobytes(),
        "layers.0.input.bundles_2": columns[second["layers.0.input"]].tobytes(),
        "layers.0.bundles": down.T[orders["layers.0"]].tobytes(),
        "layers.0.bundles_2": down.T[second["layers.0"]].tobytes(),
    }


def test_columns_are_turned_in_groups(monkeypatch: pytest.MonkeyPatch, pico_llama: Path, tmp_path: Path) -> None:
    """Gate and up are held together only where memory allows: otherwise for half of the slots at a time."""
    held = []
    write = bundle_pieces.write_unit_rows

    def note(checkpoint: Any, component: Any, out: np.ndarray, units: Any = None) -> None:
        held.append(len(out))
        write(checkpoint, component, out, units)

    monkeypatch.setattr(bundle_pieces, "HELD_ROWS_BYTES", 1)
    monkeypatch.setattr(bundle_pieces, "write_unit_rows", note)
    placement = rewrite(pico_llama, tmp_path / "out", formats=["bundled"])
    assert_columns(tmp_path / "out", weights_of(pico_llama), placement)
    # Of each layer gate and up for half of the inputs, then for the rest, then down.
    assert held == 2 * [4, 4, 4, 4, 24]


@pytest.mark.parametrize("formats", [["drop-in"], ["bundled"], ["drop-in", "bundled"]])
def test_proved(pico_llama: Path, tmp_path: Path, formats: list[str]) -> None:
    """Each component of both blocks is compared, and each FFN computes the same."""
    rewrite(pico_llama, tmp_path / "out", formats=formats)
    checks = verify(pico_llama, tmp_path / "out").checks
    assert checks["FFN blocks compute the same on random input, in float64"] == 2
    components = checks.get("bundled components equal the source's, read at the index's offsets")
    assert components == (6 if "bundled" in formats else None)


def test_restored(pico_opt: Path, tmp_path: Path) -> None:
    """From the drop-in shards, which say nothing of inputs."""
    rewrite(pico_opt, tmp_path / "out")
    restore(tmp_path / "out", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(pico_opt)


def flip(name: str, at: int = 0) -> Callable[[Path], None]:
    """Return what changes a byte of a tensor in the bundled file."""

    def harm(out: Path) -> None:
        file, data = TensorFile.open(out / BUNDLED_FILE), bytearray((out / BUNDLED_FILE).read_bytes())
        data[file.tensors[name].offset_bytes + at] ^= 1
        (out / BUNDLED_FILE).write_bytes(data)

    return harm


def forget_the_unit(out: Path) -> None:
    """Take the unit out of the placement."""
    placement = read_placement(out / PLACEMENT_FILE)
    neurons = {name: block for name, block in placement.blocks.items() if not name.endswith(".input")}
    write_placement(out / PLACEMENT_FILE, ModelPlacement(neurons))


def call_it_one(out: Path) -> None:
    """Give the bundled file the name of the format of neurons."""
    data = (out / BUNDLED_FILE).read_bytes()
    (out / BUNDLED_FILE).write_bytes(data.replace(b"bundled/2", b"bundled/1", 1))


def cut_short(out: Path) -> None:
    """Take the last byte away."""
    os.truncate(out / BUNDLED_FILE, (out / BUNDLED_FILE).stat().st_size - 1)


@pytest.mark.parametrize(
    ("harm", "match"),
    [
        (flip("layers.1.input.bundles", 96 * 3 + 50), r"layers.1.input, .*up_proj.*other weights for input \d"),
        (flip("layers.1.input.bundles_2"), r"layers.1.input \(second copy\), .*gate_proj.*other weights for input"),
        (flip("layers.0.bundles"), r"layers.0, .*down_proj.*other weights for neuron"),
        (flip("layers.0.input.padding"), "padding that holds something"),
        (forget_the_unit, "manifest.json: unit: found something else"),
        (call_it_one, "another header or index"),
        (cut_short, "bundled.safetensors"),
    ],
)
def test_tampered(pico_llama: Path, tmp_path: Path, harm: Callable[[Path], None], match: str) -> None:
    """Whatever is changed is found, though the manifest was made to agree."""
    out = tmp_path / "out"
    rewrite(pico_llama, out, copies=("layers.1.input",))
    harm(out)
    adjust_manifest(out)
    with pytest.raises(VerificationError, match=match):
        verify(pico_llama, out)


@pytest.mark.parametrize("unit", ["neuron", "row", 1, None])
def test_a_manifest_of_other_units(pico_opt: Path, tmp_path: Path, unit: object) -> None:
    """It says nothing of neurons, and knows no others than columns."""
    rewrite(pico_opt, tmp_path / "out")
    adjust_manifest(tmp_path / "out", unit=unit)
    with pytest.raises(VerificationError, match="unit of another form"):
        verify(pico_opt, tmp_path / "out")


WHOLE = ["int8 by output", "fp8, one scale", "fp8 by output", "bitsandbytes int8"]


@pytest.mark.parametrize("scheme", WHOLE)
def test_quantised_to_whole_bytes(tmp_path: Path, scheme: str) -> None:
    """Scales of outputs go along with the columns of down, where those are neurons."""
    source = write_quantised(tmp_path / "m", scheme)
    rewrite(source, tmp_path / "out")
    verify(source, tmp_path / "out")


@pytest.mark.parametrize("scheme", ["gptq 4 bits, desc_act", "awq", "pack-quantized", "fp8 by block"])
def test_quantised_in_words_or_groups(tmp_path: Path, scheme: str) -> None:
    """Columns are no whole bytes then, or share a scale with others."""
    source = write_quantised(tmp_path / "m", scheme)
    n_neurons = describe_ffn(Checkpoint.open(source)).blocks["layers.0"].n_neurons
    placement = ModelPlacement({"layers.0": NeuronPlacement.original(n_neurons)}, {"unit": "column"})
    with pytest.raises(UnsupportedError, match=r"layers.0: found weights that are packed.*placement of neurons"):
        plan_rewrite(describe_ffn(Checkpoint.open(source)), placement, tmp_path / "out", formats=["drop-in"])


def test_wide_bf16(tmp_path: Path) -> None:
    """More rows and columns than are turned at a time, and a dtype that numpy does not have."""
    tensors = llama_tensors(n_layers=2, n_neurons=300, hidden=70)
    source = write_checkpoint(tmp_path / "m", tensors, llama_config(n_neurons=300), bf16=True)
    placement = rewrite(source, tmp_path / "out")
    assert_columns(tmp_path / "out", tensors, placement)
    verify(source, tmp_path / "out")


def test_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written, and proved, in pieces much smaller than a tensor, it has the same bytes."""
    tensors = llama_tensors(n_layers=1, n_neurons=30, hidden=20)
    source = write_checkpoint(tmp_path / "m", tensors, llama_config(n_layers=1, n_neurons=30))
    rewrite(source, tmp_path / "one")
    for name in ("fileio", "output.bundle_pieces", "output.permute", "proof.compare"):
        monkeypatch.setattr(f"ripple_place.checkpoint.{name}.CHUNK_BYTES", 100)
    for name in ("output.permute", "proof.compare"):
        monkeypatch.setattr(f"ripple_place.checkpoint.{name}._TRANSPOSE_ROWS", 3)
        monkeypatch.setattr(f"ripple_place.checkpoint.{name}._TRANSPOSE_COLUMNS", 5)
    rewrite(source, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("n", [3, 6, 9, 12])
def test_resumed(pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """After a kill, the same command gives the same bytes."""
    model = columns_of(pico_opt)
    placement = random_placement(model)
    execute(plan_rewrite(model, placement, tmp_path / "whole"))
    n_calls, fsync = 0, os.fsync

    def interrupt(descriptor: int) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == n:
            raise KeyboardInterrupt
        fsync(descriptor)

    plan = plan_rewrite(model, placement, tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            execute(plan)
    assert not (tmp_path / "out").exists()
    execute(plan, resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_another_model_than_the_placement(pico_opt: Path, tmp_path: Path) -> None:
    """Blocks of inputs are as wide as the model's hidden state."""
    wide = write_checkpoint(tmp_path / "wide", opt_tensors(hidden=16), opt_config())
    with pytest.raises(ValueError, match=r"placement: layers.0.input: found 8 neurons; expected 16"):
        plan_rewrite(columns_of(wide), random_placement(columns_of(pico_opt)), tmp_path / "out")


def test_the_example_in_the_documentation(pico_llama: Path, tmp_path: Path) -> None:
    """A dozen lines of numpy compute an FFN from the bundled file."""
    rewrite(pico_llama, tmp_path / "out")
    text = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()
    code = next(code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "einsum" in code)
    names: dict[str, Any] = {}
    exec(code, names)
    x = np.random.default_rng(0).standard_normal(8)
    gate, up, down = (
        weights_of(pico_llama)[f"model.layers.1.mlp.{name}_proj.weight"] for name in ("gate", "up", "down")
    )
    found = names["ffn"](tmp_path / "out" / BUNDLED_FILE, "layers.1", x, np.tanh)
    np.testing.assert_allclose(found, down @ (np.tanh(gate @ x) * (up @ x)), rtol=1e-6)
