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

_STORAGES = {"f8": "DoubleStorage", "f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage"}


def write_torch_file(path: Path, value: dict[str, np.ndarray] | np.ndarray, *, with_descriptors: bool = False) -> None:
    """Write a tensor, or a dict of them, as `torch.save` does.

    Parameters
    ----------
    path : Path
    value : dict of str to ndarray, or ndarray
    with_descriptors : bool
        Checksums behind the data, as torch writes them, rather than before.
    """
    arrays = list(value.values()) if isinstance(value, dict) else [value]
    text = b"\x80\x02"
    if isinstance(value, dict):
        text += b"}("
        for i, name in enumerate(value):
            text += _text(name) + _tensor(i, arrays[i])
        text += b"u."
    else:
        text += _tensor(0, arrays[0]) + b"."
    target: Any = _Unseekable() if with_descriptors else io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/data.pkl", text)
        for i, array in enumerate(arrays):
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
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _tuple(*values: int) -> bytes:
    return b"(" + b"".join(pickle.dumps(value, 2)[2:-1] for value in values) + b"t"


def _tensor(key: int, array: np.ndarray) -> bytes:
    """Return the pickled call of `_rebuild_tensor_v2`."""
    storage = _STORAGES[array.dtype.str[1:]]
    strides = [stride // array.itemsize for stride in np.ascontiguousarray(array).strides]
    pid = b"(" + _text("storage") + b"ctorch\n" + storage.encode() + b"\n" + _text(str(key)) + _text("cpu")
    pid += pickle.dumps(array.size, 2)[2:-1] + b"tQ"
    arguments = b"(" + pid + b"K\x00" + _tuple(*array.shape) + _tuple(*strides) + b"\x89"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"ccollections\nOrderedDict\n)R" + b"tR"
