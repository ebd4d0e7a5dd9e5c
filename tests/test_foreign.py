"""Files that are something else than their names say: each reader recognises them, and says what helps."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save

from ripple_place.checkpoint.carriers.adapter_config import check_adapter_config
from ripple_place.checkpoint.carriers.imatrix import describe_imatrix
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.convert import convert
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.errors import RipplePlaceError, TensorFileError
from ripple_place.flash.device.files import read_device
from ripple_place.foreign import recognised_error
from ripple_place.placement import read_placement
from ripple_place.tensorfile import TensorFile
from ripple_place.torchfile import read_torch_file
from ripple_place.trace.sources import read_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a2146" * 8 + b"\nsize 981234567\n"
HTML = b"<!DOCTYPE html>\n<html><head><title>\n 404 - Not Found</title></head><body>no</body></html>\n"


def zipped(name: str, data: bytes) -> bytes:
    """Return a zip archive of one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def tarred(name: str, data: bytes) -> bytes:
    """Return a tar archive of one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


WHOLE = save({"w": np.ones((4, 4), np.float32)})
CONTENTS = [
    (LFS, r"a Git LFS pointer of 134 bytes to a file of 981,234,567 bytes.*git lfs pull"),
    (LFS.replace(b"git-lfs.github", b"hawser.github"), "Git LFS pointer"),
    (b"/annex/objects/SHA256E-s42--9f.safetensors\n", "git-annex pointer.*git annex get"),
    (b"", "an empty file.*download it again: hf download"),
    (HTML, r"a server \(404 - Not Found\).*hf auth login"),
    (b"\n <html><body>Sign in</body></html>", "error page or message of a server.*download it again"),
    (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>',
     r"a server \(Access Denied\)"),
    (b'{"error":"Repository not found"}', r'a server \(\{"error":"Repository not found"\}\)'),
    (b"Entry not found", r"a server \(Entry not found\)"),
    (b"Access to model meta-llama/Llama-3 is restricted.", "is restricted.*hf auth login"),
    (gzip.compress(WHOLE, mtime=0), "a gzip archive.*gzip -dc"),
    (lzma.compress(WHOLE), "a xz archive.*xz -dc"),
    (bz2.compress(WHOLE), "a bzip2 archive.*bzip2 -dc"),
    (b"\x28\xb5\x2f\xfd" + WHOLE, "a zstd archive"),
    (zipped("model.safetensors", WHOLE), "a zip archive.*unzip"),
    (tarred("model.safetensors", WHOLE), "a tar archive.*tar xf"),
    (zipped("archive/data.pkl", b"\x80\x02."), "in the format torch, under another"),
    (b"GGUF\x03\0\0\0" + bytes(64), "in the format GGUF, under another"),
    (b"\x93NUMPY" + bytes(64), "in the format numpy, under another"),
    (bytes(4096), "zeros in its first 1024 bytes.*[Ww]ait until the download has ended"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), CONTENTS)
def test_what_a_shard_may_be_instead(pico_opt: Path, content: bytes, message: str) -> None:
    """Whatever stands in a shard's place is named."""
    (pico_opt / "model.safetensors").write_bytes(content)
    with pytest.raises(RipplePlaceError, match=rf"(?i)model\.safetensors: found .*{message}"):
        Checkpoint.open(pico_opt)


def test_unpacking_helps(pico_opt: Path) -> None:
    """What was in the archive, put in its place, opens."""
    file = pico_opt / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(gzip.compress(whole, mtime=0))
    with pytest.raises(RipplePlaceError, match="put what was in it in its place"):
        Checkpoint.open(pico_opt)
    file.write_bytes(gzip.decompress(file.read_bytes()))
    assert describe_ffn(Checkpoint.open(pico_opt)).blocks


def open_shards(path: Path) -> object:
    """Open the checkpoint around a file."""
    return describe_ffn(Checkpoint.open(path.parent))


READERS: list[tuple[str, Callable[[Path], object]]] = [
    ("config.json", open_shards),
    ("model.safetensors.index.json", open_shards),
    ("quantize_config.json", open_shards),
    ("model-00002-of-00003.safetensors", open_shards),
    ("x.trace.safetensors", read_source),
    ("x.profile", TensorFile.open),
    ("placement.safetensors", read_placement),
    ("adapter_config.json", lambda path: check_adapter_config(path.parent)),
    ("model_0.pt", read_torch_file),
    ("pytorch_model.bin", lambda path: convert(path.parent, path.parent.parent / "converted")),
    ("imatrix.dat", lambda path: describe_imatrix(describe_ffn(Checkpoint.open(path.parent)), path, "imatrix.dat")),
    ("layers.0.npy", read_source),
    ("layers.0.npz", read_source),
    ("device.toml", read_device),
]


@pytest.mark.parametrize(
    "content", [LFS, HTML, bytes(64), gzip.compress(b"x", mtime=0)], ids=["lfs", "html", "zeros", "gzip"]
)
@pytest.mark.parametrize(("name", "read"), READERS, ids=[name for name, _ in READERS])
def test_every_reader_recognises_them(
    pico_llama: Path, name: str, read: Callable[[Path], object], content: bytes
) -> None:
    """One function tells for all files that are read."""
    (pico_llama / name).write_bytes(content)
    expected = recognised_error(RipplePlaceError, pico_llama / name, expected="")
    assert expected is not None
    with pytest.raises(RipplePlaceError) as caught:
        read(pico_llama / name)
    assert caught.value.found == expected.found
    assert caught.value.remedy == expected.remedy
    assert str(pico_llama / name) in caught.value.where


def test_a_manifest_that_is_a_pointer(tmp_path: Path) -> None:
    """An output may be kept in git."""
    (tmp_path / "ripple_place").mkdir()
    (tmp_path / "ripple_place" / "manifest.json").write_bytes(LFS)
    with pytest.raises(TensorFileError, match="git lfs pull"):
        read_manifest(tmp_path)


def test_what_a_reader_reads_is_nothing_foreign(tmp_path: Path) -> None:
    """A damaged numpy file is a damaged numpy file."""
    (tmp_path / "layers.0.npy").write_bytes(b"\x93NUMPY" + bytes(64))
    with pytest.raises(RipplePlaceError) as caught:
        read_source(tmp_path / "layers.0.npy")
    assert "under another" not in caught.value.found


@pytest.mark.parametrize("beside", ["{}.part", "{}.crdownload", "{}.aria2", "{}.incomplete"])
def test_a_file_that_is_still_being_downloaded(pico_opt: Path, beside: str) -> None:
    """Download managers give a file its whole length at once, and keep their notes beside it."""
    file = pico_opt / "model.safetensors"
    file.write_bytes(bytes(file.stat().st_size))
    (pico_opt / beside.format(file.name)).write_bytes(b"state")
    with pytest.raises(
        TensorFileError, match=r"still being downloaded: model.safetensors\.\w+ lies beside it.*[Ww]ait"
    ):
        Checkpoint.open(pico_opt)


def test_a_whole_file_beside_a_remnant(pico_opt: Path) -> None:
    """Nothing is asked of a file that can be read."""
    (pico_opt / "model.safetensors.part").write_bytes(b"state")
    assert Checkpoint.open(pico_opt).shards


def test_a_download_that_left_only_a_part(pico_llama: Path) -> None:
    """The shard's name has an ending while it is written."""
    file = pico_llama / "model-00002-of-00003.safetensors"
    file.rename(file.with_name(file.name + ".incomplete"))
    with pytest.raises(TensorFileError, match=r"no such file; .*\.incomplete holds a download that has not ended"):
        Checkpoint.open(pico_llama)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("has_part", [True, False])
def test_links_to_blobs_that_are_gone(pico_opt: Path, tmp_path: Path, name: str, has_part: bool) -> None:
    """The hub's cache keeps files as blobs: the link, what it points to, and the command with the model's name."""
    snapshot = tmp_path / "hub" / "models--facebook--opt-125m" / "snapshots" / "27dcfa"
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in pico_opt.iterdir():
        if file.is_file():
            (blobs / f"sha-{file.name}").write_bytes(file.read_bytes())
            (snapshot / file.name).symlink_to(f"../../blobs/sha-{file.name}")
    blob = blobs / f"sha-{name}"
    if has_part:
        blob.rename(f"{blob}.1f3a.incomplete")
    else:
        blob.unlink()
    part = rf"; sha-{name}\.1f3a\.incomplete holds a download" if has_part else ""
    message = rf"found a link to \.\./\.\./blobs/sha-{name}, which is not there{part}.*hf download facebook/opt-125m"
    with pytest.raises(TensorFileError, match=message):
        Checkpoint.open(snapshot)


def test_an_annexed_file(pico_opt: Path) -> None:
    """git-annex links into its own store."""
    (pico_opt / "model.safetensors").unlink()
    (pico_opt / "model.safetensors").symlink_to(".git/annex/objects/aa/SHA256E-s42--9f/SHA256E-s42--9f")
    with pytest.raises(TensorFileError, match=r"git annex get model\.safetensors"):
        Checkpoint.open(pico_opt)


def test_special_files_are_not_opened(tmp_path: Path) -> None:
    """A FIFO would be waited for."""
    os.mkfifo(tmp_path / "fifo")
    assert recognised_error(RipplePlaceError, tmp_path / "fifo", expected="") is None
    assert recognised_error(RipplePlaceError, tmp_path / "nothing", expected="") is None
