"""The safetensors container: read and check a header, read tensors as bytes, write a file whole or not at all.

Traces, profiles, placements and checkpoints all lie in this container. The stock ``safetensors`` reader is used to
check what we write (`ripple_place.checkpoint.proof.verify`); reading and writing go through here because a rewrite
needs what it does not offer: extents of every tensor, bytes of any dtype without a framework, tensor order and data
alignment of our choosing, and tensors streamed in pieces.

References
----------
.. [1] https://github.com/huggingface/safetensors, section "Format".
"""

from __future__ import annotations

import json
import math
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ripple_place.errors import TensorFileError
from ripple_place.foreign import file_error
from ripple_place.inputfile import InputFile
from ripple_place.newfile import file_beside
from ripple_place.printable import without_surrogates
from ripple_place.storedarray import StoredArray
from ripple_place.version import is_later_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import BinaryIO

    from ripple_place.arrays import AnyArray

    Piece = bytes | memoryview | AnyArray

MAX_HEADER_BYTES = 100_000_000
"""Largest header that the stock reader accepts [1]_."""

DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Bits of one element, by safetensors dtype name."""

NUMPY_DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8",
}  # fmt: skip
"""The numpy dtype of each safetensors dtype that numpy knows."""

_TENSOR_DTYPES = {np.dtype(code): name for name, code in NUMPY_DTYPES.items()}


@dataclass(frozen=True)
class TensorExtent:
    """Where one tensor lies: `length_bytes` bytes from byte `offset_bytes` of its file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    length_bytes: int


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file with a checked header. No tensor data is read until asked for.

    Attributes
    ----------
    path : Path
    tensors : mapping of str to TensorExtent
        In the order in which the data lies in the file.
    metadata : mapping of str to str
    data_start_bytes : int
        Length of the length field and the header: where tensor data starts.
    size_bytes : int
    """

    path: Path
    tensors: Mapping[str, TensorExtent]
    metadata: Mapping[str, str]
    data_start_bytes: int
    size_bytes: int
    error: type[TensorFileError] = field(default=TensorFileError, repr=False)
    input: InputFile | None = field(default=None, repr=False, compare=False)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], error: type[TensorFileError] = TensorFileError, *, keep_open: bool = False
    ) -> TensorFile:
        """Read and check the header of the safetensors file at `path`.

        Parameters
        ----------
        path : path-like
        error : subclass of TensorFileError
            What to raise, so that a bad trace is a `TraceFormatError`.
        keep_open : bool
            Keep a descriptor, so that arrays come from this very file even if another one takes its name.

        Raises
        ------
        UsageError
            If it is no regular file.
        TensorFileError
            If the header is truncated, no JSON object, has duplicate or unknown keys, an unknown dtype, extents that
            overlap, leave holes or miss the file's end.
        OSError
            If the file cannot be read.
        """
        path = Path(path)
        file = InputFile(path)
        size_bytes = file.size_bytes
        prefix = os.pread(file.descriptor, 8, 0)
        length_bytes = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length_bytes > min(MAX_HEADER_BYTES, size_bytes - 8):
            raise file_error(
                error,
                path,
                found=f"{size_bytes} bytes" + (f" and a header of {length_bytes} bytes" if len(prefix) == 8 else ""),
                expected="a safetensors file: 8 bytes of header length, a header of at most 100 MB, tensor data",
                remedy=_COPY_AGAIN,
            )
        text = os.pread(file.descriptor, length_bytes, 8)
        entries = _parse_json(path, text, error)
        metadata = entries.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise error(
                f"{path}: __metadata__", found="values that are no strings", expected="strings", remedy=_WRITE_AGAIN
            )
        start_bytes = 8 + length_bytes
        extents = sorted(
            (_parse_entry(path, name, entry, start_bytes, error) for name, entry in entries.items()),
            key=lambda extent: (extent.offset_bytes, extent.length_bytes),
        )
        position = start_bytes
        for extent in extents:
            if extent.offset_bytes != position:
                raise error(
                    f"{path}: tensor {extent.name}",
                    found=f"data at byte {extent.offset_bytes - start_bytes} of the data",
                    expected=f"byte {position - start_bytes}: no holes, no overlaps",
                    remedy=_WRITE_AGAIN,
                )
            position += extent.length_bytes
        if position != size_bytes:
            raise file_error(
                error,
                path,
                found=f"{size_bytes} bytes",
                expected=f"{position} by the header",
                remedy="copy or download the file again, after what writes it has ended; it is truncated"
                if position > size_bytes
                else "copy or download the file again; something was appended to it",
            )
        tensors = {extent.name: extent for extent in extents}
        return cls(path, tensors, metadata, start_bytes, size_bytes, error, file if keep_open else None)

    def require_format(self, *formats: str, remedy: str) -> None:
        """Refuse a file whose metadata name another format, or one of these in another version.

        Parameters
        ----------
        *formats : str
            As ``ripple-place.trace/1``.
        remedy : str
            For a file of another kind; of a later version's file, the error itself says what to do.

        Raises
        ------
        TensorFileError
            In that case.
        """
        found = self.metadata.get("format")
        if found in formats:
            return
        is_later = any(is_later_version(found, known) for known in formats)
        raise self.error(
            self.path, found=f"format {found!r}", expected=" or ".join(formats),
            remedy="update ripple-place: a later version wrote this file" if is_later else remedy,
        )  # fmt: skip

    def array(self, name: str, *, dtype: str | None = None, n_axes: int | None = None) -> AnyArray:
        """Return tensor `name` as an array of its own.

        Parameters
        ----------
        name : str
        dtype : str, optional
            safetensors dtype that the tensor must have.
        n_axes : int, optional
            Number of axes that it must have.

        Raises
        ------
        TensorFileError
            If the tensor is missing, has another dtype or number of axes, or a dtype that numpy lacks.
        """
        return np.asarray(self.stored_array(name, dtype=dtype, n_axes=n_axes))

    def stored_array(self, name: str, *, dtype: str | None = None, n_axes: int | None = None) -> StoredArray:
        """Return tensor `name` as an array that stays in the file; parameters and errors as for `array`."""
        extent = self.tensors.get(name)
        if extent is None:
            raise self.error(
                self.path,
                found=f"no tensor {name}",
                expected="one by that name",
                remedy="write the file with this tensor",
            )
        if (dtype or extent.dtype) != extent.dtype or len(extent.shape) != (n_axes or len(extent.shape)):
            raise self.error(
                f"{self.path}: tensor {name}",
                found=f"{extent.dtype} {list(extent.shape)}",
                expected=f"{dtype or 'a'} tensor" + (f" with {n_axes} axes" if n_axes else ""),
                remedy="write the tensor that way",
            )
        if extent.dtype not in NUMPY_DTYPES:
            raise self.error(
                f"{self.path}: tensor {name}",
                found=extent.dtype,
                expected="a dtype that numpy has",
                remedy="read it as bytes",
            )
        numpy_dtype = np.dtype(NUMPY_DTYPES[extent.dtype])
        if extent.length_bytes == 0:
            try:
                np.empty(extent.shape, numpy_dtype)
            except ValueError as cause:  # [0, 2**62]: no bytes, and yet no array.
                raise self.error(
                    f"{self.path}: tensor {name}",
                    found=f"shape {list(extent.shape)}",
                    expected="sizes that fit in memory",
                    remedy=_WRITE_AGAIN,
                ) from cause
        file = self.input or InputFile(self.path)
        return StoredArray(file, f"tensor {name}", numpy_dtype, extent.shape, extent.offset_bytes, self.error)


@dataclass(frozen=True)
class TensorSource:
    """A tensor to be written: what the header says of it, and its bytes in pieces.

    `pieces` is iterated once, while writing; together the pieces must hold exactly the bytes that dtype and shape
    promise.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: Iterable[Piece]

    @classmethod
    def of_array(cls, name: str, array: AnyArray | StoredArray) -> TensorSource:
        """Describe an array that is in memory, or in another file."""
        if isinstance(array, StoredArray):
            return cls(name, _TENSOR_DTYPES[array.dtype], array.shape, array.chunks())
        contiguous = np.ascontiguousarray(array)
        dtype = contiguous.dtype.newbyteorder("<")
        return cls(name, _TENSOR_DTYPES[dtype], contiguous.shape, [contiguous.astype(dtype, copy=False)])

    @property
    def length_bytes(self) -> int:
        """Bytes that dtype and shape promise."""
        return tensor_bytes(self.dtype, self.shape)


def tensor_bytes(dtype: str, shape: Sequence[int]) -> int:
    """Return the bytes of a tensor; -1 if its bits are no whole bytes.

    >>> tensor_bytes("BF16", (3, 5)), tensor_bytes("F4", (3,))
    (30, -1)
    """
    n_bytes, n_bits_over = divmod(math.prod(shape) * DTYPE_BITS[dtype], 8)
    return -1 if n_bits_over else n_bytes


def _n_items_at_most(shape: Sequence[int], limit: int) -> int:
    """Return the product of sizes, or `limit` if it is larger: a million axes must not cost a product of millions."""
    if 0 in shape:
        return 0
    n_items = 1
    for size in shape:
        n_items *= size
        if n_items >= limit:
            return limit
    return n_items


def build_header(
    tensors: Sequence[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str], *, data_alignment_bytes: int = 8
) -> bytes:
    """Return the first bytes of a safetensors file: length field, JSON, and spaces up to the alignment.

    Parameters
    ----------
    tensors : sequence of (name, dtype, shape)
        In the order in which their data follows.
    metadata : mapping of str to str
        Of values that are no UTF-8, such as some file names, the rest is escaped (`ripple_place.printable`).
    data_alignment_bytes : int
        The returned length is a multiple of this (a multiple of 8).
    """
    entries: dict[str, Any] = {}
    if metadata:
        entries["__metadata__"] = {key: without_surrogates(value) for key, value in metadata.items()}
    position = 0
    for name, dtype, shape in tensors:
        end = position + tensor_bytes(dtype, shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    padding = -(8 + len(text)) % data_alignment_bytes
    return (len(text) + padding).to_bytes(8, "little") + text + b" " * padding


def write_tensor_file(
    path: str | os.PathLike[str],
    tensors: Sequence[TensorSource],
    metadata: Mapping[str, str],
    *,
    data_alignment_bytes: int = 8,
) -> None:
    """Write a safetensors file, flushed to storage; `path` appears whole or not at all.

    Parameters
    ----------
    path : path-like
        Replaced if it exists.
    tensors : sequence of TensorSource
        Written in this order, one piece after the other.
    metadata : mapping of str to str
    data_alignment_bytes : int
        Tensor data starts on a multiple of this.

    Raises
    ------
    OSError
        If storage refuses; nothing is left behind.
    """
    with replacing(path) as file:
        for piece in tensor_file_pieces(tensors, metadata, data_alignment_bytes=data_alignment_bytes):
            file.write(piece)


def tensor_file_pieces(
    tensors: Sequence[TensorSource], metadata: Mapping[str, str], *, data_alignment_bytes: int = 8
) -> Iterator[memoryview]:
    """Yield the bytes of a safetensors file from its header on; each piece is valid until the next is asked for.

    Parameters as of `write_tensor_file`.
    """
    yield memoryview(
        build_header(
            [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors],
            metadata,
            data_alignment_bytes=data_alignment_bytes,
        )
    )
    for tensor in tensors:
        n_bytes = 0
        for piece in map(as_bytes, tensor.pieces):
            n_bytes += piece.nbytes
            yield piece
        assert n_bytes == tensor.length_bytes, f"{tensor.name}: {n_bytes} bytes for {tensor.length_bytes}"


def as_bytes(piece: Piece) -> memoryview:
    """Return the bytes of a C-contiguous buffer without copying them."""
    view = memoryview(cast("bytes", piece))  # ndarray offers the buffer protocol; its stubs say so from 3.12 on
    return view.cast("B") if view.nbytes else memoryview(b"")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a file beside `path` to write to, and rename it to `path` once it is complete and flushed to storage.

    On any error, Ctrl-C included, the file is removed and `path` is as it was. A file that is replaced passes on its
    permissions; links, devices, pipes and sockets are refused.

    Raises
    ------
    UsageError
        If `path` is one of those.
    OSError
        If storage refuses.
    """
    path = Path(path)
    try:
        with file_beside(path) as new:
            with os.fdopen(new.descriptor, "wb", closefd=False) as file:
                yield file
                file.flush()
            new.rename_to(path)
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)  # The system names no file when a write fails.
        raise


_WRITE_AGAIN = "write the file again with a safetensors library"
_COPY_AGAIN = "copy or download the file again if it should be one, or give another"


def _parse_json(path: Path, text: bytes, error: type[TensorFileError]) -> dict[str, Any]:
    """Parse a header's JSON object; duplicate keys, which `json` would drop silently, are errors."""

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = dict(pairs)
        if len(keys) != len(pairs):
            raise ValueError("a key that stands twice")
        # A lone surrogate is no text: it can be neither written again nor printed.
        "".join(text for item in pairs for text in item if isinstance(text, str)).encode()
        return keys

    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=without_duplicates)
        if not isinstance(entries, dict):
            raise ValueError(f"a JSON {type(entries).__name__}")
    except (ValueError, RecursionError) as cause:
        raise file_error(
            error, path, where=f"{path}: header", found=str(cause),
            expected="a JSON object in UTF-8 without duplicate keys",
            remedy=_COPY_AGAIN,
        ) from cause  # fmt: skip
    return entries


def _parse_entry(path: Path, name: str, entry: Any, start_bytes: int, error: type[TensorFileError]) -> TensorExtent:
    """Return the extent that one header entry describes."""

    def is_size(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63

    where = f"{path}: tensor {name}"
    keys = set(entry) if isinstance(entry, dict) else set()
    if keys != {"dtype", "shape", "data_offsets"}:
        raise error(where, found=f"keys {sorted(keys)}", expected="dtype, shape, data_offsets", remedy=_WRITE_AGAIN)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise error(
            where,
            found=f"dtype {dtype!r}",
            expected=", ".join(DTYPE_BITS),
            remedy="write it in one of these",
        )
    if not (isinstance(shape, list) and all(map(is_size, shape))):
        raise error(where, found=f"shape {shape!r}", expected="a list of sizes", remedy=_WRITE_AGAIN)
    if not (
        isinstance(offsets, list) and len(offsets) == 2 and all(map(is_size, offsets)) and offsets[0] <= offsets[1]
    ):
        raise error(where, found=f"data_offsets {offsets!r}", expected="[start, end]", remedy=_WRITE_AGAIN)
    length_bytes = offsets[1] - offsets[0]
    if _n_items_at_most(shape, 2**200) == 2**200:
        raise error(
            where, found=f"a shape of {len(shape)} axes with 2**200 items or more",
            expected="a tensor that fits in the file", remedy=_WRITE_AGAIN,
        )  # fmt: skip
    if tensor_bytes(dtype, shape) != length_bytes:
        raise error(
            where,
            found=f"{length_bytes} bytes of data",
            expected=f"{tensor_bytes(dtype, shape)} for {dtype} {shape}",
            remedy=_WRITE_AGAIN,
        )
    return TensorExtent(name, dtype, tuple(shape), start_bytes + offsets[0], length_bytes)
