"""Firing counts without activations, as PowerInfer keeps them: ``activation_{layer}.pt``, one number a neuron."""

from __future__ import annotations

import pickle
import re
import zipfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ripple_place.errors import TraceFormatError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from ripple_place.trace.adapters import AdapterSource

_DTYPES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class FiringCounts:
    """How often each neuron fired.

    Attributes
    ----------
    blocks : mapping of str to ndarray of shape (n_neurons,), int64
        In model order.
    n_tokens : int or None
        Tokens counted on, where known.
    """

    blocks: Mapping[str, npt.NDArray[np.int64]]
    n_tokens: int | None


def read_counts(source: AdapterSource) -> FiringCounts:
    """Read PowerInfer's counts, ``powerinfer:DIR[,tokens=N]``.

    Raises
    ------
    UsageError
        If there are none at its path.
    TraceFormatError
        If a file is no tensor of counts.
    """
    files = {
        int(match[1]): path
        for path in (source.path.iterdir() if source.path.is_dir() else [])
        if (match := re.fullmatch(r"activation_(\d+)\.pt", path.name))
    }
    if not files:
        raise UsageError(
            source, found="no activation_0.pt and so on", expected="a directory of them", remedy="check the path"
        )
    n_tokens = source.count("tokens")
    blocks = {f"layers.{layer}": _counts(files[layer], n_tokens) for layer in sorted(files)}
    return FiringCounts(blocks, n_tokens)


def _counts(path: Path, n_tokens: int | None) -> npt.NDArray[np.int64]:
    values = read_torch_tensor(path)
    whole = np.asarray(np.rint(values.astype(np.float64)), np.int64) if np.isfinite(values).all() else None
    highest = 2**62 if n_tokens is None else n_tokens
    if values.ndim != 1 or values.size == 0 or whole is None or (whole != values).any() or not (
        0 <= whole.min() <= whole.max() <= highest
    ):  # fmt: skip
        raise TraceFormatError(
            path, found=f"{values.dtype} {list(values.shape)}, or numbers that are no counts",
            expected="one count for each neuron" + ("" if n_tokens is None else f", at most {n_tokens}"),
            remedy="count again, or correct tokens=N",
        )  # fmt: skip
    return whole


def read_torch_tensor(path: Path) -> npt.NDArray[Any]:
    """Return the tensor in a file that torch.save wrote, without torch and without running what the pickle asks for.

    Raises
    ------
    TraceFormatError
        If the file is damaged, or holds anything but one tensor of numbers.
    OSError
        If it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
            folder = name.removesuffix("data.pkl")
            with archive.open(name) as file:
                tensor = _TensorUnpickler(file, archive, folder).load()
        if not isinstance(tensor, np.ndarray):
            raise pickle.UnpicklingError(f"a {type(tensor).__name__}")
    except OSError:
        raise
    except Exception as cause:  # A wild pickle can raise anything.
        raise TraceFormatError(
            path, found=str(cause) or type(cause).__name__, expected="one tensor, as torch.save writes it",
            remedy="save the counts again: torch.save(counts, path)",
        ) from cause  # fmt: skip
    return tensor


class _TensorUnpickler(pickle.Unpickler):
    """Knows the few names that a plain tensor's pickle uses, and refuses all others."""

    def __init__(self, file: IO[bytes], archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name of torch's."""
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return _rebuild
        if module == "torch" and name in _DTYPES:
            return np.dtype(_DTYPES[name])
        if module == "collections" and name == "OrderedDict":
            return dict
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, key: Any) -> npt.NDArray[Any]:
        """Return the numbers of one storage."""
        kind, dtype, name, _, n_items = key
        data = self._archive.read(f"{self._folder}data/{name}") if kind == "storage" else b""
        numbers = np.frombuffer(data, dtype)
        if numbers.size != n_items:
            raise pickle.UnpicklingError(f"{numbers.size} numbers where {n_items} should be")
        return numbers


def _rebuild(storage: npt.NDArray[Any], offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    """Return a tensor's numbers; views that leave their storage are refused by numpy."""
    if len(shape) != 1 or stride != (1,) or offset < 0:
        raise pickle.UnpicklingError(f"a tensor of shape {list(shape)}, or a view")
    numbers = storage[offset : offset + shape[0]]
    if numbers.size != shape[0]:
        raise pickle.UnpicklingError(f"{numbers.size} numbers where {shape[0]} should be")
    return numbers
