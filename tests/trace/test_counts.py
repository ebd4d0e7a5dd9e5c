"""PowerInfer's counts: read without torch, and without doing what a wild pickle asks for."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.trace.adapters import AdapterSource
from ripple_place.trace.counts import read_counts, read_torch_tensor


class Named:
    """Pickled as a name of torch's, which need not be installed."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class TorchPickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes what torch.save writes of a tensor: a call of _rebuild_tensor_v2 on a storage that lies beside."""

    def save(self, item: Any, save_persistent_id: bool = True) -> Any:
        """Write names as names, storages as persistent ids."""
        if isinstance(item, Named):
            return self.write(b"c" + f"{item.module}\n{item.name}\n".encode())
        return super().save(item, save_persistent_id)

    def persistent_id(self, item: Any) -> Any:
        """Return what names a storage."""
        return item[1:] if isinstance(item, tuple) and item and item[0] == "persistent" else None


def write_tensor(
    path: Path, array: np.ndarray, storage: str, *, rebuild: str = "_rebuild_tensor_v2", offset: int = 0,
    shape: tuple[int, ...] | None = None, stride: tuple[int, ...] = (1,), n_items: int | None = None,
) -> None:  # fmt: skip
    """Write a tensor file as torch does."""

    class Call:
        def __reduce__(self) -> Any:
            key = ("persistent", "storage", Named("torch", storage), "0", "cpu", n_items or array.size)
            arguments = (key, offset, shape or array.shape, stride, False, {})
            return Named("torch._utils", rebuild), arguments

    class Pickler(TorchPickler):
        def save_reduce(self, function: Any, arguments: Any, *rest: Any, **more: Any) -> None:
            self.save(function)
            self.save(arguments)
            self.write(pickle.REDUCE)

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(Call())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("activation/data.pkl", buffer.getvalue())
        archive.writestr("activation/data/0", array.tobytes())


@pytest.mark.parametrize(
    ("storage", "dtype"), [("FloatStorage", "f4"), ("LongStorage", "i8"), ("IntStorage", "i4"), ("DoubleStorage", "f8")]
)
def test_counts(tmp_path: Path, storage: str, dtype: str) -> None:
    """Layer 10 comes after layer 9, which a sort by name gets wrong."""
    for layer in (10, 9):
        write_tensor(tmp_path / f"activation_{layer}.pt", np.array([layer, 0, 3], dtype), storage)
    counts = read_counts(AdapterSource.parse(f"powerinfer:{tmp_path}"))
    assert {name: values.tolist() for name, values in counts.blocks.items()} == {
        "layers.9": [9, 0, 3], "layers.10": [10, 0, 3],
    }  # fmt: skip
    assert list(counts.blocks) == ["layers.9", "layers.10"]
    assert counts.n_tokens is None
    assert read_counts(AdapterSource.parse(f"powerinfer:{tmp_path},tokens=10")).n_tokens == 10
    with pytest.raises(TraceFormatError, match=r"activation_10.pt: .*expected one count for each neuron, at most 9"):
        read_counts(AdapterSource.parse(f"powerinfer:{tmp_path},tokens=9"))


@pytest.mark.parametrize("values", [[-1.0, 2.0], [0.5, 1.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_numbers_that_are_no_counts(tmp_path: Path, values: list[float]) -> None:
    """Frequencies as shares, or damaged numbers, are not rounded into counts."""
    write_tensor(tmp_path / "activation_0.pt", np.array(values, "f4"), "FloatStorage")
    with pytest.raises(TraceFormatError, match="numbers that are no counts; expected one count for each neuron"):
        read_counts(AdapterSource.parse(f"powerinfer:{tmp_path}"))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rebuild": "_rebuild_parameter"}, "torch._utils._rebuild_parameter"),
        ({"storage": "QInt8Storage"}, "torch.QInt8Storage"),
        ({"shape": (2, 2)}, r"a tensor of shape \[2, 2\], or a view"),
        ({"stride": (0,)}, "or a view"),
        ({"offset": 2}, "2 numbers where 4 should be"),
        ({"offset": -1}, "or a view"),
        ({"n_items": 5}, "4 numbers where 5 should be"),
    ],
)
def test_wild_tensors(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    """Whatever is no plain vector of numbers is refused by what it asks for."""
    arguments = {"storage": "FloatStorage"} | changes
    write_tensor(tmp_path / "x.pt", np.arange(4, dtype="f4"), **arguments)
    with pytest.raises(TraceFormatError, match=f"x.pt: found .*{match}.*; expected one tensor"):
        read_torch_tensor(tmp_path / "x.pt")


def test_a_pickle_that_runs_code(tmp_path: Path) -> None:
    """It does not: its names are not looked up."""

    class Attack:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "touched",))

    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(Attack()))
    with pytest.raises(TraceFormatError, match="expected one tensor"):
        read_torch_tensor(tmp_path / "x.pt")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("content", [b"", b"no zip at all"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    """The message says how to write it again."""
    (tmp_path / "activation_0.pt").write_bytes(content)
    with pytest.raises(TraceFormatError, match=r"Save the counts again: torch.save\(counts, path\)"):
        read_counts(AdapterSource.parse(f"powerinfer:{tmp_path}"))


def test_nothing_there(tmp_path: Path) -> None:
    """A directory without such files."""
    with pytest.raises(UsageError, match=r"found no activation_0.pt and so on; expected a directory of them"):
        read_counts(AdapterSource.parse(f"powerinfer:{tmp_path}"))
