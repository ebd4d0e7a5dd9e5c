"""The FFNs of source and output, computed on random input: no order and no permutation comes into it.

An activation acts on each neuron by itself, so which one it is does not matter to the comparison; SiLU is used for all.
Weights are streamed, turned into float64 a few megabytes at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.blocks import input_block_of
from ripple_place.checkpoint.fileio import CHUNK_BYTES, opened, read_into
from ripple_place.checkpoint.names import BUNDLED_FILE
from ripple_place.checkpoint.proof.compare import AGAIN
from ripple_place.errors import VerificationError
from ripple_place.tensorfile import TensorFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ripple_place.arrays import Float64Array, Int64Array, UInt8Array
    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.checkpoint.model.ffn_block import FfnBlock
    from ripple_place.checkpoint.model.neuron_tensor import Component, NeuronTensor

    Pieces = Iterator[tuple[slice | Int64Array, slice, Float64Array]]

_N_INPUTS = 2
_TOLERANCE = 1e-9
_SEED = 20241029
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def compare_forward(out: Path, model: FfnModel, bundled: Mapping[str, Any] | None, *, drop_in: bool) -> int:
    """Return the number of FFN blocks that compute the same in an output as in its source, on random input.

    Parameters
    ----------
    out : Path
        The output directory.
    model : FfnModel
        The source.
    bundled : mapping or None
        Index of the output's bundled file, read from `out / BUNDLED_FILE` where there are no drop-in shards.
    drop_in : bool
        Whether the output has the drop-in shards.

    Returns
    -------
    int
        Blocks whose weights are F64, F32, F16 or BF16; others are left out, since what their integers stand for depends
        on the scheme.

    Raises
    ------
    VerificationError
        If the outputs of a block differ by more than 1e-9 of the largest: its sums run in another order, no more.
    OSError
        If a file cannot be read.
    """
    n_compared = 0
    for name, block in model.ffns.items():
        if not _is_float(block):
            continue
        x = np.random.default_rng(_SEED).standard_normal((_N_INPUTS, block.hidden))
        in_bundles = None if drop_in or bundled is None else (out / BUNDLED_FILE, bundled)
        with np.errstate(all="ignore"):  # Weights may be no numbers.
            expected = _forward(model, block, x, model.checkpoint.path, None)
            found = _forward(model, block, x, out, in_bundles)
        largest = float(np.abs(expected).max())
        if not np.isfinite(largest):
            continue  # Nothing to compute with.
        if not np.abs(found - expected).max() <= _TOLERANCE * largest:
            raise VerificationError(
                f"{out}: {name}", found=f"outputs that differ by {np.abs(found - expected).max():.2g} of {largest:.2g}",
                expected="what the source's FFN computes on the same input", remedy=AGAIN,
            )  # fmt: skip
        n_compared += 1
    return n_compared


def _is_float(block: FfnBlock) -> bool:
    return (
        bool(block.components)
        and not block.untouched
        and all(tensor.dtype in (*_FLOATS, "BF16") and "." not in tensor.role for tensor in block.tensors)
    )


def _forward(
    model: FfnModel, block: FfnBlock, x: Float64Array, root: Path, bundled: tuple[Path, Mapping[str, Any]] | None
) -> Float64Array:
    """Return what a block computes, its weights read from shards under `root` or from its bundles."""

    def pieces(component: Component) -> Pieces:
        if bundled is not None:
            path, index = bundled
            of_input = None if component.role == "down" else index.get(input_block_of(block.name))
            if of_input is not None:
                return _input_pieces(component, path, of_input)
            return _bundled_pieces(component, path, index[block.name])
        offset_bytes = model.checkpoint.extent(component.name).offset_bytes
        return _stored_pieces(component, root / component.tensor.shard, offset_bytes)

    def vector(role: str) -> Float64Array | None:
        """Return a vector over neurons, its parts one below the other."""
        for tensor in block.tensors:
            if tensor.role == role and bundled is None:
                return _vector(tensor, root / tensor.shard, model.checkpoint.extent(tensor.name).offset_bytes)
            if tensor.role == role and bundled is not None:
                extent = TensorFile.open(bundled[0]).tensors[tensor.name]
                return _vector(tensor, bundled[0], extent.offset_bytes)
        return None

    components = {component.role: component for component in block.components}
    put_out = {
        role: _multiply_in(component, pieces(component), x) for role, component in components.items() if role != "down"
    }
    both = vector("gate_up_bias")
    for part, role in enumerate(("gate", "up")):
        bias = vector(f"{role}_bias") if both is None else both[part]
        if role in put_out and bias is not None:
            put_out[role] = put_out[role] + bias
    hidden = _silu(put_out["gate"]) * put_out["up"] if "gate" in put_out else _silu(put_out["up"])
    if (scales := vector("act_scales")) is not None:
        hidden = hidden / scales
    if (norm := vector("sub_norm")) is not None:
        hidden = hidden / np.sqrt((hidden**2).mean(axis=1, keepdims=True) + 1e-6) * norm
    return _multiply_out(components["down"], pieces(components["down"]), hidden)


def _silu(x: Float64Array) -> Float64Array:
    activated: Float64Array = x / (1 + np.exp(-np.clip(x, -700, 700)))
    return activated


def _multiply_in(component: Component, pieces: Pieces, x: Float64Array) -> Float64Array:
    """Return the product of inputs with the vectors of all neurons, ``[n_inputs, n_neurons]``."""
    out = np.zeros((len(x), component.tensor.n_neurons))
    for rows, neurons, weights in pieces:
        part = x.reshape(len(x), -1, weights.shape[2])[:, rows]
        out[:, neurons] += part.reshape(len(x), -1) @ weights.swapaxes(1, 2).reshape(-1, weights.shape[1])
    return out


def _multiply_out(component: Component, pieces: Pieces, hidden: Float64Array) -> Float64Array:
    """Return the sum over neurons of their vectors, weighted: ``[n_inputs, hidden]``."""
    tensor = component.tensor
    out = np.zeros((len(hidden), tensor.n_before, tensor.n_after))
    for rows, neurons, weights in pieces:
        product = hidden[:, neurons] @ weights.swapaxes(0, 1).reshape(weights.shape[1], -1)
        if weights.shape[2] == component.n_weights:
            out += product.reshape(out.shape)
        else:
            out[:, rows] += product.reshape(len(hidden), -1, tensor.n_after)
    return out.reshape(len(hidden), -1)


def _stored_pieces(component: Component, path: Path, offset_bytes: int) -> Pieces:
    """Yield a component's weights as ``[rows, neurons, n_after]``, a range of rows and neurons at a time."""
    tensor, part = component.tensor, component.part
    item_bytes, n_neurons, n_after = tensor.item_bytes, tensor.n_neurons, tensor.n_after
    begin = offset_bytes + tensor.begin_bytes
    with opened(path) as descriptor:
        if tensor.n_before > 1:
            row_items = tensor.n_parts * n_neurons * n_after
            for rows in _slices(tensor.n_before, row_items * item_bytes):
                shape = (n_neurons, tensor.n_parts) if tensor.interleaved else (tensor.n_parts, n_neurons)
                items = _read(descriptor, begin + rows.start * row_items * item_bytes, tensor.dtype,
                              (rows.stop - rows.start, *shape, n_after))  # fmt: skip
                yield rows, slice(0, n_neurons), items[:, :, part] if tensor.interleaved else items[:, part]
            return
        n_together = tensor.n_parts if tensor.interleaved else 1
        if not tensor.interleaved:
            begin += part * n_neurons * n_after * item_bytes
        neuron_bytes = n_together * n_after * item_bytes
        for neurons in _slices(n_neurons, neuron_bytes):
            items = _read(descriptor, begin + neurons.start * neuron_bytes, tensor.dtype,
                          (neurons.stop - neurons.start, n_together, n_after))  # fmt: skip
            yield slice(0, 1), neurons, items[None, :, part if tensor.interleaved else 0]


def _bundled_pieces(component: Component, path: Path, entry: Mapping[str, Any]) -> Pieces:
    """Yield a component's weights out of the bundles of neurons, slot by slot."""
    for slots, weights in _bundled_rows(component, path, entry):
        yield slice(0, 1), slots, weights[None]


def _input_pieces(component: Component, path: Path, entry: Mapping[str, Any]) -> Pieces:
    """Yield a component's weights out of the bundles of inputs, slot by slot."""
    inputs = np.array(entry["order"], np.int64)
    for slots, weights in _bundled_rows(component, path, entry):
        yield inputs[slots], slice(0, component.tensor.n_neurons), weights[:, :, None]


def _bundled_rows(component: Component, path: Path, entry: Mapping[str, Any]) -> Iterator[tuple[slice, Float64Array]]:
    """Yield slots, and what their bundles hold of a component, a row each."""
    n_neurons = entry["n_neurons"]
    if component.role == "gate" and "gates" in entry:
        entry = entry["gates"]
    place = next(place for place in entry["components"] if place["role"] == component.role)
    stride, begin = entry["stride_bytes"], place["offset_bytes"]
    with opened(path) as descriptor:
        for slots in _slices(n_neurons, stride):
            data = np.empty((slots.stop - slots.start, stride), np.uint8)
            read_into(descriptor, data, entry["offset_bytes"] + slots.start * stride)
            part = np.ascontiguousarray(data[:, begin : begin + place["length_bytes"]])
            yield slots, _as_float64(part, component.dtype)


def _vector(tensor: NeuronTensor, path: Path, offset_bytes: int) -> Float64Array:
    """Return a vector over neurons; of two parts, ``[2, n_neurons]``."""
    with opened(path) as descriptor:
        shape = (tensor.n_neurons * tensor.n_parts,)
        items = _read(descriptor, offset_bytes + tensor.begin_bytes, tensor.dtype, shape)
    if tensor.n_parts == 1:
        return items
    return items.reshape(-1, 2).T if tensor.interleaved else items.reshape(2, -1)


def _slices(n_items: int, item_bytes: int) -> Iterator[slice]:
    # A quarter: float64 takes four times the room of half precision.
    step = max(1, CHUNK_BYTES // 4 // max(1, item_bytes))
    for first in range(0, n_items, step):
        yield slice(first, min(first + step, n_items))


def _read(descriptor: int, offset_bytes: int, dtype: str, shape: tuple[int, ...]) -> Float64Array:
    data = np.empty(int(np.prod(shape)) * _ITEM_BYTES[dtype], np.uint8)
    read_into(descriptor, data, offset_bytes)
    return _as_float64(data, dtype).reshape(shape)


_ITEM_BYTES: Mapping[str, int] = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


def _as_float64(data: UInt8Array, dtype: str) -> Float64Array:
    if dtype == "BF16":
        return (data.view("<u2").astype("<u4") << np.uint32(16)).view("<f4").astype(np.float64)
    return data.view(_FLOATS[dtype]).astype(np.float64)
