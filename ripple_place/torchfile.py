"""Tensors in a file that torch saved, found without torch and without running what the file's pickle asks for.

Such a file is an uncompressed zip archive: `data.pkl` describes the tensors, ``data/0`` and so on hold their bytes.
Only the few names that tensors need are looked up; anything else is refused.

References
----------
torch/serialization.py, torch/_utils.py (`_rebuild_tensor_v2`).
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.errors import TensorFileError, UnsupportedError
from ripple_place.tensorfile import tensor_bytes

if TYPE_CHECKING:
    from pathlib import Path

_DTYPES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
_MAX_AXES = 16
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How torch before 1.6 began its files (torch/serialization.py, MAGIC_NUMBER)."""
_SAVE_AGAIN = "load it with torch and save it again: torch.save(contiguous tensors or a dict of them)"


@dataclass(frozen=True)
class TorchTensor:
    """A contiguous tensor in a torch file: safetensors dtype name, shape, and where its bytes begin in the file."""

    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int


def read_torch_file(path: Path, error: type[TensorFileError] = TensorFileError) -> dict[str, TorchTensor]:
    """Return the tensors of a torch file by name; a bare tensor has the name ``""``.

    Parameters
    ----------
    path : Path
    error : subclass of TensorFileError
        What to raise, so that bad counts are a `TraceFormatError`.

    Raises
    ------
    TensorFileError
        If it is no file of contiguous tensors, is damaged or compressed.
    UnsupportedError
        If torch before 1.6 saved it.
    OSError
        If it cannot be read.

    Notes
    -----
    Nothing that the file's pickle names is run, and no more is allocated than the file's size accounts for.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(path, archive, error)
    except TensorFileError:
        raise
    except (ValueError, KeyError, NotImplementedError, RuntimeError, struct.error, OverflowError) as cause:
        raise error(path, found=f"a damaged archive ({cause})", expected="a torch file", remedy=_SAVE_AGAIN) from cause
    except zipfile.BadZipFile as cause:
        expected = "a file that torch 1.6 or later saved"
        with path.open("rb") as file:
            if file.read(len(_LEGACY_MAGIC)) == _LEGACY_MAGIC:
                raise UnsupportedError(
                    path, found="the format of torch before 1.6", expected=expected, remedy=_SAVE_AGAIN
                ) from cause
        raise error(path, found="no zip archive", expected=expected, remedy=_SAVE_AGAIN) from cause


def refresh_checksums(data: bytearray) -> None:
    """Put the CRC-32 of every member of a zip archive right, in place, wherever the archive repeats it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members, position = archive.infolist(), archive.start_dir
    for member in members:
        begin = member.header_offset + _local_header_bytes(data[member.header_offset : member.header_offset + 30])
        checksum = struct.pack("<I", zlib.crc32(memoryview(data)[begin : begin + member.file_size]))
        old = struct.pack("<I", member.CRC)
        if data[member.header_offset + 14 : member.header_offset + 18] == old:
            data[member.header_offset + 14 : member.header_offset + 18] = checksum
        # A data descriptor follows the data where the local header could not have the checksum yet.
        if member.flag_bits & 8:
            after = begin + member.compress_size
            after += 4 if data[after : after + 4] == b"PK\x07\x08" else 0
            data[after : after + 4] = checksum
        data[position + 16 : position + 20] = checksum
        lengths = struct.unpack_from("<HHH", data, position + 28)
        position += 46 + sum(lengths)


def _read_archive(path: Path, archive: zipfile.ZipFile, error: type[TensorFileError]) -> dict[str, TorchTensor]:
    size_bytes = path.stat().st_size
    members = archive.infolist()
    pickles = [member for member in members if member.filename.endswith("/data.pkl")]
    if len(pickles) != 1 or any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise error(path, found="no plain archive of tensors", expected="a torch file", remedy=_SAVE_AGAIN)
    root = pickles[0].filename.removesuffix("data.pkl")
    try:
        # zipfile allocates as many bytes as the directory promises before it reads any.
        if max(pickles[0].file_size, pickles[0].compress_size) > size_bytes:
            raise ValueError(f"a pickle longer than the file's {size_bytes} bytes")
        text = archive.read(pickles[0])
        _refuse_bombs(text)
        value = _TensorUnpickler(text).load()
    except Exception as cause:  # A wild pickle can raise anything.
        raise error(
            path, found=str(cause) or type(cause).__name__, expected="tensors and nothing else", remedy=_SAVE_AGAIN
        ) from cause
    by_name = value if isinstance(value, dict) else {"": value}
    tensors = {}
    with path.open("rb") as file:
        for name, tensor in by_name.items():
            if not isinstance(name, str) or not isinstance(tensor, _Tensor) or not tensor.is_contiguous:
                raise error(
                    f"{path}: {name}", found="something that is no contiguous tensor", expected="tensors by name",
                    remedy=_SAVE_AGAIN,
                )  # fmt: skip
            member = archive.getinfo(f"{root}data/{tensor.key}")
            file.seek(member.header_offset)
            begin_bytes = member.header_offset + _local_header_bytes(file.read(30))
            item_bytes = tensor_bytes(tensor.dtype, (1,))
            end_bytes = (tensor.offset + math.prod(tensor.shape)) * item_bytes
            if end_bytes > member.file_size or begin_bytes + end_bytes > size_bytes:
                raise error(
                    f"{path}: {name}", found=f"{tensor.dtype} {list(tensor.shape)} behind its storage's end",
                    expected=f"at most {member.file_size} bytes", remedy=_SAVE_AGAIN,
                )  # fmt: skip
            tensors[name] = TorchTensor(tensor.dtype, tensor.shape, begin_bytes + tensor.offset * item_bytes)
    return tensors


def _refuse_bombs(text: bytes) -> None:
    """Raise ValueError if a pickle ends early, or numbers what it remembers so that the table would not fit memory."""
    for opcode, argument, _ in pickletools.genops(text):
        if opcode.name.endswith("PUT") and int(argument or 0) > len(text):
            raise ValueError(f"entry {argument} of a pickle of {len(text)} bytes")


def _local_header_bytes(header: bytes | bytearray) -> int:
    """Return the length of a member's local header, of which the fixed part is given, with its name and extra field."""
    lengths: tuple[int, int] = struct.unpack_from("<HH", header, 26)
    return 30 + sum(lengths)


@dataclass(frozen=True)
class _Tensor:
    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_contiguous(self) -> bool:
        """Whether items follow each other: as in torch, strides of axes of one say nothing, nor those of no items."""
        if len(self.strides) != len(self.shape):
            return False
        size = 1
        for length, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if length != 1 and stride != size and 0 not in self.shape:
                return False
            size *= length
        return True


def _rebuild_tensor(storage: tuple[str, str], offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not all(type(size) is int and 0 <= size < 2**48 for size in (offset, *shape)) or len(shape) > _MAX_AXES:
        raise ValueError(f"a tensor of shape {shape!r} from item {offset!r} on")
    return _Tensor(storage[0], storage[1], offset, tuple(shape), tuple(strides))


class _TensorUnpickler(pickle.Unpickler):
    """Unpickles tensors as their descriptions; every name that they do not need is an error."""

    def __init__(self, text: bytes) -> None:
        super().__init__(io.BytesIO(text))

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name in the pickle."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise ValueError(f"{module}.{name} in the pickle")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        """Return key and dtype of a storage."""
        kind, dtype, key, *_ = pid
        if kind != "storage" or dtype not in _DTYPES.values():
            raise ValueError(f"a storage of {dtype!r}")
        return str(key), dtype
