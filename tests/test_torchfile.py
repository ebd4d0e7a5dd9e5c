"""Torch files: read without torch, and without doing what a wild pickle asks for."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ripple_place.errors import CheckpointError, TensorFileError, TraceFormatError, UnsupportedError
from ripple_place.torchfile import read_torch_file
from tests.torch_files import write_torch_file


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4"])
def test_tensors(tmp_path: Path, dtype: str) -> None:
    """The bytes lie where the description says."""
    values = {"a": np.arange(6).reshape(2, 3).astype(dtype), "b": np.arange(4).astype(dtype)}
    write_torch_file(tmp_path / "x.pt", values)
    data = (tmp_path / "x.pt").read_bytes()
    for name, tensor in read_torch_file(tmp_path / "x.pt").items():
        assert tensor.shape == values[name].shape
        stored = data[tensor.offset_bytes : tensor.offset_bytes + values[name].nbytes]
        assert stored == values[name].tobytes()


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((1, 4), (1, 1)), ((1, 4), (4, 1)), ((4, 1), (1, 7)), ((0, 3), (3, 1)), ((0,), (0,)), ((), ())],
)
def test_strides_that_say_nothing(tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """A column turned into a row is contiguous, as torch has it."""
    write_torch_file(tmp_path / "x.pt", np.arange(4, dtype="f4"), shape=shape, strides=strides)
    assert read_torch_file(tmp_path / "x.pt")[""].shape == shape


@pytest.mark.parametrize(
    ("claims", "match"),
    [
        ({"rebuild": "_rebuild_sparse_tensor"}, "torch._utils._rebuild_sparse_tensor in the pickle"),
        ({"storage": "QInt8Storage"}, "torch.QInt8Storage in the pickle"),
        ({"strides": (0,)}, "no contiguous tensor"),
        ({"strides": (2,)}, "no contiguous tensor"),
        ({"strides": (1, 1)}, "no contiguous tensor"),
        ({"offset": 2}, "behind its storage's end"),
        ({"offset": -1}, "a tensor of shape .* from item -1 on"),
        ({"shape": (5,)}, r"F32 \[5\] behind its storage's end"),
        ({"shape": (2**60,)}, "a tensor of shape"),
        ({"shape": (1,) * 40}, "a tensor of shape"),
    ],
)
def test_wild_tensors(tmp_path: Path, claims: dict[str, Any], match: str) -> None:
    """Whatever is no plain tensor is refused by what it asks for."""
    write_torch_file(tmp_path / "x.pt", np.arange(4, dtype="f4"), **claims)
    with pytest.raises(TensorFileError, match=f"x.pt.*: found .*{match}.*; expected "):
        read_torch_file(tmp_path / "x.pt")


def test_a_pickle_that_runs_code(tmp_path: Path) -> None:
    """It does not: its names are not looked up."""

    class Attack:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "touched",))

    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(Attack()))
    with pytest.raises(TraceFormatError, match="expected tensors and nothing else"):
        read_torch_file(tmp_path / "x.pt", TraceFormatError)
    assert not (tmp_path / "touched").exists()


def test_the_old_format(tmp_path: Path) -> None:
    """Torch before 1.6 began its files with a number of its own; such files are sound, and not read."""
    (tmp_path / "x.pt").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"more")
    with pytest.raises(UnsupportedError, match=r"the format of torch before 1.6"):
        read_torch_file(tmp_path / "x.pt", CheckpointError)


@pytest.mark.parametrize("content", [b"", b"no zip at all"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    """The message says what was expected."""
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"found no zip archive; expected a file that torch 1.6 or later saved"):
        read_torch_file(tmp_path / "x.pt", CheckpointError)


def test_a_directory_that_promises_a_pickle_of_a_gigabyte(tmp_path: Path) -> None:
    """Python's zipfile would allocate it before it found that the file ends."""
    write_torch_file(tmp_path / "x.pt", np.arange(4, dtype="f4"))
    data = bytearray((tmp_path / "x.pt").read_bytes())
    entry = data.index(b"PK\x01\x02")
    struct.pack_into("<II", data, entry + 20, 2**30, 2**30)
    (tmp_path / "x.pt").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(TensorFileError, match=rf"a pickle longer than the file's {len(data)} bytes"):
            read_torch_file(tmp_path / "x.pt")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("opcode", [b"r\xff\xff\xff\x07", b"p134217727\n"])
def test_a_pickle_that_remembers_at_a_high_number(tmp_path: Path, opcode: bytes) -> None:
    """The table of what it remembers is as long as its highest number says: a gigabyte here."""
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}" + opcode + b".")
    tracemalloc.start()
    try:
        with pytest.raises(TensorFileError, match="entry 134217727 of a pickle"):
            read_torch_file(tmp_path / "x.pt")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
