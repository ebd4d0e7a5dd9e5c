"""Restoring: the original's files come back byte for byte, or nothing does."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from ripple_place.checkpoint import restore as restore_module
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.restore import restore, restore_bytes
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import UnsupportedError, UsageError, VerificationError
from tests.builders import contents, random_placement

if TYPE_CHECKING:
    from pathlib import Path


def rewrite(source: Path, out: Path, **options: Any) -> None:
    """Rewrite a checkpoint at random."""
    model = describe_ffn(Checkpoint.open(source))
    execute(plan_rewrite(model, random_placement(model), out, **options))


@pytest.mark.parametrize("formats", [("drop-in",), ("drop-in", "bundled")])
@pytest.mark.parametrize("kind", ["opt", "llama"])
def test_the_original_comes_back(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, formats: tuple[str, ...]
) -> None:
    """From the output alone, which may lie elsewhere; what was stale is named, since it was not kept."""
    source = request.getfixturevalue(f"pico_{kind}")
    (source / "pytorch_model.bin").write_bytes(b"stale")
    rewrite(source, tmp_path / "out", formats=formats)
    before = contents(source)
    del before["pytorch_model.bin"]
    shutil.rmtree(source)
    (tmp_path / "out").rename(tmp_path / "moved")
    done: list[int] = []
    report = restore(tmp_path / "moved", tmp_path / "again", done.append)
    assert contents(tmp_path / "again") == before
    assert not (tmp_path / "again" / "ripple_place").exists()
    assert (report.n_files, report.left_out) == (len(before), ("pytorch_model.bin",))
    assert report.n_bytes == sum(map(len, before.values()))
    assert sum(done) == restore_bytes(read_manifest(tmp_path / "moved").document)
    assert {path.name for path in tmp_path.iterdir()} == {"moved", "again"}


def test_without_drop_in_shards(pico_opt: Path, tmp_path: Path) -> None:
    """The bundled file lacks the original's headers, and it is said what to do."""
    rewrite(pico_opt, tmp_path / "out", formats=("bundled",))
    with pytest.raises(UnsupportedError, match=r"the bundled format alone.*--format drop-in or both"):
        restore(tmp_path / "out", tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "ripple_place/placement.safetensors"])
def test_a_damaged_output(pico_opt: Path, tmp_path: Path, name: str) -> None:
    """Weights that are not the original's are not given out as such."""
    rewrite(pico_opt, tmp_path / "out")
    data = (tmp_path / "out" / name).read_bytes()
    (tmp_path / "out" / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(VerificationError, match=r"as recorded\. This output is damaged"):
        restore(tmp_path / "out", tmp_path / "again")
    (tmp_path / "out" / name).unlink()
    with pytest.raises(VerificationError, match="no such file"):
        restore(tmp_path / "out", tmp_path / "again")
    assert not list(tmp_path.glob("again*"))


def test_what_does_not_hash_does_not_appear(pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inverse that is none is found out."""
    rewrite(pico_opt, tmp_path / "out")
    monkeypatch.setattr(restore_module, "resolve_orders", lambda model, placement: {
        name: block.order[::-1] for name, block in placement.blocks.items()
    })  # fmt: skip
    with pytest.raises(VerificationError, match="gives another model"):
        restore(tmp_path / "out", tmp_path / "again")
    assert not list(tmp_path.glob("*again*"))


@pytest.mark.parametrize("where", ["out", "out/inside", "there", "."])
def test_where_it_may_not_go(pico_opt: Path, tmp_path: Path, where: str) -> None:
    """Neither into the output nor over anything."""
    rewrite(pico_opt, tmp_path / "out")
    (tmp_path / "there").mkdir()
    before = contents(tmp_path)
    with pytest.raises(UsageError):
        restore(tmp_path / "out", tmp_path / where)
    assert contents(tmp_path) == before


def test_storage_fails(pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a checkpoint is none."""
    rewrite(pico_opt, tmp_path / "out")

    def fails(descriptor: int) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="Input/output error"):
        restore(tmp_path / "out", tmp_path / "again")
    assert not list(tmp_path.glob("*again*"))
