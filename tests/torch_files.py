"""Files as torch saves them, written by hand: the tests of the reader run where torch is not installed."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

_STORAGES = {"f8": "DoubleStorage", "f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage", "i4": "IntStorage"}


def write_torch_file(
    path: Path, value: dict[str, np.ndarray] | np.ndarray, *, with_descriptors: bool = False, **claims: Any
) -> None:
    """Write a tensor, or a dict of them, as `torch.save` does.

    Parameters
    ----------
    path : Path
    value : dict of str to ndarray, or ndarray
    with_descriptors : bool
        Checksums behind the data, as torch writes them, rather than before.
    **claims
        What the pickle says of each tensor instead of the truth: `storage`, `key`,
        `rebuild`, `offset`, `shape`, `strides`.
    """
    arrays = list(value.values()) if isinstance(value, dict) else [value]
    text = b"\x80\x02"
    if isinstance(value, dict):
        text += b"}("
        for i, name in enumerate(value):
            text += _text(name) + _tensor(i, arrays[i], **claims)
        text += b"u."
    else:
        text += _tensor(0, arrays[0], **claims) + b"."
    target: Any = _Unseekable() if with_descriptors else io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/data.pkl", text)
        for i, array in enumerate(arrays[:1] if "key" in claims else arrays):
            archive.writestr(f"archive/data/{i}", array.tobytes())
        archive.writestr("archive/version", b"3\n")
    path.write_bytes(target.getvalue())


class _Unseekable(io.BytesIO):
    """A stream, behind whose members zip files have their checksums."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise OSError

    def tell(self) -> int:
        raise OSError


def _text(value: str) -> bytes:
    data = value.encode(errors="surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def _tuple(*values: int) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"


def _number(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def _tensor(
    number: int, array: np.ndarray, *, key: int | None = None, storage: str | None = None,
    rebuild: str = "_rebuild_tensor_v2", offset: int = 0,
    shape: tuple[int, ...] | None = None, strides: tuple[int, ...] | None = None,
) -> bytes:  # fmt: skip
    """Return the pickled call that rebuilds a tensor."""
    storage = storage or _STORAGES[array.dtype.str[1:]]
    if strides is None:
        strides = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides)
    pid = (
        b"("
        + _text("storage")
        + b"ctorch\n"
        + storage.encode()
        + b"\n"
        + _text(str(number if key is None else key))
        + _text("cpu")
    )
    pid += _number(array.size) + b"tQ"
    sizes = _tuple(*(array.shape if shape is None else shape)) + _tuple(*strides)
    arguments = b"(" + pid + _number(offset) + sizes + b"\x89"
    return f"ctorch._utils\n{rebuild}\n".encode() + arguments + b"ccollections\nOrderedDict\n)R" + b"tR"
