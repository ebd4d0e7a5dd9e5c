"""Reads tensors of safetensors files into memory of torch, with pread, one at a time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ripple_place.errors import CheckpointError, UnsupportedError
from ripple_place.inputfile import open_stream

if TYPE_CHECKING:
    from ripple_place.tensorfile import TensorFile

_TORCH_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def read_tensor(file: TensorFile, name: str) -> Any:
    """Return one tensor of a file, as it is stored.

    Raises
    ------
    UnsupportedError
        If torch has no such dtype.
    CheckpointError
        If the file was cut short after its header was read.
    OSError
        If it cannot be read.
    """
    import torch

    extent = file.tensors[name]
    if extent.dtype not in _TORCH_DTYPES:
        raise UnsupportedError(
            f"{file.path}: {name}", found=extent.dtype, expected=", ".join(_TORCH_DTYPES),
            remedy="profile the unquantised model",
        )  # fmt: skip
    dtype = getattr(torch, _TORCH_DTYPES[extent.dtype])
    if extent.length_bytes == 0:
        return torch.empty(extent.shape, dtype=dtype)
    # torch's own memory begins on a multiple of 64 bytes (`ripple_place.capture.model.align_weights`).
    buffer = torch.empty(extent.length_bytes, dtype=torch.uint8)
    into = memoryview(buffer.numpy())
    with open_stream(file.path) as stream:
        done = 0
        while done < extent.length_bytes:
            n_read = os.preadv(stream.fileno(), [into[done:]], extent.offset_bytes + done)
            if n_read == 0:
                raise CheckpointError(
                    f"{file.path}: {name}", found=f"an end after {done} bytes",
                    expected=f"{extent.length_bytes} bytes",
                    remedy="leave the checkpoint alone while it is read, and start again",
                )  # fmt: skip
            done += n_read
    return buffer.view(dtype).view(extent.shape)
