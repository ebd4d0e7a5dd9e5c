"""An array in a file, of which rows are read when they are asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.inputfile import read_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.arrays import AnyArray
    from ripple_place.errors import TensorFileError
    from ripple_place.inputfile import InputFile


CHUNK_BYTES = 8 << 20
"""Read at a time by those who need all rows, but not at once."""


class StoredArray:
    """An array whose rows stay in a file. Not mapped: see `ripple_place.inputfile`.

    A slice of consecutive rows is another one; ``numpy.asarray`` reads, anew each time.

    Parameters
    ----------
    file : InputFile
    where : str
        Name of the array, for messages.
    dtype : numpy dtype
    shape : tuple of int
    offset_bytes : int
        Where the first item lies.
    error : subclass of TensorFileError
        What to raise if the file ends before.
    """

    def __init__(
        self, file: InputFile, where: str, dtype: np.dtype[Any], shape: tuple[int, ...], offset_bytes: int,
        error: type[TensorFileError],
    ) -> None:  # fmt: skip
        self.dtype, self.shape = dtype, shape
        self._file, self._where, self._offset_bytes, self._error = file, where, offset_bytes, error

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of items."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: slice) -> StoredArray:
        """Return some consecutive rows, which stay in the file."""
        start, stop, step = rows.indices(self.shape[0])
        assert step == 1
        row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        shape = (max(0, stop - start), *self.shape[1:])
        offset_bytes = self._offset_bytes + start * row_bytes
        return StoredArray(self._file, self._where, self.dtype, shape, offset_bytes, self._error)

    def chunks(self) -> Iterator[AnyArray]:
        """Yield the rows, some at a time."""
        step = max(1, CHUNK_BYTES // max(1, self.dtype.itemsize * math.prod(self.shape[1:])))
        for start in range(0, len(self), step):
            yield np.asarray(self[start : start + step])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        """Read the rows.

        Raises
        ------
        TensorFileError
            If the file was cut short since it was checked.
        OSError
            If it cannot be read.
        """
        array = np.empty(self.shape, self.dtype)
        n_missing = read_at(self._file.descriptor, array.reshape(-1).view(np.uint8).data, self._offset_bytes)
        if n_missing:
            raise self._error(
                f"{self._file.path}: {self._where}",
                found=f"the file's end {n_missing} bytes before that of the array: it was cut short meanwhile",
                expected=f"{array.nbytes} bytes, as when it was opened",
                remedy="leave the file alone while it is read, and start again",
            )
        return array if dtype is None else array.astype(dtype, copy=False)
