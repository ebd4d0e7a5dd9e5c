"""Trace sources: numpy arrays, sparse matrices, how files are named, several joined, and what is refused."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import sparse

from ripple_place.errors import TraceFormatError, UnsupportedError, UsageError
from ripple_place.trace.sources import read_source, read_sources
from tests.trace_builders import pack, random_activity, unpack, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.trace.activation_trace import ActivationTrace


def dense(trace: ActivationTrace, name: str = "layers.0") -> np.ndarray:
    """Return one block's activity."""
    return unpack(trace.blocks[name])


@pytest.mark.parametrize("n_neurons", [1, 8, 13])
@pytest.mark.parametrize("fortran", [False, True])
def test_npy_of_booleans(tmp_path: Path, n_neurons: int, fortran: bool) -> None:
    """A dense boolean matrix, in either memory order, is what it says."""
    active = random_activity(np.random.default_rng(0), 7, n_neurons)
    np.save(tmp_path / "layers.0.npy", np.asfortranarray(active) if fortran else active)
    trace = read_source(tmp_path / "layers.0.npy")
    np.testing.assert_array_equal(dense(trace), active)
    assert (trace.n_tokens, trace.segment_starts.tolist(), trace.metadata["activity"]) == (7, [0], "as given")


@pytest.mark.parametrize("fortran", [False, True])
def test_npy_of_packed_bits(tmp_path: Path, fortran: bool) -> None:
    """Packed bytes hold eight neurons each."""
    active = random_activity(np.random.default_rng(0), 7, 16, 0.5)
    packed = pack(active)
    np.save(tmp_path / "layers.0.npy", np.asfortranarray(packed) if fortran else packed)
    np.testing.assert_array_equal(dense(read_source(tmp_path / "layers.0.npy")), active)


def test_bytes_of_zero_and_one_are_refused(tmp_path: Path) -> None:
    """The trap: a 0/1 matrix saved as uint8, read as packed bits, would be eight times as many neurons, most dead."""
    np.save(tmp_path / "layers.0.npy", random_activity(np.random.default_rng(0), 7, 16).astype(np.uint8))
    with pytest.raises(
        TraceFormatError,
        match=r"layers.0.npy: found uint8 with no value above 1; .* Save it with .astype\(bool\)",
    ):
        read_source(tmp_path / "layers.0.npy")


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("dtype", [bool, np.float32, np.int64])
def test_npz_of_a_sparse_matrix(tmp_path: Path, kind: str, dtype: type) -> None:
    """Whatever scipy saves; negative values are activity too, stored zeros are not."""
    rng = np.random.default_rng(0)
    active = random_activity(rng, 10, 13)
    values = np.where(active, np.where(rng.random(active.shape) < 0.5, -1, 2), 0).astype(dtype)
    matrix = sparse.coo_array(values)
    if kind == "coo":
        matrix = sparse.coo_array(
            (np.append(matrix.data, dtype(0)), [np.append(axis, 0) for axis in matrix.coords]), values.shape
        )
        active[0, 0] = values[0, 0] != 0
    sparse.save_npz(tmp_path / "layers.0.npz", matrix.asformat(kind))
    np.testing.assert_array_equal(dense(read_source(tmp_path / "layers.0.npz")), active)


def save_csr(path: Path, indices: list[int], indptr: list[int], **more: Any) -> Path:
    """Write what save_npz writes, with whatever indices."""
    parts = {
        "format": b"csr", "shape": np.array([3, 4]), "data": np.ones(len(indices)),
        "indices": np.array(indices), "indptr": np.array(indptr),
    }  # fmt: skip
    np.savez(path, **parts | more)
    return path


@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_sparse_entries_that_are_no_numbers(tmp_path: Path, kind: str, bad: float) -> None:
    """A stored NaN is not zero, and counted as active."""
    values = np.zeros((5, 9))
    values[1, 3], values[4, 7] = 1, bad
    sparse.save_npz(tmp_path / "layers.0.npz", sparse.csr_array(values).asformat(kind))
    with pytest.raises(TraceFormatError, match=rf"layers.0.npz: token 4, neuron 7: found {bad}; expected finite"):
        read_source(tmp_path / "layers.0.npz")


def test_unsorted_indices(tmp_path: Path) -> None:
    """Indices within a row need not ascend."""
    path = save_csr(tmp_path / "layers.0.npz", [3, 0, 2, 1], [0, 2, 4, 4])
    assert dense(read_source(path)).astype(int).tolist() == [[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_long_sparse_matrices(tmp_path: Path) -> None:
    """They are unpacked some thousand rows at a time: the borders are where they should be."""
    matrix = sparse.random_array((9000, 9), density=0.2, rng=np.random.default_rng(0), format="csr")
    sparse.save_npz(tmp_path / "layers.0.npz", matrix)
    np.testing.assert_array_equal(dense(read_source(tmp_path / "layers.0.npz")), matrix.toarray() != 0)


@pytest.mark.parametrize("kind", [b"csr", b"csc"])
@pytest.mark.parametrize(
    ("indices", "indptr", "more", "match"),
    [
        ([0, 99], [0, 2, 2, 2], {}, "found indices must be < "),
        ([0, 2**31 - 1], [0, 2, 2, 2], {}, "found indices must be < "),
        ([0, -1], [0, 2, 2, 2], {}, "found indices must be >= 0"),
        ([0, 1], [0, 2, 1, 2], {}, "found indptr|found index pointer values must"),
        ([0, 1], [0, 9, 9, 9], {}, "found Last value of index pointer should be less than"),
        ([0, 1], [0, 2], {}, "found index pointer size"),
        ([0, 1], [1, 2, 2, 2], {}, "found index pointer should start with 0"),
        ([0, 1], [0, 2, 2, 2], {"shape": np.array([3])}, "shape"),
        ([0, 1], [0, 2, 2, 2], {"format": b"xyz"}, "found Unknown|found Load is not"),
        ([0, 1], [0, 2, 2, 2], {"format": np.array([1, 2])}, "expected a matrix saved by scipy.sparse.save_npz"),
        ([0, 1], [0, 2, 2, 2], {"data": np.array([None, 1])}, "found Object arrays cannot be loaded"),
        ([], [0], {"shape": np.array([0, 3])}, r"found (shape \[0, 3\]|index pointer size)"),
        ([], [0, 0, 0, 0], {"shape": np.array([3, 3]), "data": np.ones((0, 0))}, "found"),
    ],
)
def test_wild_sparse_matrices(
    tmp_path: Path, kind: bytes, indices: list[int], indptr: list[int], more: dict[str, Any], match: str
) -> None:
    """Scipy checks little on loading; converting or unpacking wild indices would write outside of an array."""
    path = save_csr(tmp_path / "layers.0.npz", indices, indptr, **{"shape": np.array([3, 3]), "format": kind, **more})
    with pytest.raises(TraceFormatError, match=rf"layers\.0\.npz: .*{match}"):
        read_source(path)


def test_empty_sparse_matrix(tmp_path: Path) -> None:
    """Tokens without neurons, neurons without tokens: nothing to learn from."""
    for shape in ((0, 5), (5, 0)):
        sparse.save_npz(tmp_path / "layers.0.npz", sparse.csr_array(shape))
        with pytest.raises(TraceFormatError, match=rf"layers.0.npz: found shape \[{shape[0]}, {shape[1]}\]"):
            read_source(tmp_path / "layers.0.npz")


def test_npz_by_block(tmp_path: Path) -> None:
    """Several dense arrays under their blocks' names, booleans or packed, become several blocks in model order."""
    rng = np.random.default_rng(0)
    first, second = random_activity(rng, 6, 9), random_activity(rng, 6, 16, 0.5)
    np.savez_compressed(tmp_path / "any name 1 2 3.npz", **{"layers.10": first, "layers.9": pack(second)})
    trace = read_source(tmp_path / "any name 1 2 3.npz")
    assert list(trace.blocks) == ["layers.9", "layers.10"]
    np.testing.assert_array_equal(dense(trace, "layers.10"), first)
    np.testing.assert_array_equal(dense(trace, "layers.9"), second)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({}, "found 0 blocks, 0 tokens"),
        (
            {"activations": np.eye(3, dtype=bool)},
            r"t\.npz: activations: found an array of that name; expected block names",
        ),
        ({"layers.0": np.eye(3)}, r"t\.npz: layers.0: found float64 \[3, 3\]; expected boolean .* such as outputs > 0"),
        ({"layers.0": np.ones(3, bool)}, r"layers.0: found bool \[3\]"),
        ({"layers.0": np.ones((3, 0), bool)}, r"layers.0: found bool \[3, 0\]"),
        ({"layers.0": np.array([[None]])}, "found Object arrays cannot be loaded when allow_pickle=False"),
        ({"layers.0": np.ones((3, 2), bool), "layers.1": np.ones((4, 2), bool)}, r"t\.npz: layers.1: found 4 rows"),
    ],
)
def test_bad_npz_by_block(tmp_path: Path, arrays: dict[str, np.ndarray], match: str) -> None:
    """Names, kinds, shapes and lengths: the message names the file and the array."""
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(TraceFormatError, match=match):
        read_source(tmp_path / "t.npz")


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.eye(3), r"layers.3.npy: found float64 \[3, 3\]; expected boolean \[n_tokens, n_neurons\], or uint8"),
        (np.eye(3, dtype=np.int8), "found int8"),
        (np.ones(3, bool), r"found bool \[3\]"),
        (np.ones((0, 3), bool), r"found bool \[0, 3\]"),
        (np.ones((3, 3, 3), bool), r"found bool \[3, 3, 3\]"),
        (np.array([[None]]), "found .*allow_pickle=False"),
    ],
)
def test_bad_npy(tmp_path: Path, array: np.ndarray, match: str) -> None:
    """What is neither booleans nor packed bits has no threshold that we could guess."""
    np.save(tmp_path / "layers.3.npy", array)
    with pytest.raises(TraceFormatError, match=match):
        read_source(tmp_path / "layers.3.npy")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((((",
        b"PK\x03\x04",
        b"PK\x05\x06" + bytes(18),
        b"text",
    ],
)
def test_damaged_archives(tmp_path: Path, suffix: str, content: bytes) -> None:
    """Whatever numpy, zipfile or the header's parser makes of it, it is a bad trace."""
    path = tmp_path / f"layers.0{suffix}"
    path.write_bytes(content)
    with pytest.raises(TraceFormatError, match=r"layers\.0"):
        read_source(path)


def test_endings_that_lie(tmp_path: Path) -> None:
    """An archive named .npy, an array named .npz: numpy opens both, and what comes out is not what was asked for."""
    np.savez(tmp_path / "layers.0.npz", **{"layers.0": np.eye(3, dtype=bool)})
    np.save(tmp_path / "layers.0.npy", np.eye(3, dtype=bool))
    swapped = [tmp_path / "layers.0.npy", tmp_path / "layers.0.npz"]
    archive, array = swapped[1].read_bytes(), swapped[0].read_bytes()
    for path, content, match in zip(swapped, (archive, array), ("an .npz archive", "a single .npy array"), strict=True):
        path.write_bytes(content)
        with pytest.raises(TraceFormatError, match=f"found {match}"):
            read_source(path)


def test_a_changed_byte_in_an_archive(tmp_path: Path) -> None:
    """The archive opens; the array in it fails its checksum when it is read."""
    np.savez(tmp_path / "t.npz", **{"layers.0": np.zeros((3, 9), bool)})
    content = bytearray((tmp_path / "t.npz").read_bytes())
    content[content.index(b"NUMPY") + 130] ^= 1
    (tmp_path / "t.npz").write_bytes(content)
    with pytest.raises(TraceFormatError, match=r"found Bad CRC-32"):
        read_source(tmp_path / "t.npz")


def test_archives_that_promise_what_they_cannot_hold(tmp_path: Path) -> None:
    """A member of 4 GiB in a file of a few hundred bytes, and a sparse matrix that no memory holds in full."""
    np.savez(tmp_path / "t.npz", **{"layers.0": np.zeros((3, 9), bool)})
    content = bytearray((tmp_path / "t.npz").read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, 2**32 - 2)
    (tmp_path / "t.npz").write_bytes(content)
    with pytest.raises(TraceFormatError, match=r"found layers.0.npy: 4294967294 bytes in \d+"):
        read_source(tmp_path / "t.npz")
    sparse.save_npz(tmp_path / "layers.0.npz", sparse.coo_array(([True], ([5], [7])), shape=(2**20, 2**28)))
    with pytest.raises(TraceFormatError, match=r"found a matrix \[1048576, 268435456\] in \d+ bytes"):
        read_source(tmp_path / "layers.0.npz")


@pytest.mark.parametrize("shape", [(10, 10), (10**12, 10**6)])
def test_arrays_shorter_than_their_header_says(tmp_path: Path, shape: tuple[int, int]) -> None:
    """A download that stopped, and a size that no memory holds, are both the file's fault."""
    header = f"{{'descr': '|b1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    path = tmp_path / "layers.0.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(TraceFormatError, match=r"found bool \[\d+, \d+\] in 0 bytes"):
        read_source(path)


def test_errors_of_storage_are_no_bad_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails is no matter of format, and has an exit code of its own."""

    def broken_disk(*args: object, **more: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    np.save(tmp_path / "layers.0.npy", np.eye(3, dtype=bool))
    monkeypatch.setattr("numpy.load", broken_disk)
    with pytest.raises(OSError, match=r"Input/output error"):
        read_source(tmp_path / "layers.0.npy")


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("layers.3.npy", "layers.3"),
        ("decoder.layers.12.npy", "decoder.layers.12"),
        ("layers.3.experts.7.npy", "layers.3.experts.7"),
        ("layer_3.npy", "layers.3"),
        ("3.npy", "layers.3"),
        ("activation_010.npy", "layers.10"),
        ("layers.03.npy", "layers.3"),
    ],
)
def test_names_of_files(tmp_path: Path, name: str, block: str) -> None:
    """A block name, or exactly one number."""
    np.save(tmp_path / name, np.eye(3, dtype=bool))
    assert list(read_source(tmp_path / name).blocks) == [block]


@pytest.mark.parametrize("name", ["trace.npy", "layer_3_of_24.npy", "run2-layer3.npy", "20240101123456.npy"])
def test_names_that_say_no_block(tmp_path: Path, name: str) -> None:
    """No number, several, or one that is no layer: rename rather than guess."""
    np.save(tmp_path / name, np.eye(3, dtype=bool))
    with pytest.raises(UsageError, match=f"found the name {name}; expected a name that says the block, such as layers"):
        read_source(tmp_path / name)


def test_safetensors_by_any_name(tmp_path: Path) -> None:
    """`profile --out wiki.profile` makes a file that any command reads as a trace: the content decides."""
    for name in ("a.trace.safetensors", "wiki.profile", "trace"):
        trace = read_source(write_stock_trace(tmp_path / name, {"layers.0": np.eye(3)}))
        assert dense(trace).tolist() == np.eye(3, dtype=bool).tolist()


@pytest.mark.parametrize("name", ["notes.txt", "model.bin", "trace", "empty"])
def test_files_of_no_known_kind(tmp_path: Path, name: str) -> None:
    """A usage error that lists the kinds, not a complaint about a header."""
    (tmp_path / name).write_bytes(b"" if name == "empty" else b"some text that is no trace")
    with pytest.raises(UsageError, match=r"found a file ending in '.*'; expected .safetensors, .npy, .npz, or routes"):
        read_source(tmp_path / name)


def test_nothing_there(tmp_path: Path) -> None:
    """A wrong path is a usage error."""
    with pytest.raises(UsageError, match=r"found nothing there; expected a trace.*Check the path"):
        read_source(tmp_path / "none.npy")


def test_a_checkpoint_is_no_trace(tmp_path: Path) -> None:
    """Capturing from a model needs more than this version has, which the message says."""
    with pytest.raises(UnsupportedError, match=r"found a directory; expected trace files. .*docs/formats.md"):
        read_source(tmp_path)


def test_end_to_end(tmp_path: Path) -> None:
    """Traces of the same blocks become one, each a segment of its own, whatever kind of file each is."""
    rng = np.random.default_rng(0)
    parts = [random_activity(rng, n_rows, 9) for n_rows in (5, 1, 8)]
    np.save(tmp_path / "layers.0.npy", parts[0])
    sparse.save_npz(tmp_path / "layers.0.npz", sparse.csr_array(parts[1]))
    write_stock_trace(
        tmp_path / "c.safetensors", {"layers.0": parts[2]}, tensors={"segment_starts": np.array([0, 3])},
        model="m", activity="relu>0",
    )  # fmt: skip
    trace = read_sources([tmp_path / "layers.0.npy", tmp_path / "layers.0.npz", tmp_path / "c.safetensors"])
    np.testing.assert_array_equal(dense(trace), np.concatenate(parts))
    assert (trace.n_tokens, trace.segment_starts.tolist(), trace.tokens) == (14, [0, 5, 6, 9], None)
    assert trace.metadata == {"activity": "as given + relu>0", "model": "unknown + m", "dataset": "unknown"}


def test_end_to_end_of_experts(tmp_path: Path) -> None:
    """Token numbers and ids move on by the tokens before; a part without token numbers has all of them."""
    name = "layers.0.experts.1"
    for file, n_rows, tensors in (
        ("a", 2, {f"{name}.token_index": np.array([1, 3], "<i4"), "tokens": np.arange(5, dtype="<i4")}),
        ("b", 2, {"tokens": np.array([7, 8], "<i4")}),
    ):
        write_stock_trace(tmp_path / file, {name: np.ones((n_rows, 4))}, tensors=tensors)
    trace = read_sources([tmp_path / "a", tmp_path / "b"])
    assert trace.blocks[name].token_index.tolist() == [1, 3, 5, 6]  # type: ignore[union-attr]
    assert trace.tokens.tolist() == [0, 1, 2, 3, 4, 7, 8]  # type: ignore[union-attr]
    assert (trace.n_tokens, trace.segment_starts.tolist()) == (7, [0, 5])


def test_side_by_side(tmp_path: Path) -> None:
    """A file a layer, in any order, is one trace in model order; ten sorts after nine."""
    rng = np.random.default_rng(0)
    layers = {layer: random_activity(rng, 6, 9 + layer) for layer in (10, 2, 9)}
    for layer, active in layers.items():
        np.save(tmp_path / f"activation_{layer}.npy", active)
    trace = read_sources([tmp_path / f"activation_{layer}.npy" for layer in layers])
    assert list(trace.blocks) == ["layers.2", "layers.9", "layers.10"]
    assert trace.n_tokens == 6
    for layer, active in layers.items():
        np.testing.assert_array_equal(dense(trace, f"layers.{layer}"), active)


@pytest.mark.parametrize(
    ("blocks", "match"),
    [
        (
            [{"layers.0": (3, 4)}, {"layers.0": (3, 5)}],
            r"a, .*b: layers.0: found \[4, 5\] neurons; expected traces of one",
        ),
        ([{"layers.0": (3, 4)}, {"layers.1": (4, 4)}], r"found \[3, 4\] tokens; expected as many for each block"),
        ([{"layers.0": (3, 4)}, {"layers.0": (3, 4), "layers.1": (3, 4)}], "found traces that share some blocks"),
        ([{"layers.0": (3, 4)}, {"layers.1": (3, 4)}, {"layers.0": (3, 4)}], "share some blocks and not others"),
    ],
)
def test_traces_that_cannot_be_joined(tmp_path: Path, blocks: list[dict[str, tuple[int, int]]], match: str) -> None:
    """Traces of different models or texts must not become one."""
    paths = [
        write_stock_trace(tmp_path / file, {name: np.ones(shape) for name, shape in shapes.items()})
        for file, shapes in zip("abc", blocks, strict=False)
    ]
    with pytest.raises(TraceFormatError, match=match):
        read_sources(paths)
