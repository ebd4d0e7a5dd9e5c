"""Torch files as safetensors files, byte for byte."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.convert import convert
from ripple_place.errors import CheckpointError, UnsupportedError, UsageError
from tests.builders import opt_config, opt_tensors
from tests.failing_call import FailingCall
from tests.torch_files import write_torch_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return an OPT checkpoint in one torch file, as many still are."""
    path = tmp_path / "opt"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(opt_config()))
    (path / "vocab.json").write_text("{}")
    write_torch_file(path / "pytorch_model.bin", opt_tensors())
    return path


def test_one_file(source: Path, tmp_path: Path) -> None:
    """The message of `reorder` names the conversion, and what it writes is a checkpoint."""
    with pytest.raises(UnsupportedError, match=r"pytorch_model.bin only.*checkpoint.output.convert import convert"):
        Checkpoint.open(source)
    convert(source, tmp_path / "out")
    after = load_file(tmp_path / "out" / "model.safetensors")
    for name, tensor in opt_tensors().items():
        np.testing.assert_array_equal(after[name], tensor)
    assert (tmp_path / "out" / "vocab.json").exists()
    assert len(describe_ffn(Checkpoint.open(tmp_path / "out")).blocks) == 2


def test_shards(source: Path, tmp_path: Path) -> None:
    """Shards stay shards, under the names that safetensors files have."""
    (source / "pytorch_model.bin").unlink()
    tensors = opt_tensors()
    names = list(tensors)
    halves = {f"pytorch_model-0000{i + 1}-of-00002.bin": names[i::2] for i in range(2)}
    for file, part in halves.items():
        write_torch_file(source / file, {name: tensors[name] for name in part})
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    (source / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    convert(source, tmp_path / "out")
    checkpoint = Checkpoint.open(tmp_path / "out")
    assert list(checkpoint.shards) == [f"model-0000{i + 1}-of-00002.safetensors" for i in range(2)]
    assert set(checkpoint.shard_of) == set(names)
    index["weight_map"][names[0]] = "../elsewhere.bin"
    (source / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"'../elsewhere.bin'; expected a file beside"):
        convert(source, tmp_path / "again")
    (source / "pytorch_model.bin.index.json").write_text("[]")
    with pytest.raises(CheckpointError, match="found a JSON list"):
        convert(source, tmp_path / "again")


def test_what_cannot_be_converted(source: Path, tmp_path: Path) -> None:
    """Nothing is overwritten, and what is no torch file is said to be none."""
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="it there already"):
        convert(source, tmp_path / "there")
    with pytest.raises(UsageError, match=r"in the same place, inside it"):
        convert(source, source / "out")
    with pytest.raises(UsageError, match=r"neither pytorch_model.bin nor"):
        convert(tmp_path / "there", tmp_path / "out")
    (source / "pytorch_model.bin").write_bytes(b"legacy")
    with pytest.raises(CheckpointError, match=r"torch 1.6"):
        convert(source, tmp_path / "out")
    write_torch_file(source / "pytorch_model.bin", {"half\ud800": np.ones(3, "f4")})
    with pytest.raises(CheckpointError, match=r"found the name 'half\\ud800' with half a character"):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_conversion_that_fails_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half a checkpoint nor its beginnings, at whichever call storage fails."""
    n = n_failed = 0
    while not (tmp_path / "out").exists():
        n += 1
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", FailingCall(os.fsync, n, OSError(errno.EIO, os.strerror(errno.EIO))))
            with suppress(OSError):
                convert(source, tmp_path / "out")
                continue
        n_failed += 1
        assert {path.name for path in tmp_path.iterdir()} == {"opt"}
    assert n_failed > 2
    assert not (tmp_path / "out" / "ripple_place").exists()
