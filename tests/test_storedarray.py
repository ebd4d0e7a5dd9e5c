"""Arrays that stay in their file: rows are read when asked for, from the file opened, as long as it is whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from ripple_place.errors import TraceFormatError
from ripple_place.tensorfile import TensorFile, TensorSource, write_tensor_file

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.storedarray import StoredArray

ARRAY = np.arange(60, dtype=np.int32).reshape(10, 3, 2)


def stored(path: Path) -> StoredArray:
    """Return an array that lies behind another one in a new file."""
    save_file({"a": np.arange(7, dtype=np.int32), "b": ARRAY}, path)
    return TensorFile.open(path, TraceFormatError, keep_open=True).stored_array("b")


def test_rows_are_those_of_the_array(tmp_path: Path) -> None:
    """Slices of slices too, beyond the end and empty ones included."""
    array = stored(tmp_path / "x")
    assert (array.shape, array.ndim, array.size, len(array)) == (ARRAY.shape, 3, 60, 10)
    for rows in (slice(None), slice(2, 5), slice(-3, None), slice(8, 99), slice(5, 2)):
        np.testing.assert_array_equal(np.asarray(array[rows]), ARRAY[rows])
        np.testing.assert_array_equal(np.asarray(array[rows][1:3]), ARRAY[rows][1:3])
    assert np.asarray(array, np.float64).dtype == np.float64


def test_pieces_make_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array goes from file to file without being in memory as a whole."""
    monkeypatch.setattr("ripple_place.storedarray.CHUNK_BYTES", 50)
    array = stored(tmp_path / "x")
    assert [len(chunk) for chunk in array.chunks()] == [2] * 5
    write_tensor_file(tmp_path / "y", [TensorSource.of_array("c", array)], {})
    np.testing.assert_array_equal(TensorFile.open(tmp_path / "y").array("c"), ARRAY)


def test_a_file_that_is_cut_short(tmp_path: Path) -> None:
    """Where a mapping would end the process by a signal, there is a sentence."""
    array = stored(tmp_path / "x")
    os.truncate(tmp_path / "x", (tmp_path / "x").stat().st_size - 24)
    np.testing.assert_array_equal(np.asarray(array[:9]), ARRAY[:9])
    with pytest.raises(TraceFormatError, match=r"x: tensor b: found the file's end 24 bytes before .* start again\."):
        np.asarray(array)


def test_a_file_that_is_replaced(tmp_path: Path) -> None:
    """Another file that takes the name is not read in its place."""
    array = stored(tmp_path / "x")
    (tmp_path / "y").write_bytes(b"")
    (tmp_path / "y").replace(tmp_path / "x")
    np.testing.assert_array_equal(np.asarray(array), ARRAY)


def test_the_descriptor_goes_with_the_last_array(tmp_path: Path) -> None:
    """Arrays of a file share one, which is closed once nothing refers to them."""
    before = len(os.listdir("/proc/self/fd"))
    array = stored(tmp_path / "x")
    part = array[1:2]
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del array
    np.testing.assert_array_equal(np.asarray(part), ARRAY[1:2])
    del part
    assert len(os.listdir("/proc/self/fd")) == before
