"""What stands in place of a checkpoint directory: the message names the right one, or how to get it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.errors import UsageError
from ripple_place.hub import checkpoints_below, unfinished_downloads
from ripple_place.workflows.profile import profile


def refused(path: Path | str) -> UsageError:
    """Return the error for a path that is no checkpoint directory; opening and profiling say what helps alike."""
    with pytest.raises(UsageError) as opened:
        Checkpoint.open(path)
    with pytest.raises(UsageError) as profiled:
        profile(path, Path("profile"))
    assert profiled.value.remedy == opened.value.remedy
    return opened.value


def cached(hub: Path, checkpoint: Path, name: str = "models--facebook--opt-125m", *hashes: str) -> Path:
    """Put a checkpoint into a cache like the hub's; return the model's directory in it."""
    for digest in hashes or ("27dcfa",):
        shutil.copytree(checkpoint, hub / name / "snapshots" / digest)
    (hub / name / "blobs").mkdir()
    (hub / name / "refs").mkdir()
    return hub / name


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("facebook/opt-125m", "hf download facebook/opt-125m --local-dir opt-125m"),
        ("https://huggingface.co/facebook/opt-125m", "hf download facebook/opt-125m --local-dir opt-125m"),
        ("https://huggingface.co/facebook/opt-125m/tree/main", "hf download facebook/opt-125m --local-dir opt-125m"),
        ("hf://Qwen/Qwen2.5-0.5B", "hf download Qwen/Qwen2.5-0.5B --local-dir Qwen2.5-0.5B"),
    ],
)
def test_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str) -> None:
    """Only local directories are read; the command makes one, whose name is then given."""
    monkeypatch.chdir(tmp_path)
    remedy = refused(name).remedy
    assert "only local directories are read" in remedy
    assert command in remedy
    assert remedy.endswith(f"give the directory {command.rpartition(' ')[2]}")


def test_another_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path with more parts than a name on the hub has is a path."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"Correct the path, or give the directory that holds config.json"):
        Checkpoint.open("/facebook/opt-125m")


@pytest.mark.parametrize("main", ["27dcfa", "9f3a00", None, "no such snapshot", b"\xff"])
def test_the_cache_of_a_model(pico_opt: Path, tmp_path: Path, main: str | bytes | None) -> None:
    """One level too high: the snapshot that `main` is at is named, and opens."""
    model = cached(tmp_path / "hub", pico_opt, "models--facebook--opt-125m", "27dcfa", "9f3a00")
    if main is not None:
        (model / "refs" / "main").write_bytes(main if isinstance(main, bytes) else f"{main}\n".encode())
    error = refused(model)
    expected = model / "snapshots" / (main if main == "27dcfa" else "9f3a00")
    assert error.remedy == f"give {expected}"
    assert Checkpoint.open(error.remedy.removeprefix("give ")).shards


def test_a_cache_without_a_snapshot(tmp_path: Path) -> None:
    """An interrupted first download leaves blobs alone."""
    (tmp_path / "models--org--m" / "blobs").mkdir(parents=True)
    error = refused(tmp_path / "models--org--m")
    assert error.found == "a cache of the hub without a snapshot of the model"
    assert error.remedy == "download the model: hf download org/m"


def test_a_cache_of_a_model_without_an_owner(tmp_path: Path) -> None:
    """Names like gpt2 have no owner."""
    (tmp_path / "models--gpt2" / "snapshots").mkdir(parents=True)
    assert refused(tmp_path / "models--gpt2").remedy == "download the model: hf download gpt2"


def test_a_directory_above_one_checkpoint(pico_opt: Path, tmp_path: Path) -> None:
    """The one below is named, and opens."""
    error = refused(tmp_path)
    assert error.remedy == f"give {pico_opt}"


def test_a_directory_above_several(pico_opt: Path, tmp_path: Path) -> None:
    """The first few are named; the root of the hub's cache is such a directory."""
    hub = tmp_path / "hub"
    for name in ("a", "b", "c", "d"):
        cached(hub, pico_opt, f"models--org--{name}")
    first = hub / "models--org--a" / "snapshots" / "27dcfa"
    error = refused(hub)
    assert error.remedy.startswith(f"give one of {first}, ")
    assert error.remedy.endswith(" and 1 more")
    shutil.move(pico_opt, tmp_path / ".hidden")
    assert checkpoints_below(tmp_path)[0] == first


def test_a_file_of_a_checkpoint(pico_opt: Path) -> None:
    """Its directory is named."""
    with pytest.raises(UsageError, match=f"Give the directory {pico_opt}"):
        Checkpoint.open(pico_opt / "model.safetensors")


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    """Where it points to is said."""
    (tmp_path / "model").symlink_to("elsewhere")
    with pytest.raises(UsageError, match="model: found a link to elsewhere, which is not there"):
        Checkpoint.open(tmp_path / "model")


def test_downloads_into_a_local_directory(tmp_path: Path) -> None:
    """The hub's client keeps what it has so far in a directory of its own, others beside the file."""
    assert unfinished_downloads(tmp_path) == []
    parts = tmp_path / ".cache" / "huggingface" / "download"
    parts.mkdir(parents=True)
    (parts / "a1.9f.incomplete").write_bytes(b"")
    (parts / "config.json.metadata").write_bytes(b"")
    (tmp_path / "model.safetensors.crdownload").write_bytes(b"")
    assert [path.name for path in unfinished_downloads(tmp_path)] == [
        "a1.9f.incomplete",
        "model.safetensors.crdownload",
    ]
