"""The safetensors container, against the stock library in both directions, and every way a file can be wrong."""

from __future__ import annotations

import errno
import json
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from ripple_place.errors import TensorFileError, TraceFormatError
from ripple_place.tensorfile import (
    DTYPE_BITS,
    TensorFile,
    TensorSource,
    as_bytes,
    build_header,
    replacing,
    tensor_bytes,
    write_tensor_file,
)
from tests.golden_files import check_golden

if TYPE_CHECKING:
    from pathlib import Path

NUMPY_DTYPES = ["?", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", "<c8"]


def write_raw(path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    """Write a file with any header, JSON or not, and any length field."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(start: int, end: int, dtype: Any = "U8", shape: Any = None) -> dict[str, Any]:
    """Return a header entry, of a vector of bytes if nothing else is said."""
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


def various_arrays() -> dict[str, np.ndarray]:
    """Return an array of every dtype that numpy has, of odd shapes, empty and 0-d-like ones included."""
    rng = np.random.default_rng(0)
    arrays = {f"of {code}": rng.integers(0, 2, (3, 5)).astype(code) for code in NUMPY_DTYPES}
    return arrays | {"empty": np.empty((0, 4), np.float32), "one": np.ones(1, np.int64), "ünïcode": np.arange(7.0)}


def test_stock_reader_reads_what_we_write(tmp_path: Path) -> None:
    """Values, shapes, dtypes and metadata come out of safetensors' own reader as they went in."""
    arrays = various_arrays()
    path = tmp_path / "ours.safetensors"
    write_tensor_file(path, [TensorSource.of_array(*item) for item in arrays.items()], {"format": "pt", "ключ": "ß"})
    loaded = load_file(path)
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {"format": "pt", "ключ": "ß"}


def test_we_read_what_the_stock_writer_writes(tmp_path: Path) -> None:
    """The same the other way round, as an array and as one that stays in the file."""
    arrays = various_arrays()
    path = tmp_path / "stock.safetensors"
    save_file(arrays, path, {"by": "stock"})
    file = TensorFile.open(path)
    assert (file.tensors.keys(), dict(file.metadata)) == (arrays.keys(), {"by": "stock"})
    for name, array in arrays.items():
        for read in (file.array(name), file.stored_array(name)):
            assert read.dtype == array.dtype
            np.testing.assert_array_equal(np.asarray(read), array)
    assert file.size_bytes == path.stat().st_size


def test_without_tensors(tmp_path: Path) -> None:
    """A file may hold metadata alone, or nothing, and the stock reader agrees."""
    for metadata in ({}, {"format": "pt"}):
        write_tensor_file(tmp_path / "empty.safetensors", [], metadata)
        assert TensorFile.open(tmp_path / "empty.safetensors").tensors == {}
        assert load_file(tmp_path / "empty.safetensors") == {}


def test_header_bytes() -> None:
    """The header is ours to the byte: order as given, no spaces within, unescaped UTF-8, spaces up to the alignment."""
    header = build_header(
        [("layers.0.bundles", "BF16", (3, 2, 5)), ("b", "U8", (0,)), ("ä", "F32", ())],
        {"format": "test/1", "quote": 'a "b"\n'},
        data_alignment_bytes=64,
    )
    assert len(header) % 64 == 0
    check_golden("header.safetensors", header)


def test_header_without_metadata() -> None:
    """No metadata, no entry for it."""
    assert build_header([("a", "U8", (4,))], {}) == (
        (56).to_bytes(8, "little") + b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}   '
    )


def test_metadata_that_is_no_text(tmp_path: Path) -> None:
    """A path with bytes that are not UTF-8 is recorded with those escaped; the stock reader takes it."""
    path = tmp_path / "named"
    write_tensor_file(path, [], {"model": os.fsdecode(b"caf\xc3\xa9\xff\n"), "config": "\ud800"})
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {"model": "caf\u00e9\\xff\n", "config": "\\ud800"}


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_data_starts_on_the_alignment(tmp_path: Path, alignment: int) -> None:
    """The bundled file depends on it: its blocks start on pages. Padded headers are valid to the stock reader."""
    path = tmp_path / "aligned.safetensors"
    write_tensor_file(path, [TensorSource.of_array("a", np.arange(3))], {}, data_alignment_bytes=alignment)
    file = TensorFile.open(path)
    assert file.data_start_bytes % alignment == 0
    assert file.tensors["a"].offset_bytes == file.data_start_bytes
    assert load_file(path)["a"].tolist() == [0, 1, 2]


def test_tensors_come_in_the_order_of_their_data(tmp_path: Path) -> None:
    """Whatever the order in the header; an empty tensor may share its place with the one that follows."""
    path = write_raw(
        tmp_path / "a.safetensors", {"late": entry(1, 3), "void": entry(0, 0), "early": entry(0, 1)}, b"abc"
    )
    file = TensorFile.open(path)
    assert list(file.tensors) == ["void", "early", "late"]
    extent = file.tensors["late"]
    assert path.read_bytes()[extent.offset_bytes :][: extent.length_bytes] == b"bc"


def test_pieces_of_big_endian_and_strided_arrays(tmp_path: Path) -> None:
    """What is not little-endian and contiguous in memory is so in the file."""
    array = np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2]
    source = TensorSource.of_array("a", array)
    assert (source.dtype, source.shape, source.length_bytes) == ("I32", (3, 2), 24)
    write_tensor_file(tmp_path / "a.safetensors", [source], {})
    np.testing.assert_array_equal(load_file(tmp_path / "a.safetensors")["a"], array)


def test_pieces_are_streamed(tmp_path: Path) -> None:
    """A tensor in pieces of any kind is one tensor; the generator is asked for one after the other."""

    def pieces() -> Any:
        yield b"ab"
        yield memoryview(b"c")
        yield np.frombuffer(b"de", np.uint16)
        yield b""

    write_tensor_file(tmp_path / "a.safetensors", [TensorSource("a", "U8", (5,), pieces())], {})
    assert load_file(tmp_path / "a.safetensors")["a"].tobytes() == b"abcde"


def test_bytes_are_not_copied() -> None:
    """Rewriting gigabytes must not double them; a strided view, which cannot be had without copying, is refused."""
    array = np.zeros(4, np.float32)
    as_bytes(array)[0] = 7
    assert array.view(np.uint8)[0] == 7
    with pytest.raises(TypeError, match="C-contiguous"):
        as_bytes(np.zeros((4, 4))[:, ::2])


@pytest.mark.parametrize(("dtype", "bits"), DTYPE_BITS.items())
def test_bytes_of_dtypes(dtype: str, bits: int) -> None:
    """Eight elements of b bits take b bytes; a number of them that ends within a byte takes no whole bytes."""
    assert tensor_bytes(dtype, (2, 4)) == bits
    assert tensor_bytes(dtype, (0, 4)) == 0
    assert (tensor_bytes(dtype, (1,)) == -1) == (bits < 8)


def test_dtypes_that_numpy_lacks_are_bytes(tmp_path: Path) -> None:
    """BF16 has an extent like any other tensor, and an error that says so when asked for as an array."""
    path = write_raw(tmp_path / "a.safetensors", {"w": entry(0, 12, "BF16", [2, 3])}, bytes(12))
    file = TensorFile.open(path)
    assert (file.tensors["w"].length_bytes, file.tensors["w"].shape) == (12, (2, 3))
    with pytest.raises(TensorFileError, match=r"tensor w: found BF16; expected a dtype that numpy has"):
        file.array("w")


def test_an_array_is_the_callers_own(tmp_path: Path) -> None:
    """What is written to it reaches neither the file nor the next reader."""
    save_file({"a": np.arange(3)}, tmp_path / "a.safetensors")
    file = TensorFile.open(tmp_path / "a.safetensors")
    file.array("a")[0] = 1
    assert file.array("a")[0] == 0


@pytest.mark.parametrize(
    ("name", "demands", "match"),
    [
        ("b", {}, r"a\.safetensors: found no tensor b; expected one by that name"),
        ("a", {"dtype": "I32"}, r"tensor a: found I64 \[3, 1\]; expected I32 tensor"),
        ("a", {"n_axes": 1}, r"tensor a: found I64 \[3, 1\]; expected a tensor with 1 axes"),
        ("a", {"dtype": "I64", "n_axes": 3}, "expected I64 tensor with 3 axes"),
    ],
)
def test_tensors_that_are_not_as_demanded(tmp_path: Path, name: str, demands: dict[str, Any], match: str) -> None:
    """Format readers state dtype and axes; the message names the file, the tensor, and both sides."""
    save_file({"a": np.arange(3)[:, None]}, tmp_path / "a.safetensors")
    with pytest.raises(TensorFileError, match=match):
        TensorFile.open(tmp_path / "a.safetensors").stored_array(name, **demands)


def test_a_size_that_no_array_has(tmp_path: Path) -> None:
    """No bytes, and yet too large for numpy: a shape with a zero hides any other size."""
    path = write_raw(tmp_path / "a.safetensors", {"a": entry(0, 0, "F64", [0, 2**62])})
    with pytest.raises(TensorFileError, match=r"tensor a: found shape \[0, 4611686018427387904\]; expected sizes"):
        TensorFile.open(path).array("a")


GOOD = {"a": entry(0, 2), "b": entry(2, 4)}


@pytest.mark.parametrize(
    ("header", "data", "length", "match"),
    [
        pytest.param(b"", b"", 0, "header: found Expecting value", id="no-header"),
        pytest.param(GOOD, b"abcd", 10**6, "bytes and a header of 1000000 bytes; expected a safe", id="long-length"),
        pytest.param(GOOD, b"abcd", 2**64 - 1, "a header of 18446744073709551615 bytes", id="longest-length"),
        pytest.param(GOOD, b"abcd", 20, "header: found (Expecting|Unterminated)", id="short-length"),
        pytest.param(GOOD, b"abcd", len(json.dumps(GOOD)) + 1, "header: found Extra data", id="length-into-data"),
        pytest.param(b"not json at all", b"", None, "header: found Expecting value", id="bad-json"),
        pytest.param(b'{"a":' + b"[" * 100_000, b"", None, "found maximum recursion depth", id="deep-json"),
        pytest.param(b'{"\xff": 1}', b"", None, "header: found 'utf-8' codec can't decode", id="no-utf8"),
        pytest.param(b'{"\\ud800": {}}', b"", None, "header: found 'utf-8' codec can't encode", id="lone-surrogate"),
        pytest.param(b'{"__metadata__": {"x": "\\udfff"}}', b"", None, "codec can't encode", id="lone-surrogate-value"),
        pytest.param(b'{"a":1,"a":1}', b"", None, "header: found a key that stands twice", id="duplicate-tensor"),
        pytest.param(
            b'{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
            b"",
            None,
            "found a key that stands twice",
            id="duplicate-key",
        ),
        pytest.param([1], b"", None, "header: found a JSON list; expected a JSON object", id="list"),
        pytest.param(b"null", b"", None, "header: found a JSON NoneType", id="null"),
        pytest.param(b"9" * 5000, b"", None, "header: found Exceeds the limit", id="long-number"),
        pytest.param({"__metadata__": {"a": 1}}, b"", None, "__metadata__: found values that are no st", id="md-int"),
        pytest.param({"__metadata__": {"a": None}}, b"", None, "__metadata__: found values", id="metadata-null"),
        pytest.param({"__metadata__": {"a": {"b": "c"}}}, b"", None, "__metadata__: found val", id="metadata-nested"),
        pytest.param({"__metadata__": ["a"]}, b"", None, "__metadata__: found values", id="metadata-list"),
        pytest.param({"a": 7}, b"", None, r"tensor a: found keys \[\]; expected dtype, shape", id="entry-number"),
        pytest.param({"a": {"dtype": "U8"}}, b"", None, r"tensor a: found keys \['dtype'\]", id="keys-missing"),
        pytest.param({"a": entry(0, 2) | {"x": 1}}, b"ab", None, r"found keys \['data_offsets', 'd.*'x'\]", id="key"),
        pytest.param(
            {"a": entry(0, 2, "U9")}, b"ab", None, "tensor a: found dtype 'U9'; expected BOOL, U8", id="dtype"
        ),
        pytest.param({"a": entry(0, 2, ["U8"])}, b"ab", None, r"found dtype \['U8'\]", id="dtype-list"),
        pytest.param({"a": entry(0, 2, shape=2)}, b"ab", None, "found shape 2; expected a list of", id="shape-number"),
        pytest.param({"a": entry(0, 2, shape=[-2])}, b"ab", None, r"found shape \[-2\]", id="shape-negative"),
        pytest.param({"a": entry(0, 2, shape=[-1, -2])}, b"ab", None, r"found shape \[-1, -2\]", id="shape-negatives"),
        pytest.param({"a": entry(0, 1, shape=[True])}, b"a", None, r"found shape \[True\]", id="shape-bool"),
        pytest.param({"a": entry(0, 2, shape=[2.0])}, b"ab", None, r"found shape \[2.0\]", id="shape-float"),
        pytest.param({"a": entry(0, 2, shape=["2"])}, b"ab", None, r"found shape \['2'\]", id="shape-text"),
        pytest.param(
            {"a": entry(0, 2, shape=[2**63])}, b"ab", None, "found shape .9223372036854775808.", id="shape-big"
        ),
        pytest.param(
            {"a": entry(0, 2, shape=[2**32, 2**32])},
            b"ab",
            None,
            "found 2 bytes of data; expected 18446744073709551616 for",
            id="shape-overflow",
        ),
        pytest.param(
            {"a": entry(0, 2, shape=[3])},
            b"ab",
            None,
            r"found 2 bytes of data; expected 3 for U8 \[3\]",
            id="byte-count",
        ),
        pytest.param(
            {"a": entry(0, 2, "F32", [1])}, b"ab", None, "found 2 bytes of data; expected 4 for F32", id="f32"
        ),
        pytest.param({"a": entry(0, 2, "F4", [3])}, b"ab", None, "found 2 bytes of data; expected -1", id="half-bytes"),
        pytest.param(
            {"a": {**entry(0, 2), "data_offsets": [0]}}, b"ab", None, r"found data_offsets \[0\]", id="1-offset"
        ),
        pytest.param(
            {"a": {**entry(0, 2), "data_offsets": [2, 0]}}, b"ab", None, r"data_offsets \[2, 0\]", id="backwards"
        ),
        pytest.param({"a": {**entry(0, 2), "data_offsets": [-2, 0]}}, b"ab", None, r"\[-2, 0\]", id="offset-negative"),
        pytest.param(
            {"a": {**entry(0, 1), "data_offsets": [False, True]}}, b"a", None, r"\[False, True\]", id="offset-bool"
        ),
        pytest.param(
            {"a": {**entry(0, 2), "data_offsets": {"0": 2}}}, b"ab", None, "data_offsets {'0': 2}", id="offset-d"
        ),
        pytest.param(
            {"a": entry(0, 3), "b": entry(2, 4)},
            b"abcd",
            None,
            "tensor b: found data at byte 2 of the data; expected byte 3: no holes, no overlaps",
            id="overlap",
        ),
        pytest.param(
            {"a": entry(0, 2), "b": entry(0, 2)}, b"ab", None, "found data at byte 0 of the data", id="same-place"
        ),
        pytest.param(
            {"a": entry(0, 2), "b": entry(3, 4)}, b"abcd", None, "found data at byte 3 .* expected byte 2", id="hole"
        ),
        pytest.param(
            {"a": entry(1, 2)}, b"ab", None, "tensor a: found data at byte 1 .* expected byte 0", id="late-start"
        ),
        pytest.param(
            {"a": entry(0, 2), "v": entry(1, 1)}, b"ab", None, "tensor v: found data at byte 1", id="void-inside"
        ),
        pytest.param(GOOD, b"abcde", None, "found .* bytes; expected .* by the header. .* appended", id="tail"),
        pytest.param(
            GOOD, b"abc", None, "found .* bytes; expected .* by the header. .* truncated", id="truncated-data"
        ),
        pytest.param({}, b"a", None, "by the header", id="tail-without-tensors"),
    ],
)
def test_bad_headers(tmp_path: Path, header: Any, data: bytes, length: int | None, match: str) -> None:
    """Every way a header can be wrong is found before any data is used, and the message says which tensor."""
    path = write_raw(tmp_path / "bad.safetensors", header, data, length=length)
    with pytest.raises(TraceFormatError, match=f"^{re.escape(str(path))}.*{match}"):
        TensorFile.open(path, TraceFormatError)


@pytest.mark.parametrize("n_bytes", [0, 1, 7, 8])
def test_cut_within_the_length_field(tmp_path: Path, n_bytes: int) -> None:
    """A download that stopped at once; a length field alone promises a header that is not there."""
    write_raw(tmp_path / "a.safetensors", GOOD, b"abcd")
    (tmp_path / "cut").write_bytes((tmp_path / "a.safetensors").read_bytes()[:n_bytes])
    with pytest.raises(TensorFileError, match=f"found {n_bytes} bytes" if n_bytes else "found an empty file"):
        TensorFile.open(tmp_path / "cut")


@given(st.integers(0, 10_000), st.integers(0, 255))
@settings(deadline=None)
def test_no_single_byte_makes_it_crash(position: int, value: int) -> None:
    """A changed byte in the header is either refused as a `TensorFileError`, or leaves a file that is consistent."""
    import tempfile
    from pathlib import Path

    header = build_header([("layers.0.active", "U8", (3, 2)), ("tokens", "I32", (2,))], {"format": "x"})
    whole = bytearray(header + bytes(14))
    whole[position % len(header)] = value
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a"
        path.write_bytes(whole)
        try:
            file = TensorFile.open(path)
        except TensorFileError:
            return
        assert sum(extent.length_bytes for extent in file.tensors.values()) == len(whole) - file.data_start_bytes


def test_we_refuse_what_the_stock_reader_refuses(tmp_path: Path) -> None:
    """Holes, overlaps and tails are errors to the stock reader too: what we accept, it opens."""
    for header, data in (({"a": entry(1, 2)}, b"ab"), (GOOD, b"abcde"), ({"a": entry(0, 2, shape=[3])}, b"ab")):
        path = write_raw(tmp_path / "a.safetensors", header, data)
        with pytest.raises(SafetensorError):
            load_file(path)
        with pytest.raises(TensorFileError):
            TensorFile.open(path)


@pytest.mark.parametrize("kind", [FileNotFoundError, IsADirectoryError])
def test_errors_of_storage_pass(tmp_path: Path, kind: type[OSError]) -> None:
    """What is no matter of content stays an OSError, which has an exit code of its own."""
    with pytest.raises(kind):
        TensorFile.open(tmp_path / "none" if kind is FileNotFoundError else tmp_path)


def test_replacing(tmp_path: Path) -> None:
    """The new content stands under the name once the block ends, and nothing else is there."""
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError, GeneratorExit])
@pytest.mark.parametrize("existed", [True, False])
def test_replacing_leaves_nothing_after_an_error(tmp_path: Path, error: type[BaseException], existed: bool) -> None:
    """Ctrl-C included: the old file is as it was, and no part of the new one is left."""
    path = tmp_path / "out"
    if existed:
        path.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(path) as file:
            file.write(b"half of it")
            raise error

    with pytest.raises(error):
        interrupted()
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == ([("out", b"old")] if existed else [])


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Flushing and renaming fail like writing: reported as they are, the old file kept."""

    def no_space(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "out.safetensors"
    path.write_bytes(b"old")
    monkeypatch.setattr(*(("os.fsync", no_space) if step == "fsync" else ("pathlib.Path.replace", no_space)))
    with pytest.raises(OSError, match="No space left"):
        write_tensor_file(path, [TensorSource.of_array("a", np.arange(3))], {})
    monkeypatch.undo()
    assert {found.name: found.read_bytes() for found in tmp_path.iterdir()} == {"out.safetensors": b"old"}


def test_a_source_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A tensor that cannot be read to its end ends the file: it appears whole or not at all."""

    def pieces() -> Any:
        yield b"ab"
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        write_tensor_file(tmp_path / "out", [TensorSource("a", "U8", (4,), pieces())], {})
    assert list(tmp_path.iterdir()) == []


def test_no_directory_to_write_in(tmp_path: Path) -> None:
    """Nothing is made on the way."""
    with pytest.raises(FileNotFoundError):
        write_tensor_file(tmp_path / "none" / "out", [], {})
    assert list(tmp_path.iterdir()) == []


shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@given(st.dictionaries(st.text('abc./é"\\', max_size=6), shapes, max_size=5), st.sampled_from([8, 64]))
@settings(deadline=None)
def test_headers_read_back(tensors: dict[str, tuple[int, ...]], alignment: int) -> None:
    """Any names and shapes: what `build_header` promises is what `TensorFile.open` finds, contiguous and in order."""
    import tempfile
    from pathlib import Path

    described = [(name, "F32", shape) for name, shape in tensors.items()]
    header = build_header(described, {}, data_alignment_bytes=alignment)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a"
        path.write_bytes(header + bytes(sum(tensor_bytes("F32", shape) for shape in tensors.values())))
        file = TensorFile.open(path)
    assert {extent.name: extent.shape for extent in file.tensors.values()} == tensors
    assert file.data_start_bytes == len(header)
