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


@pytest.mark.parametrize("content", [b"no", b"no zip at all"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    """The message says what was expected."""
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"found no whole zip archive; expected a file that torch 1.6 or later"):
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


def test_a_pickle_that_remembers_at_a_high_number(tmp_path: Path) -> None:
    """The table of what it remembers is no longer for that; Python's own would take a gigabyte here."""
    write_pickle(tmp_path / "x.pt", b"}r\xff\xff\xff\x07.")
    tracemalloc.start()
    try:
        assert read_torch_file(tmp_path / "x.pt") == {}
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def write_pickle(path: Path, program: bytes) -> None:
    """Write a torch file with a pickle of that program."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + program)
        archive.writestr("x/data/0", bytes(16))


STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\0K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"


def doubled(empty: bytes, double: bytes) -> bytes:
    """Return the program of a value that holds another one twice, which holds another one twice, 200 times over."""
    return empty + b"q\0" + b"".join(double % (n, n) + b"q" + bytes([n + 1]) for n in range(200))


BOMBS = {"lists": doubled(b"]", b"](h%ch%ce"), "tuples": doubled(b")", b"h%ch%c\x86"),
         "dicts": doubled(b"}", b"}(Nh%c\x89h%cu")}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"."), (b"}", b"Ns."), (b"}N", b"s."), (b"", b"Q."), (b"", b")R."),
        (b"ccollections\nOrderedDict\n", b"\x85R."),
        (TENSOR, b"b."), (b"(X\x07\0\0\0storage", b"X\x01\0\0\x000tQ."),
        (b"(X\x07\0\0\0storagectorch\nFloatStorage\n", b"tQ."),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\0", b"K\x01\x85tR."),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\0K\x01\x85", b"tR."),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(", b"K\0K\x01\x85K\x01\x85tR."),
        (b"ctorch._utils\n_rebuild_parameter\n(", b"\x88NtR."),
    ],
)  # fmt: skip
def test_pickles_that_nest_the_same_again_and_again(tmp_path: Path, bomb: str, before: bytes, after: bytes) -> None:
    """Wherever 2**200 values in 2 kB are put, nothing walks through them."""
    write_pickle(tmp_path / "x.pt", before + BOMBS[bomb] + after)
    with pytest.raises(TensorFileError, match=r"x.pt.*: found .*; expected "):
        read_torch_file(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("program", "found"),
    [
        (TENSOR + b"}X\x05\0\0\0shapeK\x09\x85sb.", "attributes of something that is no dict"),
        (TENSOR + b"N}X\x05\0\0\0shapeK\x09\x85s\x86b.", "attributes of something that is no dict"),
        (STORAGE + b"}X\x03\0\0\0keyK\x09sb.", "attributes of something that is no dict"),
        (b"(cos\nsystem\n", "os.system in the pickle"),
        (b"(iposix\nsystem\n.", "INST in the pickle"),
        (b"(ccollections\nOrderedDict\no.", "OBJ in the pickle"),
        (b"ccollections\nOrderedDict\n)\x81.", "NEWOBJ in the pickle"),
        (b"ccollections\nOrderedDict\n)}\x92.", "NEWOBJ_EX in the pickle"),
        (b"\x82\x01.", "EXT1 in the pickle"),
        (b"P0\n.", "PERSID in the pickle"),
        (b"\x8b\x04\0\0\0\0\0\0\1.", "LONG4 in the pickle"),
        (b"\x8a\x09\0\0\0\0\0\0\0\0\1.", "a number of 65 bits"),
        (b"\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.", "something that is no contiguous tensor"),
        (b"}02.", "POP in the pickle"),
        (b"(t.", "something that is no contiguous tensor"),
        (b"t.", "a pickle that uses what it has not made"),
        (b"h\0.", "a pickle that uses what it has not made"),
        (b"K\0(\x85.", "a pickle that uses what it has not made"),
        (b"}K\0\x85K\0s.", "a key that is no name"),
        (b"}X\x03\0\0\0\xed\xa0\x80Ns.", "lone surrogate"),
        (b")" + b"\x85" * 300_000 + b".", "something that is no contiguous tensor"),
    ],
)  # fmt: skip
def test_wild_pickles(tmp_path: Path, program: bytes, found: str) -> None:
    """What tensors do not need is refused by its name, and nothing changes a tensor once it was checked."""
    write_pickle(tmp_path / "x.pt", program)
    with pytest.raises(TensorFileError, match=f"x.pt.*: found .*{found}.*; expected "):
        read_torch_file(tmp_path / "x.pt")


def test_the_attributes_of_a_state(tmp_path: Path) -> None:
    """A model's state carries the versions of its modules, which are nobody's tensors."""
    write_pickle(
        tmp_path / "x.pt", b"ccollections\nOrderedDict\n)R(X\x01\0\0\0a" + TENSOR + b"u}X\x09\0\0\0_metadata}sb."
    )
    assert {name: tensor.shape for name, tensor in read_torch_file(tmp_path / "x.pt").items()} == {"a": (2,)}


def test_one_memory_for_a_thousand_tensors(tmp_path: Path) -> None:
    """Tied weights are shared by a few; written apart, a thousand would fill a disk."""
    arrays = {f"w{n}": np.zeros(100_000, "f4") for n in range(100)}
    write_torch_file(tmp_path / "x.pt", arrays, key=0)
    with pytest.raises(TensorFileError, match=r"tensors of 40000000 bytes in a file of \d+, whose memory they share"):
        read_torch_file(tmp_path / "x.pt")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path: Path) -> None:
    """Readers disagree on which of them counts."""
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + TENSOR + b".")
        archive.writestr("x/data/0", bytes(16))
        archive.writestr("x/data/0", bytes(range(16)))
    with pytest.raises(TensorFileError, match="two members of one name"):
        read_torch_file(tmp_path / "x.pt")
