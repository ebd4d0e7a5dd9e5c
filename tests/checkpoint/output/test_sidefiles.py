"""What lies beside the weights: copied, unless it holds weights, which would be in the old order."""

from __future__ import annotations

import io
import json
import shutil
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.convert import convert
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.output.sidefiles import list_side_files
from ripple_place.checkpoint.output.weight_files import stale_reason
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.restore import restore
from ripple_place.checkpoint.rewrite import execute
from ripple_place.cli.reorder_text import reorder_text
from ripple_place.errors import UsageError
from ripple_place.workflows.reorder import ReorderReport
from tests.builders import contents, random_placement
from tests.torch_files import write_torch_file

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = ("", "original", "checkpoint-500", "int4", ".ipynb_checkpoints", "a/b/c")
NAMES = (
    "copy.safetensors", "MODEL.SAFETENSORS", "x.safetensors.index.json", "x.safetensors.index.fp16.json",
    "pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model.bin.index.fp16.json", "consolidated.00.pth",
    "optimizer.pt", "last.ckpt", "model-q4_k_m.gguf", "ggml-model.ggml", "flax_model.msgpack", "tf_model.h5",
    "m.hdf5", "m.keras", "model.onnx", "model.onnx_data", "model.onnx.data", "rust_model.ot", "m.tflite", "m.litertlm",
    "saved_model.pb", "variables.data-00000-of-00001", "bert.ckpt-100.index", "bert.ckpt.meta", "m.pdparams",
    "m.mlmodel", "__0_0.distcp", "weights.npz", "m.engine", "m.pte", "m.nemo", "m.llamafile", "m.dduf",
)  # fmt: skip
"""A file of weights of each kind."""


def rewrite(source: Path, out: Path, **options: Any) -> None:
    """Rewrite a checkpoint at random."""
    model = describe_ffn(Checkpoint.open(source))
    execute(plan_rewrite(model, random_placement(model), out, **options))


@pytest.mark.parametrize("folder", FOLDERS)
def test_weights_in_any_folder_are_left_out(pico_opt: Path, tmp_path: Path, folder: str) -> None:
    """They would be in the old order; the manifest and the report name each, and the rest of the folder is copied."""
    (pico_opt / folder).mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (pico_opt / folder / name).write_bytes(b"stale")
    (pico_opt / folder / "trainer_state.json").write_text("{}")
    rewrite(pico_opt, tmp_path / "out")
    prefix = f"{folder}/" if folder else ""
    left_out = read_manifest(tmp_path / "out").document["source"]["left_out"]
    assert set(left_out) == {prefix + name for name in NAMES}
    assert all(reason.endswith("which would be stale") for reason in left_out.values())
    found = contents(tmp_path / "out")
    assert f"{prefix}trainer_state.json" in found
    assert b"stale" not in found.values()
    verify(pico_opt, tmp_path / "out")


def test_the_report_names_what_is_left_out(pico_opt: Path, tmp_path: Path) -> None:
    """By reason, and of many files the first."""
    (pico_opt / "original").mkdir()
    for number in range(7):
        (pico_opt / "original" / f"{number}.bin").write_bytes(b"")
    model = describe_ffn(Checkpoint.open(pico_opt))
    plan = plan_rewrite(model, random_placement(model), tmp_path / "out")
    report = ReorderReport(ordering="file", seconds=1.0, blocks={}, plan=plan)
    assert (
        "Left out of OUT: original/0.bin, original/1.bin, original/2.bin, original/3.bin, original/4.bin and 2 more "
        "(weights in another format, which would be stale)"
    ) in reorder_text(report, tmp_path / "out", dry_run=False, verbose=False)


def _torch_archive(path: Path) -> bytes:
    write_torch_file(path, {"weight": np.ones((4, 8), "f4")})
    return path.read_bytes()


def test_weights_by_another_name(tmp_path: Path) -> None:
    """They begin as weights do."""
    numpy_file = io.BytesIO()
    np.save(numpy_file, np.ones(4))
    for beginning in (
        save({"w": np.ones(4, "f4")}), b"GGUF" + bytes(20), b"\x89HDF\r\n\x1a\n", numpy_file.getvalue(),
        _torch_archive(tmp_path / "torch"),
    ):  # fmt: skip
        (tmp_path / "model.old").write_bytes(beginning)
        assert stale_reason(tmp_path / "model.old") is not None


@pytest.mark.parametrize(
    "data",
    [
        b"", b"GG", b"{}", b"12345678{}", struct.pack("<Q", 1) + b"{", struct.pack("<Q", 1 << 40) + b"{", b"\x93",
        b"PK\x03\x04 and no pickle", json.dumps({"safetensors": 1}).encode(), bytes(600),
    ],
)  # fmt: skip
def test_what_holds_no_weights(tmp_path: Path, data: bytes) -> None:
    """Text, archives and short files are copied, whatever is in them."""
    for name in ("tokenizer.model", "vocab.txt", "index.json", "safetensors", "my.index.json", "bin", "card.md"):
        (tmp_path / name).write_bytes(data)
        assert stale_reason(tmp_path / name) is None


def test_an_output_inside_an_output(pico_opt: Path, tmp_path: Path) -> None:
    """Refused before anything is written, by whatever makes directories; verification of the outer one would fail."""
    rewrite(pico_opt, tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "linked").symlink_to(tmp_path / "out")
    torch = tmp_path / "torch"
    torch.mkdir()
    write_torch_file(torch / "pytorch_model.bin", {"weight": np.ones((4, 8), "f4")})
    rewrite(pico_opt, tmp_path / "other")
    for inner in ("out/sub", "out/ripple_place/sub", "out/deep/er/sub", "linked/sub"):
        message = r"sub: found a path inside .*out, an output of an earlier run.*[Nn]ame a directory beside"
        with pytest.raises(UsageError, match=message):
            rewrite(pico_opt, tmp_path / inner)
        with pytest.raises(UsageError, match=message):
            convert(torch, tmp_path / inner)
        with pytest.raises(UsageError, match=message):
            restore(tmp_path / "other", tmp_path / inner)
    assert contents(tmp_path / "out") == before
    verify(pico_opt, tmp_path / "out")


def test_an_output_inside_the_source(pico_opt: Path, tmp_path: Path) -> None:
    """It is refused with the remedy, however deep it lies; a folder of our name alone is none."""
    rewrite(pico_opt, tmp_path / "out")
    (pico_opt / "docs" / "ripple_place").mkdir(parents=True)
    (pico_opt / "docs" / "ripple_place" / "notes.md").write_text("about it")
    assert "docs/ripple_place/notes.md" in list_side_files(Checkpoint.open(pico_opt)).copied
    shutil.move(tmp_path / "out", pico_opt / "docs" / "out")
    with pytest.raises(UsageError, match=r"docs/out: found an output of an earlier run inside .*[Mm]ove the output"):
        rewrite(pico_opt, tmp_path / "again")
    assert not (tmp_path / "again").exists()
