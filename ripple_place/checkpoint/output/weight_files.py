"""Which files hold weights, by name or by how they begin: in another order of neurons, they would be stale."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from ripple_place.inputfile import open_stream

if TYPE_CHECKING:
    from pathlib import Path

_ENDINGS = (
    # torch, its exports and trainers
    ".bin", ".pt", ".pth", ".ckpt", ".ptl", ".pte", ".pt2", ".distcp", ".nemo",
    # other frameworks
    ".msgpack", ".h5", ".hdf5", ".keras", ".ot", ".pb", ".caffemodel", ".mlmodel", ".params", ".pdparams", ".pdopt",
    ".pdiparams", ".mnn", ".mnn.weight", ".weights", ".npz",
    # what runtimes load
    ".gguf", ".ggml", ".llamafile", ".dduf", ".onnx", ".onnx_data", ".onnx.data", ".ort", ".tflite", ".litertlm",
    ".engine", ".rkllm",
)  # fmt: skip
_SAFETENSORS = ".safetensors"
_INDEX = re.compile(r".*\.(safetensors|bin|h5|msgpack|ckpt)\.index(\.[\w-]+)?\.json")
"""An index of shards, perhaps of a variant: ``model.safetensors.index.fp16.json``."""
_TENSORFLOW_SHARD = re.compile(r".*(\.data-\d{5}-of-\d{5}|\.ckpt(-\d+)?\.(index|meta))")
_MAGICS = (b"GGUF", b"ggml", b"fmgg", b"tjgg", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY")
_BEGINNING_BYTES = 512
_MAX_HEADER_BYTES = 100_000_000
"""Of a safetensors file, as its reference implementation has it (safetensors, src/tensor.rs)."""


def stale_reason(file: Path) -> str | None:
    """Return why a file beside the model's own shards and index would be stale, None if it holds no weights.

    Endings tell first, in whatever case. A file without one of them is opened: weights that were renamed begin as
    weights do.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    name = file.name.lower()
    if name.endswith(_SAFETENSORS) or (_INDEX.fullmatch(name) and _SAFETENSORS in name):
        return "weights that are not part of the model, which would be stale"
    if (
        name.endswith(_ENDINGS)
        or _INDEX.fullmatch(name)
        or _TENSORFLOW_SHARD.fullmatch(name)
        or _begins_as_weights(file)
    ):
        return "weights in another format, which would be stale"
    return None


def _begins_as_weights(file: Path) -> bool:
    """Tell whether a file begins as GGUF, HDF5, numpy, safetensors or an archive of torch does."""
    with open_stream(file) as stream:
        beginning = stream.read(_BEGINNING_BYTES)
    if beginning.startswith(_MAGICS):
        return True
    if beginning[8:9] == b"{" and len(beginning) > 8:
        (header_bytes,) = struct.unpack_from("<Q", beginning)
        return bool(2 <= header_bytes <= _MAX_HEADER_BYTES)
    return beginning.startswith(b"PK\x03\x04") and b"/data.pkl" in beginning
