"""Tensors in a file that torch saved, found without torch and without running what the file's pickle asks for.

Such a file is an uncompressed zip archive: `data.pkl` describes the tensors, ``data/0`` and so on hold their bytes.

References
----------
torch/serialization.py.
"""

from __future__ import annotations

import errno
import io
import math
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from ripple_place.errors import TensorFileError, UnsupportedError
from ripple_place.foreign import file_error
from ripple_place.inputfile import open_stream
from ripple_place.tensorfile import tensor_bytes
from ripple_place.torchpickle import TensorClaim, read_torch_pickle

if TYPE_CHECKING:
    from pathlib import Path

_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How torch before 1.6 began its files (torch/serialization.py, MAGIC_NUMBER)."""
_MAX_SHARING = 64
"""Tied weights lie once in a file; a file of which each part is in so many tensors and more is made to fill a disk."""
_COPY_AGAIN = "copy or download it again if it should be one, or give another"
_SAVE_AGAIN = "load it with torch and save it again: torch.save(contiguous tensors, or a dict of them by plain names)"


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
    UsageError
        If it is no regular file.
    OSError
        If it cannot be read.

    Notes
    -----
    Nothing that the file's pickle names is run (`ripple_place.torchpickle`), and it takes no more time and memory than
    the file's size accounts for.
    """
    with open_stream(path) as file:
        try:
            return _read_archive(path, file, error)
        except TensorFileError:
            raise
        except zipfile.BadZipFile as cause:
            expected = "a file that torch 1.6 or later saved"
            if os.pread(file.fileno(), len(_LEGACY_MAGIC), 0) == _LEGACY_MAGIC:
                raise UnsupportedError(
                    path, found="the format of torch before 1.6", expected=expected, remedy=_SAVE_AGAIN
                ) from cause
            raise file_error(
                error,
                path,
                found="no whole zip archive",
                expected=expected,
                remedy=_COPY_AGAIN,
                formats=("zip", "torch"),
            ) from cause
        except (ValueError, KeyError, NotImplementedError, RuntimeError, OSError, struct.error, OverflowError) as cause:
            # A damaged archive has zipfile seek to where nothing can be.
            if isinstance(cause, OSError) and cause.errno != errno.EINVAL:
                raise
            raise error(
                path, found=f"a damaged archive ({cause})", expected="a torch file", remedy=_COPY_AGAIN
            ) from cause


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


def _read_archive(path: Path, file: BinaryIO, error: type[TensorFileError]) -> dict[str, TorchTensor]:
    size_bytes = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if len(members) != len(archive.infolist()):
            raise ValueError("two members of one name")
        if any(not 0 <= member.header_offset < size_bytes for member in members.values()):
            raise ValueError("a member that lies outside of the file")
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1 or any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise error(path, found="no plain archive of tensors", expected="a torch file", remedy=_SAVE_AGAIN)
        value = _read_pickle(path, archive, members[pickles[0]], size_bytes, error)
    root = pickles[0].removesuffix("data.pkl")
    tensors: dict[str, TorchTensor] = {}
    total_bytes = 0
    for name, claim in (value if isinstance(value, dict) else {"": value}).items():
        if not isinstance(name, str) or not isinstance(claim, TensorClaim) or not claim.is_contiguous:
            raise error(
                f"{path}: {name}", found="something that is no contiguous tensor", expected="tensors by name",
                remedy=_SAVE_AGAIN,
            )  # fmt: skip
        tensors[name] = _locate(f"{path}: {name}", file, members[f"{root}data/{claim.key}"], claim, size_bytes, error)
        total_bytes += tensor_bytes(claim.dtype, claim.shape)
    if total_bytes > _MAX_SHARING * size_bytes:
        raise error(
            path, found=f"tensors of {total_bytes} bytes in a file of {size_bytes}, whose memory they share",
            expected=f"at most {_MAX_SHARING} tensors on the same memory", remedy=_SAVE_AGAIN,
        )  # fmt: skip
    return tensors


def _read_pickle(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, size_bytes: int, error: type[TensorFileError]
) -> Any:
    """Return what the archive's pickle describes."""
    try:
        # zipfile allocates as many bytes as the directory promises before it reads any.
        if max(member.file_size, member.compress_size) > size_bytes:
            raise ValueError(f"a pickle longer than the file's {size_bytes} bytes")
        return read_torch_pickle(archive.read(member))
    except (ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile, EOFError) as cause:
        raise error(
            path, found=str(cause) or type(cause).__name__, expected="tensors and nothing else", remedy=_SAVE_AGAIN
        ) from cause


def _locate(
    where: str, file: BinaryIO, member: zipfile.ZipInfo, claim: TensorClaim, size_bytes: int,
    error: type[TensorFileError],
) -> TorchTensor:  # fmt: skip
    """Return where a tensor lies in the file, all of it."""
    header = os.pread(file.fileno(), 30, member.header_offset)
    if not header.startswith(b"PK\x03\x04"):
        raise ValueError(f"no member at byte {member.header_offset}, where {member.filename} is to be")
    begin_bytes = member.header_offset + _local_header_bytes(header)
    item_bytes = tensor_bytes(claim.dtype, (1,))
    end_bytes = (claim.offset + math.prod(claim.shape)) * item_bytes
    if end_bytes > member.file_size or begin_bytes + end_bytes > size_bytes:
        raise error(
            where, found=f"{claim.dtype} {list(claim.shape)} behind its storage's end",
            expected=f"at most {member.file_size} bytes", remedy=_SAVE_AGAIN,
        )  # fmt: skip
    return TorchTensor(claim.dtype, claim.shape, begin_bytes + claim.offset * item_bytes)


def _local_header_bytes(header: bytes | bytearray) -> int:
    """Return the length of a member's local header, of which the fixed part is given, with its name and extra field."""
    lengths: tuple[int, int] = struct.unpack_from("<HH", header, 26)
    return 30 + sum(lengths)
