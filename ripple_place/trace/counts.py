"""Sources that are firing counts without activations: PowerInfer's and mbolt's.

PowerInfer keeps ``activation_{layer}.pt``, one number a neuron.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.inputfile import open_stream
from ripple_place.tensorfile import NUMPY_DTYPES, tensor_bytes
from ripple_place.torchfile import read_torch_file
from ripple_place.trace.adapters import AdapterSource
from ripple_place.trace.firing_counts import FiringCounts
from ripple_place.trace.mbolt import read_coactivation

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray, Int64Array
    from ripple_place.torchfile import TorchTensor


def is_counts(path: Path | str) -> bool:
    """Tell whether a source is firing counts rather than a trace.

    >>> is_counts("powerinfer:counts,tokens=10"), is_counts("powerinfer.npy"), is_counts("dense:powerinfer:x")
    (True, False, False)
    >>> is_counts("mbolt:coactivation_qwen3.json"), is_counts("coactivation_qwen3.json")
    (True, True)
    """
    return str(path).startswith(("powerinfer:", "mbolt:")) or str(path).endswith(".json")


def counts_source(path: Path | str) -> AdapterSource:
    """Return a source of counts as it is written, or the JSON file that it names.

    Raises
    ------
    UsageError
        If an option is unknown, twice there or empty.
    """
    text = str(path)
    is_written_out = text.startswith(("powerinfer:", "mbolt:"))
    return AdapterSource.parse(text) if is_written_out else AdapterSource("mbolt", Path(text), {})


def read_counts(source: AdapterSource) -> FiringCounts:
    """Read PowerInfer's counts, ``powerinfer:DIR[,tokens=N]``, or mbolt's, ``mbolt:FILE``.

    Raises
    ------
    UsageError
        If there are none at its path.
    TraceFormatError
        If a file is no tensor or no table of counts.
    """
    if source.kind == "mbolt":
        return read_coactivation(source.path)
    files = {
        int(match[1]): path
        for path in (source.path.iterdir() if source.path.is_dir() else [])
        if (match := re.fullmatch(r"activation_(\d+)\.pt", path.name))
    }
    if not files:
        raise UsageError(
            source,
            found="no activation_0.pt and so on",
            expected="a directory of them",
            remedy="give the directory that holds them",
        )
    n_tokens = source.count("tokens")
    blocks = {f"layers.{layer}": _counts(files[layer], n_tokens) for layer in sorted(files)}
    return FiringCounts(blocks, n_tokens)


def _counts(path: Path, n_tokens: int | None) -> Int64Array:
    tensors = read_torch_file(path, TraceFormatError)
    values = _read_values(path, tensors[""]) if tensors.keys() == {""} else None
    highest = 2**62 if n_tokens is None else n_tokens
    if values is None or values.ndim != 1 or not _are_counts(values, highest):
        found = f"tensors {sorted(tensors)}" if values is None else f"{values.dtype} {list(values.shape)}"
        raise TraceFormatError(
            path, found=f"{found}, or numbers that are no counts",
            expected="one count for each neuron" + ("" if n_tokens is None else f", at most {n_tokens}"),
            remedy="save them as one tensor of whole numbers, or correct tokens=N",
        )  # fmt: skip
    return values.astype(np.int64)


def _read_values(path: Path, tensor: TorchTensor) -> AnyArray | None:
    """Return a tensor's numbers; None if numpy has none of their kind."""
    dtype = NUMPY_DTYPES.get(tensor.dtype)
    if dtype is None:
        return None
    with open_stream(path) as file:
        file.seek(tensor.offset_bytes)
        data = file.read(tensor_bytes(tensor.dtype, tensor.shape))
    return np.frombuffer(data, dtype).reshape(tensor.shape)


def _are_counts(values: AnyArray, highest: int) -> bool:
    if not values.size or not np.isfinite(values).all():
        return False
    return bool((values == np.rint(values)).all() and 0 <= values.min() <= values.max() <= highest)
