"""Reads the first components of all units of a block into memory: gates, or gates and up."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.errors import CheckpointError
from ripple_place.generation.row_form import regions_of
from ripple_place.inputfile import open_stream, read_at

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ripple_place.arrays import UInt8Array

_PIECE_BYTES = 8 << 20


def read_first_bytes(path: Path, entry: Mapping[str, Any], n_bytes: int) -> UInt8Array:
    """Return what the rows of a block begin with.

    Parameters
    ----------
    path : Path
        The bundled file.
    entry : mapping
        Of its index.
    n_bytes : int
        Of a row, gates first.

    Returns
    -------
    ndarray of shape (n_units, n_bytes), uint8

    Raises
    ------
    CheckpointError
        If the file is cut short.
    OSError
        If it cannot be read.

    Notes
    -----
    The pages that were read are dropped from the page cache: a reader that bypasses it has no use for them.
    """
    n_units = entry["n_neurons"]
    weights = np.empty((n_units, n_bytes), np.uint8)
    done = 0
    with open_stream(path) as file:
        for region in regions_of(entry):
            stride, of_region = region["stride_bytes"], sum(part["length_bytes"] for part in region["components"])
            taken = min(of_region, n_bytes - done)
            if taken <= 0:
                break
            n_rows = max(1, _PIECE_BYTES // stride)
            for first in range(0, n_units, n_rows):
                stop = min(first + n_rows, n_units)
                # The last bundle of a file may end before its stride.
                piece = np.empty((stop - first - 1) * stride + of_region, np.uint8)
                at = region["offset_bytes"] + first * stride
                _read(path, file.fileno(), piece, at)
                rows = np.lib.stride_tricks.as_strided(piece, (stop - first, taken), (stride, 1), writeable=False)
                weights[first:stop, done : done + taken] = rows
            done += taken
    return weights


def _read(path: Path, descriptor: int, piece: UInt8Array, offset_bytes: int) -> None:
    missing = read_at(descriptor, memoryview(piece), offset_bytes)  # type: ignore[arg-type]
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset_bytes, piece.size, os.POSIX_FADV_DONTNEED)
    if missing:
        raise CheckpointError(
            path, found=f"an end {missing} bytes before that of a block", expected="the file as `reorder` wrote it",
            remedy="copy it again from where it was written, or run `ripple-place reorder` again",
        )  # fmt: skip
