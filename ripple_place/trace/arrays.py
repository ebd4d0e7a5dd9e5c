"""Activations in numpy's files: dense booleans, packed bits, sparse matrices."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ripple_place.blocks import is_block_name
from ripple_place.errors import TraceFormatError, UsageError
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


@contextmanager
def _decoding(path: Path, expected: str) -> Iterator[None]:
    """Turn whatever numpy and scipy raise on damaged content into a `TraceFormatError`; errors of storage pass."""
    try:
        yield
    except OSError:
        raise
    except Exception as cause:
        raise TraceFormatError(
            path, found=str(cause) or type(cause).__name__, expected=expected, remedy="save it again"
        ) from cause


def _load(path: Path, file: BinaryIO) -> Any:
    """Return the array in a ``.npy`` file, or the archive that an ``.npz`` file is."""
    with _decoding(path, "an array that numpy.load reads without pickle"):
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
            remedy="compare the activations with their threshold first",
        )  # fmt: skip
    if array.dtype == np.bool_:
        return BlockTrace(array.shape[1], np.packbits(array, axis=1, bitorder="little"))
    if array.max() <= 1:
        # Packed, this would mean that seven neurons in eight never fire: far likelier one byte a neuron.
        raise TraceFormatError(
            where, found="uint8 with no value above 1", expected="booleans, or eight neurons packed in a byte",
            remedy="save it with .astype(bool)",
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
        with path.open("rb") as file:
            return {name: _load(path, file)}
    if path.suffix != ".npz":
        raise UsageError(
            path, found=f"a file ending in {path.suffix!r}", expected=".npy or .npz", remedy="save it with numpy"
        )
    with path.open("rb") as file:
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
    with _decoding(path, "arrays saved by numpy.savez"):
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
    with path.open("rb") as file:
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
    with path.open("rb") as file:
        archive = _load(path, file)
        if "format" not in archive.files:
            arrays = _arrays_by_block(path, archive)
            return {name: _bits(f"{path}: {name}", array) for name, array in arrays.items()}
    from scipy import sparse

    with _decoding(path, "a matrix saved by scipy.sparse.save_npz"):
        matrix = sparse.load_npz(path)
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise ValueError(f"shape {list(matrix.shape)}, not [n_tokens, n_neurons]")
        if matrix.format in ("csr", "csc", "bsr"):
            # Nothing is checked on loading, and to convert or unpack a wild index is to write outside of an array.
            matrix.check_format(full_check=True)
        matrix = matrix.tocsr()
    n_tokens, n_neurons = matrix.shape
    active = np.zeros((n_tokens, (n_neurons + 7) // 8), np.uint8)
    for start in range(0, n_tokens, 4096):
        rows = (matrix[start : start + 4096] != 0).toarray()
        active[start : start + 4096] = np.packbits(rows, axis=1, bitorder="little")
    return {block_in_name(path): BlockTrace(n_neurons, active)}
