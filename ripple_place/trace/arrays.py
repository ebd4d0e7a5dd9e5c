"""Activations in numpy's files: dense booleans, packed bits, sparse matrices."""

from __future__ import annotations

import errno
import math
import re
import zipfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ripple_place.blocks import is_block_name
from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.foreign import file_error
from ripple_place.inputfile import open_stream
from ripple_place.trace.activation_trace import BlockTrace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt


def block_in_name(path: Path) -> str:
    """Return the block that a file is named after: ``layers.3.npy``, ``layer_3.npz``, ``3.npy``.

    Raises
    ------
    UsageError
        If its name says none.
    """
    if is_block_name(path.stem):
        return path.stem
    numbers: list[str] = re.findall(r"\d+", path.stem)
    name = f"layers.{int(numbers[0])}" if len(numbers) == 1 else ""
    if not is_block_name(name):
        raise UsageError(
            path, found=f"the name {path.name}", expected="a name that says the block, such as layers.3.npy",
            remedy="rename the file",
        )  # fmt: skip
    return name


_MAX_DEFLATION = 1032
"""Bytes that deflate can make of one: a member that promises more lies."""
_DENSE_BYTES, _DENSE_PER_BYTE = 64 << 20, 1024
"""A sparse matrix may take so much packed memory, and so much more for each byte of its file."""
_DENSE_CHUNK_BYTES = 64 << 20

_SAVE_PLAIN = "save numbers, not objects, with numpy.save (.npy) or numpy.savez (.npz)"
_SAVE_SPARSE = (
    "save it again with scipy.sparse.save_npz; in several files of fewer tokens where hardly any neuron fires"
)


@contextmanager
def _decoding(path: Path, expected: str, remedy: str) -> Iterator[None]:
    """Turn whatever numpy and scipy raise on damaged content into a `TraceFormatError`; errors of storage pass."""
    try:
        yield
    except Exception as cause:
        # A damaged archive has zipfile seek to where nothing can be.
        if isinstance(cause, OSError) and cause.errno != errno.EINVAL:
            raise
        raise file_error(
            TraceFormatError, path, found=str(cause) or type(cause).__name__, expected=expected,
            remedy=remedy, formats=("numpy", "zip"),
        ) from cause  # fmt: skip


def _check_size(file: IO[bytes], size_bytes: int) -> None:
    """Raise ValueError unless an array is as long as its header says: numpy allocates before it reads."""
    major, _ = np.lib.format.read_magic(file)
    if major not in (1, 2):
        raise ValueError(f"version {major} of the format, which is for named fields")
    read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    n_bytes = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and n_bytes != size_bytes - file.tell():
        raise ValueError(f"{dtype} {list(shape)} in {size_bytes - file.tell()} bytes")


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Raise ValueError unless the members of an archive are as long as it says."""
    size_bytes = path.stat().st_size
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            deflation = _MAX_DEFLATION if member.compress_type == zipfile.ZIP_DEFLATED else 1
            if member.compress_size > size_bytes or member.file_size > deflation * member.compress_size:
                raise ValueError(f"{member.filename}: {member.file_size} bytes in {member.compress_size}")
            with archive.open(member) as content:
                _check_size(content, member.file_size)


def _load(path: Path, file: BinaryIO) -> Any:
    """Return the array in a ``.npy`` file, or the archive that an ``.npz`` file is."""
    with _decoding(path, "an array that numpy.load reads without pickle", _SAVE_PLAIN):
        if zipfile.is_zipfile(file):
            _check_archive(path, file)
        else:
            file.seek(0)
            _check_size(file, path.stat().st_size)
        file.seek(0)
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray) != (path.suffix == ".npy"):
            raise ValueError("an .npz archive" if path.suffix == ".npy" else "a single .npy array")
        return content


def _bits(where: object, array: npt.NDArray[Any]) -> BlockTrace:
    """Return the trace of a dense boolean array or of packed bits."""
    if array.ndim != 2 or array.dtype not in (np.bool_, np.uint8) or 0 in array.shape:
        raise TraceFormatError(
            where, found=f"{array.dtype} {list(array.shape)}",
            expected="boolean [n_tokens, n_neurons], or uint8 bits packed in little order",
            remedy="save a row of booleans for each token, such as outputs > 0",
        )  # fmt: skip
    if array.dtype == np.bool_:
        return BlockTrace(array.shape[1], np.packbits(array, axis=1, bitorder="little"))
    if array.max() <= 1:
        # Packed, this would mean that seven neurons in eight never fire: far likelier one byte a neuron.
        raise TraceFormatError(
            where, found="uint8 with no value above 1", expected="booleans, or eight neurons packed in a byte",
            remedy="save it with .astype(bool), or name it packed:PATH,neurons=N if it is packed",
        )  # fmt: skip
    return BlockTrace(8 * array.shape[1], np.ascontiguousarray(array))


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a ``.npy`` file, which is named after its block, or of an ``.npz`` of arrays by block.

    Raises
    ------
    UsageError
        If the name says no block, or the file is no such file by its ending.
    TraceFormatError
        If the content is damaged, or an array is not named after a block.
    OSError
        If it cannot be read.
    """
    if path.suffix == ".npy":
        name = block_in_name(path)
        with open_stream(path) as file:
            return {name: _load(path, file)}
    if path.suffix != ".npz":
        raise UsageError(
            path, found=f"a file ending in {path.suffix!r}", expected=".npy or .npz", remedy="save it with numpy"
        )
    with open_stream(path) as file:
        archive = _load(path, file)
        return _arrays_by_block(path, archive)


def _arrays_by_block(path: Path, archive: Any) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an archive that ``numpy.savez`` wrote."""
    for name in archive.files:
        if not is_block_name(name):
            raise TraceFormatError(
                f"{path}: {name}", found="an array of that name", expected="block names such as layers.0",
                remedy="save with numpy.savez(path, **{'layers.0': active})",
            )  # fmt: skip
    with _decoding(path, "arrays saved by numpy.savez", _SAVE_PLAIN):
        return {name: archive[name] for name in archive.files}


def read_npy(path: Path) -> BlockTrace:
    """Return the trace of one block: booleans or packed bits.

    Raises
    ------
    TraceFormatError
        If the content is neither.
    OSError
        If it cannot be read.
    """
    with open_stream(path) as file:
        return _bits(path, _load(path, file))


def read_npz(path: Path) -> dict[str, BlockTrace]:
    """Return the traces in an archive: dense arrays by block, or one sparse matrix.

    Raises
    ------
    TraceFormatError
        If the content is neither.
    UsageError
        If the name of a sparse matrix says no block.
    OSError
        If it cannot be read.
    """
    with open_stream(path) as file:
        archive = _load(path, file)
        if "format" not in archive.files:
            arrays = _arrays_by_block(path, archive)
            return {name: _bits(f"{path}: {name}", array) for name, array in arrays.items()}
    from scipy import sparse

    with _decoding(path, "a matrix saved by scipy.sparse.save_npz", _SAVE_SPARSE):
        with open_stream(path) as file:
            matrix = sparse.load_npz(file)
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise ValueError(f"shape {list(matrix.shape)}, not [n_tokens, n_neurons]")
        if math.prod(map(int, matrix.shape)) > 8 * (_DENSE_BYTES + _DENSE_PER_BYTE * path.stat().st_size):
            raise ValueError(f"a matrix {list(matrix.shape)} in {path.stat().st_size} bytes")
        if matrix.dtype.kind not in "biufc":
            raise ValueError(f"entries that are {matrix.dtype}")
        if matrix.format in ("csr", "csc", "bsr"):
            # Nothing is checked on loading, and to convert or unpack a wild index is to write outside of an array.
            matrix.check_format(full_check=True)
        matrix = matrix.tocsr()
    n_tokens, n_neurons = matrix.shape
    block = block_in_name(path)
    _check_stored(path, matrix)
    active = np.zeros((n_tokens, (n_neurons + 7) // 8), np.uint8)
    step = max(1, _DENSE_CHUNK_BYTES // n_neurons)
    for start in range(0, n_tokens, step):
        rows = (matrix[start : start + step] != 0).toarray()
        active[start : start + step] = np.packbits(rows, axis=1, bitorder="little")
    return {block: BlockTrace(n_neurons, active)}


def _check_stored(path: Path, matrix: Any) -> None:
    """Refuse a sparse matrix with an entry that is NaN or infinite: it would count as active.

    Raises
    ------
    TraceFormatError
        At the first of them, by token and neuron.
    """
    bad = np.flatnonzero(~np.isfinite(matrix.data))
    if bad.size:
        token = int(np.searchsorted(matrix.indptr, bad[0], side="right")) - 1
        raise TraceFormatError(
            f"{path}: token {token}, neuron {matrix.indices[bad[0]]}", found=str(matrix.data[bad[0]]),
            expected=f"finite outputs ({bad.size} of {matrix.data.size} entries are not)",
            remedy="record it again in a wider dtype, such as float32, from weights without NaN",
        )  # fmt: skip
