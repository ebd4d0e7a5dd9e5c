"""Checkpoint directories: what opens, and every way in which one can be wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.errors import CheckpointError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INDEX = "model.safetensors.index.json"


def edit_index(path: Path, change: Callable[[dict[str, str]], Any]) -> None:
    """Change the weight map of a checkpoint in place."""
    index = json.loads((path / INDEX).read_text())
    change(index["weight_map"])
    (path / INDEX).write_text(json.dumps(index))


def test_sharded(pico_llama: Path) -> None:
    """Each tensor is found in the shard in which it lies."""
    checkpoint = Checkpoint.open(pico_llama)
    assert list(checkpoint.shards) == [f"model-0000{part}-of-00003.safetensors" for part in (1, 2, 3)]
    down = "model.layers.1.mlp.down_proj.weight"
    assert checkpoint.shard_of[down] == "model-00003-of-00003.safetensors"
    assert checkpoint.extent(down).shape == (8, 24)
    assert checkpoint.file_of(down).is_file()


def test_links_to_files_are_followed(pico_opt: Path, tmp_path: Path) -> None:
    """A snapshot in the hub's cache is a directory of links."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for file in pico_opt.iterdir():
        if file.is_file():
            (snapshot / file.name).symlink_to(file)
    assert Checkpoint.open(snapshot).shard_of == Checkpoint.open(pico_opt).shard_of


def test_a_hub_name_instead_of_a_path() -> None:
    """Nothing is downloaded; the message says how to."""
    with pytest.raises(UsageError, match=r"hf download facebook/opt-125m --local-dir opt-125m"):
        Checkpoint.open("facebook/opt-125m")
    with pytest.raises(UsageError, match=r"Correct the path, or give the directory that holds config.json"):
        Checkpoint.open("/facebook/opt-125m")


def test_an_index_of_the_single_file(pico_opt: Path) -> None:
    """Some exporters write an index even for one file; both say the same."""
    names = list(Checkpoint.open(pico_opt).shard_of)
    (pico_opt / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))
    assert Checkpoint.open(pico_opt).index_name == INDEX


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing", UsageError, "nothing there.*Correct the path"),
        ("file", UsageError, "a file; expected a checkpoint directory.*Give the directory that holds config.json"),
        ("empty", CheckpointError, r"config.json: found no such file"),
        ("bad config", CheckpointError, "config.json: found Expecting property name"),
        ("list config", CheckpointError, "a JSON list"),
        ("config only", CheckpointError, "no weights"),
        ("bin", UnsupportedError, "weights in pytorch_model.bin only.*Convert.*import convert"),
        ("adapter", UnsupportedError, "adapter_config.json.*Move the adapter elsewhere"),
        ("adapter only", UnsupportedError, "an adapter, and no model.*Give the model that it adapts"),
    ],
)
def test_directories_that_are_no_checkpoint(tmp_path: Path, name: str, error: type[Exception], message: str) -> None:
    """What a user may point at by mistake is named, with what to do about it."""
    path = tmp_path / "given"
    if name == "file":
        path.write_text("")
    elif name != "missing":
        path.mkdir()
        config = {"bad config": "{,", "list config": "[]"}.get(name, "{}")
        if name not in ("empty", "adapter only"):
            (path / "config.json").write_text(config)
        if name == "bin":
            (path / "pytorch_model.bin").write_bytes(b"")
        if name.startswith("adapter"):
            (path / "adapter_config.json").write_text("{}")
    with pytest.raises(error, match=message):
        Checkpoint.open(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: names.update({"model.norm.weight": "other.safetensors"}), "no such file.*the shard"),
        (lambda names: names.update({"model.norm.weight": "/etc/passwd"}), "'/etc/passwd'.*plain file name"),
        (lambda names: names.update({"model.norm.weight": "../x.safetensors"}), "'../x.safetensors'"),
        (lambda names: names.update({"model.norm.weight": "a/../x.safetensors"}), "plain file name"),
        (lambda names: names.update({"model.norm.weight": ""}), "plain file name"),
        (lambda names: names.update({"model.norm.weight": 3}), "weight_map dict"),
        (lambda names: names.clear(), "weight_map dict"),
    ],
)
def test_an_index_that_is_wrong(pico_llama: Path, change: Callable[[dict[str, str]], Any], message: str) -> None:
    """An index that contradicts the shards, or points outside, is refused before any data is read."""
    edit_index(pico_llama, change)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(pico_llama)


def test_a_tensor_in_two_shards(pico_llama: Path) -> None:
    """Which of the two a loader would take is undefined."""
    extra = {"model.norm.weight": np.zeros(8, np.float16)}
    save_file(extra, pico_llama / "model-00004.safetensors")
    edit_index(pico_llama, lambda names: names.update({"zeros": "model-00004.safetensors"}))
    with pytest.raises(CheckpointError, match=r"norm.weight: found it in model-00001.* and in model-00004"):
        Checkpoint.open(pico_llama)


def test_a_single_file_beside_other_shards(pico_llama: Path) -> None:
    """One of them is stale, and loaders disagree on which they take."""
    save_file({"x": np.zeros(1, np.float16)}, pico_llama / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"both model.safetensors and an index"):
        Checkpoint.open(pico_llama)


def test_a_truncated_shard(pico_opt: Path) -> None:
    """A broken download is seen in the header, without reading the weights."""
    file = pico_opt / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="truncated"):
        Checkpoint.open(pico_opt)
