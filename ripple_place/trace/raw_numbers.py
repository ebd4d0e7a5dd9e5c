"""Files of raw numbers, a row a token: checked, and read some rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import TraceFormatError
from ripple_place.inputfile import InputFile
from ripple_place.storedarray import StoredArray
from ripple_place.trace.float_bytes import has_narrower, wider_type

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ripple_place.arrays import AnyArray

CHUNK_BYTES = 64 * 2**20
"""Read at a time."""

DTYPES = {"float16": "<f2", "float32": "<f4", "float64": "<f8"}
"""What raw numbers may be."""


def open_numbers(path: Path, n_neurons: int, given_type: str | None) -> StoredArray:
    """Open a file of raw numbers, after a look at whether they are what they are taken for.

    Parameters
    ----------
    path : Path
        ``mlp_label_{layer}.mmap``.
    n_neurons : int
    given_type : str or None
        One of `DTYPES`, if the user named it; None: float16.

    Returns
    -------
    StoredArray of shape (n_rows, n_neurons), floating

    Raises
    ------
    TraceFormatError
        If the size is of another number of neurons, or the bytes are numbers of another type.
    UsageError, OSError
        If it is no regular file, or cannot be read.
    """
    name = given_type or "float16"
    dtype, file = np.dtype(DTYPES[name]), InputFile(path)
    n_bytes = file.size_bytes
    if n_bytes == 0 or n_bytes % (dtype.itemsize * n_neurons):
        raise TraceFormatError(
            path, found=f"{n_bytes} bytes", expected=f"{name} rows of {n_neurons} neurons",
            remedy="correct neurons=N or dtype, or copy the file again",
        )  # fmt: skip
    shape = (n_bytes // (dtype.itemsize * n_neurons), n_neurons)
    array = StoredArray(file, "numbers", dtype, shape, 0, TraceFormatError)
    numbers = StoredArray(file, "numbers", dtype, (rows_written(array) * n_neurons,), 0, TraceFormatError)
    # Who says float16 in so many words is believed.
    wider = wider_type(numbers) if given_type is None else None
    if wider is not None:
        raise TraceFormatError(
            path, found=f"bytes that look like {wider}: parts of numbers, not numbers, if they are read as float16",
            expected=f"float16 rows of {n_neurons} neurons",
            remedy=f"add dtype={wider}; or dtype=float16 if that is what they are after all",
        )  # fmt: skip
    if dtype.itemsize > 2 and has_narrower(numbers):
        raise TraceFormatError(
            path, found=f"{name} numbers nearer to zero than {np.finfo(dtype).tiny:.0e}, as narrower ones make them",
            expected=f"{name} rows of {n_neurons} neurons", remedy="correct dtype, or leave it out for float16",
        )  # fmt: skip
    _check_companion(path, array.shape[0])
    return array


def _check_companion(path: Path, n_rows: int) -> None:
    """Raise TraceFormatError unless the inputs that DejaVu writes beside a layer's outputs have as many rows.

    They are float16 [n_tokens, hidden size], and the hidden size stands nowhere: it must be a whole number.
    """
    inputs = path.with_name(path.name.replace("label", "sp_x"))
    n_bytes = inputs.stat().st_size if inputs.is_file() else 0
    if n_bytes % (2 * n_rows):
        raise TraceFormatError(
            path, found=f"{n_rows} rows, and {n_bytes} bytes of {inputs.name} beside it",
            expected="a whole number of float16 inputs for each row",
            remedy="correct neurons=N or dtype, or copy the files again",
        )  # fmt: skip


def rows_written(array: StoredArray) -> int:
    """Return the number of rows up to the last that is not all zeros."""
    end = int(array.shape[0])
    step = _chunk_rows(array)
    while end > 0:
        start = max(0, end - step)
        used = np.flatnonzero(np.asarray(array[start:end]).any(axis=1))
        if used.size:
            return start + int(used[-1]) + 1
        end = start
    return 0


def _chunk_rows(array: AnyArray | StoredArray) -> int:
    return max(1, CHUNK_BYTES // (array.dtype.itemsize * int(array.shape[1])))


def row_chunks(array: AnyArray | StoredArray) -> Iterator[tuple[int, AnyArray]]:
    """Yield some rows at a time, each time with the number of the first."""
    step = _chunk_rows(array)
    for start in range(0, array.shape[0], step):
        yield start, np.asarray(array[start : start + step])
