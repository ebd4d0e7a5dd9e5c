"""PowerInfer's counts: one torch file a layer, read without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.trace.adapters import AdapterSource
from ripple_place.trace.counts import read_counts
from tests.torch_files import write_torch_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("dtype", ["f4", "i8", "i4", "f8"])
def test_counts(tmp_path: Path, dtype: str) -> None:
    """Layer 10 comes after layer 9, which a sort by name gets wrong."""
    for layer in (10, 9):
        write_torch_file(tmp_path / f"activation_{layer}.pt", np.array([layer, 0, 3], dtype))
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
    write_torch_file(tmp_path / "activation_0.pt", np.array(values, "f4"))
    with pytest.raises(TraceFormatError, match="numbers that are no counts; expected one count for each neuron"):
        read_counts(AdapterSource.parse(f"powerinfer:{tmp_path}"))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.ones((2, 2), "f4"), r"float32 \[2, 2\]"),
        (np.ones(0, "f4"), r"float32 \[0\]"),
        ({"counts": np.ones(4, "f4")}, r"tensors \['counts'\]"),
    ],
)
def test_tensors_that_are_no_counts(tmp_path: Path, value: Any, found: str) -> None:
    """Sound torch files of something else."""
    write_torch_file(tmp_path / "activation_0.pt", value)
    with pytest.raises(TraceFormatError, match=f"found {found}, or .*expected one count for each neuron"):
        read_counts(AdapterSource.parse(f"powerinfer:{tmp_path}"))


@pytest.mark.parametrize(
    ("content", "found"), [(b"", "an empty file"), (b"no zip at all", "no whole zip archive")]
)  # fmt: skip
def test_damaged_files(tmp_path: Path, content: bytes, found: str) -> None:
    """The message says what is there instead, and what to do."""
    (tmp_path / "activation_0.pt").write_bytes(content)
    with pytest.raises(TraceFormatError, match=rf"activation_0.pt: found {found}; .*Copy or download it again"):
        read_counts(AdapterSource.parse(f"powerinfer:{tmp_path}"))


def test_nothing_there(tmp_path: Path) -> None:
    """A directory without such files."""
    with pytest.raises(UsageError, match=r"found no activation_0.pt and so on; expected a directory of them"):
        read_counts(AdapterSource.parse(f"powerinfer:{tmp_path}"))
