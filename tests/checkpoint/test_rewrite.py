"""The rewrite: the same model, and an output that appears whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from ripple_place.checkpoint import fileio
from ripple_place.checkpoint.model.ffn import FfnModel, describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output import permute
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import PlacementError, UsageError
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement
from tests.builders import (
    contents,
    llama_config,
    llama_tensors,
    opt_config,
    opt_tensors,
    random_placement,
    write_checkpoint,
)

if TYPE_CHECKING:
    from pathlib import Path


def describe(path: Path) -> FfnModel:
    """Open a checkpoint and describe its FFNs."""
    return describe_ffn(Checkpoint.open(path))


def rewrite(source: Path, out: Path, placement: ModelPlacement | None = None, **options: Any) -> FfnModel:
    """Rewrite a checkpoint, by default at random."""
    model = describe(source)
    execute(plan_rewrite(model, placement or random_placement(model), out, **options))
    return model


def load(path: Path) -> dict[str, np.ndarray]:
    """Return all tensors at the top level of a checkpoint, by the stock reader."""
    tensors: dict[str, np.ndarray] = {}
    for file in sorted(path.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def test_opt_weights(pico_opt: Path, tmp_path: Path) -> None:
    """Rows of fc1, its bias and columns of fc2 move together; everything else is where it was."""
    model = rewrite(pico_opt, tmp_path / "out")
    before, after = load(pico_opt), load(tmp_path / "out")
    placement = read_placement(tmp_path / "out" / "ripple_place" / "placement.safetensors")
    assert list(before) == list(after)
    for layer in range(2):
        module, order = f"model.decoder.layers.{layer}.", placement.blocks[f"layers.{layer}"].order
        np.testing.assert_array_equal(after.pop(module + "fc1.weight"), before[module + "fc1.weight"][order])
        np.testing.assert_array_equal(after.pop(module + "fc1.bias"), before[module + "fc1.bias"][order])
        np.testing.assert_array_equal(after.pop(module + "fc2.weight"), before[module + "fc2.weight"][:, order])
    for name, tensor in after.items():
        np.testing.assert_array_equal(tensor, before[name])
    assert model.blocks["layers.0"].n_neurons == 24


def opt_ffn(tensors: dict[str, np.ndarray], layer: int, x: np.ndarray) -> np.ndarray:
    """Return what an OPT FFN makes of `x`, in float64."""
    module = {key: tensors[f"model.decoder.layers.{layer}.{key}"].astype(np.float64)
              for key in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")}  # fmt: skip
    hidden = np.maximum(x @ module["fc1.weight"].T + module["fc1.bias"], 0)
    return hidden @ module["fc2.weight"].T + module["fc2.bias"]


def llama_ffn(tensors: dict[str, np.ndarray], layer: int, x: np.ndarray) -> np.ndarray:
    """Return what a Llama FFN makes of `x`, in float64."""
    gate, up, down = (
        tensors[f"model.layers.{layer}.mlp.{name}_proj.weight"].astype(np.float64) for name in ("gate", "up", "down")
    )
    gated = x @ gate.T
    return (gated / (1 + np.exp(-gated)) * (x @ up.T)) @ down.T


@pytest.mark.parametrize("kind", ["opt", "llama"])
def test_forward_is_the_same(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    """The function that the FFN computes does not change, up to the order of its sums."""
    source = request.getfixturevalue(f"pico_{kind}")
    rewrite(source, tmp_path / "out")
    x = np.random.default_rng(3).standard_normal((5, 8))
    ffn = opt_ffn if kind == "opt" else llama_ffn
    for layer in range(2):
        np.testing.assert_allclose(
            ffn(load(tmp_path / "out"), layer, x), ffn(load(source), layer, x), rtol=1e-12, atol=1e-12
        )


def test_what_is_beside_the_weights(pico_llama: Path, tmp_path: Path) -> None:
    """Config, tokenizer, licence, index and subdirectories are copied; stale weight formats are not, and listed."""
    (pico_llama / "pytorch_model.bin").write_bytes(b"stale")
    (pico_llama / "pytorch_model.bin.index.json").write_text("{}")
    (pico_llama / "consolidated.safetensors").write_bytes(b"stale")
    (pico_llama / "onnx").mkdir()
    (pico_llama / "onnx" / "model.onnx").write_bytes(b"stale")
    (pico_llama / "onnx" / "config.json").write_text("{}")
    (pico_llama / ".git").mkdir()
    (pico_llama / ".git" / "HEAD").write_text("ref")
    (pico_llama / "modeling_pico.py").write_text("pass\n")
    (pico_llama / "linked").symlink_to(tmp_path)
    rewrite(pico_llama, tmp_path / "out")
    before, after = contents(pico_llama), contents(tmp_path / "out")
    copied = {name for name in after if not name.endswith(".safetensors") and not name.startswith("ripple_place/")}
    assert copied == {
        "config.json", "tokenizer.json", "LICENSE", "notes/card.md", "onnx/config.json", "modeling_pico.py",
        "model.safetensors.index.json",
    }  # fmt: skip
    assert all(before[name] == after[name] for name in copied)
    assert sorted(read_manifest(tmp_path / "out").document["source"]["left_out"]) == [
        ".git", "consolidated.safetensors", "linked", "onnx/model.onnx", "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ]  # fmt: skip


def test_a_snapshot_of_the_hub_s_cache(pico_llama: Path, tmp_path: Path) -> None:
    """Links into blobs, as the hub's cache has them, are followed; what is written are files, and all is verified."""
    snapshot, blobs = tmp_path / "cache" / "snapshots" / "abc", tmp_path / "cache" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for i, file in enumerate(sorted(file for file in pico_llama.rglob("*") if file.is_file())):
        shutil.copy(file, blobs / str(i))
        link = snapshot / file.relative_to(pico_llama)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(os.path.relpath(blobs / str(i), link.parent))
    rewrite(pico_llama, tmp_path / "plain")
    rewrite(snapshot, tmp_path / "out")
    assert contents(tmp_path / "plain") == contents(tmp_path / "out")
    assert not any(file.is_symlink() for file in (tmp_path / "out").rglob("*"))


def test_headers_are_kept(pico_llama: Path, tmp_path: Path) -> None:
    """Shards have the same names, sizes, header bytes and metadata."""
    model = rewrite(pico_llama, tmp_path / "out")
    for name, shard in model.checkpoint.shards.items():
        before, after = (pico_llama / name).read_bytes(), (tmp_path / "out" / name).read_bytes()
        assert len(before) == len(after)
        assert before[: shard.data_start_bytes] == after[: shard.data_start_bytes]


def test_the_same_bytes_again(pico_llama: Path, tmp_path: Path) -> None:
    """No time, path or random number gets into the output."""
    rewrite(pico_llama, tmp_path / "one")
    rewrite(pico_llama, tmp_path / "elsewhere" / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "elsewhere" / "two")


@pytest.mark.parametrize("dtype", ["u1", "<f2", "<f4", "<f8"])
def test_widths(tmp_path: Path, dtype: str) -> None:
    """Elements of one to eight bytes, in chunks smaller than the tensors."""
    source = write_checkpoint(tmp_path / "m", opt_tensors(dtype=dtype), opt_config())
    rewrite(source, tmp_path / "out", stride="page")  # Verified by default.


def test_bf16(tmp_path: Path) -> None:
    """Weights are opaque bytes: numpy's want of BF16 does not matter."""
    source = write_checkpoint(tmp_path / "m", llama_tensors(bias=True), llama_config(), bf16=True)
    model = rewrite(source, tmp_path / "out")
    assert model.blocks["layers.0"].dtype == "BF16"


def test_small_chunks(pico_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces much smaller than a tensor give the same bytes as one piece."""
    rewrite(pico_llama, tmp_path / "one")
    for module in (fileio, permute):
        monkeypatch.setattr(module, "CHUNK_BYTES", 100)
    for module_name in ("output.bundle_pieces", "proof.compare"):
        monkeypatch.setattr(f"ripple_place.checkpoint.{module_name}.CHUNK_BYTES", 100)
    for module_name in ("output.permute", "proof.compare"):
        monkeypatch.setattr(f"ripple_place.checkpoint.{module_name}._TRANSPOSE_ROWS", 3)
        monkeypatch.setattr(f"ripple_place.checkpoint.{module_name}._TRANSPOSE_COLUMNS", 5)
    monkeypatch.setattr(
        "ripple_place.checkpoint.output.bundle_pieces.HELD_ROWS_BYTES", 500
    )  # Holds the gate, not the up rows.
    monkeypatch.delattr(os, "copy_file_range", raising=False)
    rewrite(pico_llama, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(9)))
def test_permute_then_unpermute(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    """Rewriting the drop-in output with the inverse order gives the source's shards back, bit for bit."""
    root = tmp_path_factory.mktemp("identity")
    source = write_checkpoint(
        root / "m", opt_tensors(n_layers=1, n_neurons=9, hidden=3), opt_config(n_layers=1, n_neurons=9)
    )
    placement = NeuronPlacement(np.array(order))
    rewrite(source, root / "out", ModelPlacement({"layers.0": placement}), formats={"drop-in"})
    shutil.rmtree(root / "out" / "ripple_place")
    inverse = ModelPlacement({"layers.0": NeuronPlacement(placement.slot_of)})
    rewrite(root / "out", root / "back", inverse, formats={"drop-in"})
    shutil.rmtree(root / "back" / "ripple_place")
    assert contents(root / "back") == contents(source)


def test_blocks_without_a_placement_stay(pico_opt: Path, tmp_path: Path) -> None:
    """They are copied in drop-in, bundled in original order, and marked in the manifest."""
    placement = random_placement(describe(pico_opt), skip=("layers.0",))
    rewrite(pico_opt, tmp_path / "out", placement)
    manifest = read_manifest(tmp_path / "out")
    assert [block.placed for block in manifest.blocks.values()] == [False, True]
    assert manifest.document["tensors"]["model.decoder.layers.0.fc1.weight"] == "copied"
    assert manifest.document["tensors"]["model.decoder.layers.1.fc2.weight"] == "columns"
    assert manifest.document["bundled"]["layers.0"]["order"] == list(range(24))


def test_formats(pico_llama: Path, tmp_path: Path) -> None:
    """Either format alone is complete; without drop-in there are no weights for loaders to find, nor an index."""
    rewrite(pico_llama, tmp_path / "bundled", formats={"bundled"})
    rewrite(pico_llama, tmp_path / "drop-in", formats=["drop-in"])
    assert not any(name.startswith("model") for name in contents(tmp_path / "bundled"))
    assert (tmp_path / "bundled" / "config.json").exists()
    assert not (tmp_path / "drop-in" / "ripple_place" / "bundled.safetensors").exists()
    manifest = read_manifest(tmp_path / "drop-in")
    assert manifest.bundled_path is None
    assert manifest.blocks["layers.0"].offset_bytes is None


@pytest.mark.parametrize("formats", [("drop-in",), ("bundled",), ("drop-in", "bundled")])
def test_progress_adds_up(pico_llama: Path, tmp_path: Path, formats: tuple[str, ...]) -> None:
    """A progress bar starts with the right total and ends full."""
    done: list[int] = []
    plan = plan_rewrite(
        describe(pico_llama), random_placement(describe(pico_llama)), tmp_path / "out", formats=formats, stride="page"
    )
    assert execute(plan, progress=done.append) is not None
    assert sum(done) == plan.total_bytes


def test_planning_writes_nothing(pico_opt: Path, tmp_path: Path) -> None:
    """A plan is what --dry-run prints."""
    model = describe(pico_opt)
    plan = plan_rewrite(model, random_placement(model), tmp_path / "deep" / "out")
    assert plan.written_bytes > (pico_opt / "model.safetensors").stat().st_size
    assert plan.peak_ram_bytes > 0
    assert not (tmp_path / "deep").exists()


def test_a_placement_of_another_model(pico_opt: Path, tmp_path: Path) -> None:
    """A block too many, or of another width, is refused while planning."""
    model = describe(pico_opt)
    for name, n_neurons, message in (("layers.7", 24, "a block that the model has"), ("layers.1", 23, "24, as")):
        placement = ModelPlacement({name: NeuronPlacement.original(n_neurons)})
        with pytest.raises(PlacementError, match=rf"{name}: found {n_neurons} neurons.*{message}"):
            plan_rewrite(model, placement, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": {"gguf"}}, "formats: found.*gguf"),
        ({"formats": ()}, "formats: found"),
        ({"stride": "odd"}, "packed or page"),
    ],
)
def test_unknown_options(pico_opt: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    """Options are checked before anything is read or written."""
    model = describe(pico_opt)
    with pytest.raises(UsageError, match=message):
        plan_rewrite(model, random_placement(model), tmp_path / "out", **options)


def test_an_output_is_no_source(pico_opt: Path, tmp_path: Path) -> None:
    """Orders would compose, and the placement file no longer refer to the original."""
    rewrite(pico_opt, tmp_path / "out")
    with pytest.raises(UsageError, match="reordered before"):
        rewrite(tmp_path / "out", tmp_path / "again")


def test_no_space(pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen before the first byte is written."""
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"needs .* are free there, .* too few: make room") as caught:
        rewrite(pico_opt, tmp_path / "out")
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.glob("out*"))


def test_a_broken_link_in_the_source(pico_opt: Path, tmp_path: Path) -> None:
    """Half a download is not half copied."""
    (pico_opt / "vocab.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Exception, match=r"a link to .*, which is not there"):
        rewrite(pico_opt, tmp_path / "out")


def test_manifest_speaks_of_no_absolute_path(pico_opt: Path, tmp_path: Path) -> None:
    """OUT may be moved, and published."""
    rewrite(pico_opt, tmp_path / "out")
    text = (tmp_path / "out" / "ripple_place" / "manifest.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["checks"][0]["result"] == "passed"
