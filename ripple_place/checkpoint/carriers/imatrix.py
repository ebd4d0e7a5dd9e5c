"""Importance matrices of llama.cpp: sums over inputs, of which those of the down projection follow the neurons.

The old format is a list of (name, calls, values); the new one is a GGUF file with a tensor ``{name}.in_sum2``. Up and
gate projections have values by hidden dimension: nothing moves there.

References
----------
ggml-org/llama.cpp, tools/imatrix/imatrix.cpp; ggml-org/ggml, GGUF specification.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from ripple_place.checkpoint.carriers.carrier import CarrierFile, CarrierPart, foreign_error
from ripple_place.checkpoint.model.neuron_tensor import NeuronTensor
from ripple_place.errors import CheckpointError
from ripple_place.foreign import file_error
from ripple_place.inputfile import read_input

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ripple_place.checkpoint.model.ffn import FfnModel

_DOWN = re.compile(r"blk\.(0|[1-9][0-9]{0,8})\.ffn_down(_exps|_shexp)?\.weight(?:\.in_sum2)?")
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of the scalar types of GGUF's metadata; 8 is a string, 9 an array."""
_STRING, _ARRAY, _F32 = 8, 9, 0


def describe_imatrix(model: FfnModel, path: Path, name: str) -> CarrierFile:
    """Return what follows the neurons in an importance matrix.

    Raises
    ------
    CheckpointError
        If it is malformed, or of another model.
    OSError
        If it cannot be read.
    """
    data = read_input(path, None)
    try:
        entries = list(_gguf_entries(data) if data[:4] == b"GGUF" else _dat_entries(data))
    except (struct.error, KeyError, ValueError, OverflowError, RecursionError) as cause:
        raise file_error(
            CheckpointError, path, found=f"no entries ({cause})", expected="an importance matrix of llama.cpp",
            remedy="give one that llama.cpp wrote, or copy this one again", formats=("GGUF",),
        ) from cause  # fmt: skip
    parts: list[CarrierPart] = []
    for entry, offset_bytes, n_values in entries:
        match = _DOWN.fullmatch(entry)
        if match is None:
            continue
        names = _block_names(model, int(match[1]), match[2])
        n_neurons = [model.ffns[block].n_neurons for block in names]
        if not names or sum(n_neurons) != n_values:
            raise foreign_error(
                f"{path}: {entry}", f"{n_values} values", f"{sum(n_neurons)}, as layer {match[1]} of the model has"
            )
        for i, block in enumerate(names):
            view = NeuronTensor(
                entry, "imatrix", "", "F32", n_before=1, n_neurons=n_neurons[i], n_after=1,
                begin_bytes=4 * sum(n_neurons[:i]),
            )  # fmt: skip
            parts.append(CarrierPart(offset_bytes, view, block))
    if not parts:
        raise foreign_error(path, "no entry of a down projection", "blk.N.ffn_down.weight")
    return CarrierFile(path, name, "imatrix", tuple(parts))


def _block_names(model: FfnModel, layer: int, kind: str | None) -> list[str]:
    """Return the blocks whose neurons an entry counts, in its order."""
    prefix = f"layers.{layer}"
    if kind == "_exps":
        return [block for block in model.ffns if block.startswith(f"{prefix}.experts.")]
    name = f"{prefix}.shared_expert" if kind == "_shexp" else prefix
    return [name] if name in model.ffns else []


def _dat_entries(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield (name, offset of the values in bytes, number of values) of the old format."""
    (n_entries,) = struct.unpack_from("<i", data)
    position = 4
    if not 0 < n_entries < 10**6:
        raise ValueError(f"{n_entries} entries")
    for _ in range(n_entries):
        (length,) = struct.unpack_from("<i", data, position)
        name = data[position + 4 : position + 4 + length].decode()
        position += 4 + length
        _, n_values = struct.unpack_from("<ii", data, position)
        if n_values < 0 or position + 8 + 4 * n_values > len(data):
            raise ValueError(f"{n_values} values")
        yield name, position + 8, n_values
        position += 8 + 4 * n_values


def _gguf_entries(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield (name, offset of the values in bytes, number of values) of the float32 tensors of a GGUF file."""
    _, n_tensors, n_pairs = struct.unpack_from("<IQQ", data, 4)
    position, alignment = 24, 32
    for _ in range(n_pairs):
        key, position = _string(data, position)
        (kind,) = struct.unpack_from("<I", data, position)
        if key == "general.alignment":
            (alignment,) = struct.unpack_from("<I", data, position + 4)
        position = _skip_value(data, position + 4, kind)
    if alignment < 1:
        raise ValueError("an alignment of 0 bytes")
    found = []
    for _ in range(n_tensors):
        name, position = _string(data, position)
        (n_axes,) = struct.unpack_from("<I", data, position)
        shape = struct.unpack_from(f"<{n_axes}Q", data, position + 4)
        dtype, offset = struct.unpack_from("<IQ", data, position + 4 + 8 * n_axes)
        position += 16 + 8 * n_axes
        n_values = 1
        for size in shape:
            n_values *= size
        if dtype == _F32:
            found.append((name, offset, n_values))
    start = -(-position // alignment) * alignment
    for name, offset, n_values in found:
        if start + offset + 4 * n_values > len(data):
            raise ValueError(f"{name} behind the file's end")
        yield name, start + offset, n_values


def _string(data: bytes, position: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", data, position)
    return data[position + 8 : position + 8 + length].decode(), position + 8 + length


def _skip_value(data: bytes, position: int, kind: int) -> int:
    if kind == _STRING:
        return _string(data, position)[1]
    if kind != _ARRAY:
        return position + _SCALARS[kind]
    inner, length = struct.unpack_from("<IQ", data, position)
    position += 12
    if inner in _SCALARS:
        return int(position + length * _SCALARS[inner])
    for _ in range(length):
        position = _skip_value(data, position, inner)
    return position
