"""The flash-contiguous file: all weights of a unit side by side, units in the order of their slots.

`bundled.safetensors` holds, per block, ``{block}.bundles`` (slot by slot: gate row, up row, down column) and
``{block}.padding`` up to the next page when needed, where the placement has a second order the same once more as
``{block}.bundles_2`` and ``{block}.padding_2``, then the resident tensors under their own names. Data starts on a
page boundary, so every block does. Readers that know nothing of this package need the index alone, which stands in the
file's metadata and in the manifest.

Where gates lie apart, ``{block}.gates`` holds the gate rows of a block, slot by slot, and ``{block}.padding_gates``
fills its last page; ``{block}.bundles`` behind them has the rest of each neuron. Blocks without gates lie as ever.

Where units are columns, the first block of an FFN holds, for each input, the columns of gate and up, and the second
the columns of down. The weights of an input column lie in the order of the second block's slots, so that a reader's
sums over inputs come out in that order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.blocks import ffn_of, unit_metadata
from ripple_place.checkpoint.fileio import PAGE_BYTES, Scratch, chunks, opened
from ripple_place.checkpoint.output.bundle_layout import APART, INSIDE, BundleLayout, lay_out
from ripple_place.checkpoint.output.bundle_pieces import bundle_pieces
from ripple_place.checkpoint.output.permute import permuted_tensor
from ripple_place.tensorfile import DTYPE_BITS, TensorSource, tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ripple_place.arrays import Int32Array, UInt8Array
    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.checkpoint.model.ffn_block import FfnBlock
    from ripple_place.checkpoint.model.shards import Checkpoint


SECOND = "_2"
"""Behind a name, what belongs to the second copy."""
_BUNDLES, _GATES = "bundles", "gates"
_PADDING = {_BUNDLES: "", _GATES: "_gates"}
"""Behind the name of the padding that follows a region."""
_ZEROS = np.zeros(PAGE_BYTES, np.uint8)


def stride_bytes(block: FfnBlock, stride: str) -> int:
    """Return the bytes from one bundle to the next: as large as the bundle, or rounded up to pages."""
    return block.bundle_bytes if stride == "packed" else -(-block.bundle_bytes // PAGE_BYTES) * PAGE_BYTES


def plan_bundle(
    model: FfnModel,
    orders: Mapping[str, Int32Array],
    stride: str,
    second_orders: Mapping[str, Int32Array],
    gates: str = INSIDE,
) -> BundleLayout:
    """Lay out the bundled file of a model.

    Parameters
    ----------
    model : FfnModel
    orders : mapping of str to ndarray of int32
        ``order[slot]`` of every block.
    stride : {"packed", "page"}
    second_orders : mapping of str to ndarray of int32
        The same of the second copy, of those blocks that have one.
    gates : {"inside", "apart"}
        Whether gates lie in a region of their own, in blocks that have some.

    Raises
    ------
    CheckpointError
        If a resident tensor has the name of a bundle.
    UnsupportedError
        If the index is too long for a safetensors header.
    """
    tensors: list[tuple[str, str, tuple[int, ...]]] = []
    relative: dict[str, int] = {}
    position = 0
    for block in model.blocks.values():
        for kind, suffix, part in _regions(block, gates, has_second=block.name in second_orders):
            part_stride = "packed" if kind == _GATES else stride
            dtype, shape = _bundle_shape(part, part_stride)
            shape = (block.n_neurons, *shape[2:]) if kind == _GATES else shape
            tensors.append((f"{block.name}.{kind}{suffix}", dtype, shape))
            relative[f"{block.name}.{kind}{suffix}"] = position
            position += block.n_neurons * stride_bytes(part, part_stride)
            if padding := -position % PAGE_BYTES:
                tensors.append((f"{block.name}.padding{suffix or _PADDING[kind]}", "U8", (padding,)))
                position += padding
    for name in _resident_names(model):
        extent = model.checkpoint.extent(name)
        tensors.append((name, extent.dtype, extent.shape))
        position += extent.length_bytes

    def index_at(start: int) -> dict[str, dict[str, Any]]:
        offsets = {region: start + offset for region, offset in relative.items()}
        index = {name: _index_entry(block, orders[name], offsets, stride) | unit_metadata(model.unit)
                 for name, block in model.blocks.items()}  # fmt: skip
        for name, order in second_orders.items():
            index[name] |= {"offset_2_bytes": offsets[f"{name}.{_BUNDLES}{SECOND}"], "order_2": order.tolist()}
        return index

    return lay_out(model.checkpoint.path, tensors, position, index_at, model.unit)


def bundle_sources(model: FfnModel, orders: Mapping[str, Int32Array], layout: BundleLayout) -> list[TensorSource]:
    """Return the tensors of the bundled file, whose bytes are read when they are written."""
    copies = {}
    for name, entry in layout.index.items():
        block, stride = model.blocks[name], entry["stride_bytes"]
        gates = APART if "gates" in entry else INSIDE
        for kind, suffix, part in _regions(block, gates, has_second="order_2" in entry):
            order = np.array(entry["order_2"], np.int32) if suffix else orders[name]
            part_stride = entry["gates"]["stride_bytes"] if kind == _GATES else stride
            copies[f"{name}.{kind}{suffix}"] = (part, order, part_stride)
    scratch = Scratch()
    sources = []
    for name, dtype, shape in layout.tensors:
        pieces: Any
        if name in copies:
            block, order, stride = copies[name]
            pieces = bundle_pieces(model.checkpoint, block, order, _weight_order(block, orders), stride, scratch)
        elif name in model.parts:
            parts = [(tensor, orders[block_name]) for tensor, block_name in model.parts[name]]
            pieces = permuted_tensor(model.checkpoint, parts, scratch)
        elif name in model.checkpoint.shard_of:
            pieces = _resident_pieces(model.checkpoint, name)
        else:
            pieces = [_ZEROS[: tensor_bytes(dtype, shape)]]
        sources.append(TensorSource(name, dtype, shape, pieces))
    return sources


def _regions(block: FfnBlock, gates: str, *, has_second: bool) -> list[tuple[str, str, FfnBlock]]:
    """Return the regions of a block in file order: kind, suffix of its names, and the weights that it holds."""
    if gates == APART and block.has_gate:
        of_gates, rest = block.gates_apart()
        return [(_GATES, "", of_gates), (_BUNDLES, "", rest)]
    return [(_BUNDLES, suffix, block) for suffix in (("", SECOND) if has_second else ("",))]


def _weight_order(block: FfnBlock, orders: Mapping[str, Int32Array]) -> Int32Array | None:
    """Return the order of the weights within a component of a block; None where they are as in the checkpoint."""
    return orders[ffn_of(block.name)] if any(part.by_input for part in block.components) else None


def _bundle_shape(block: FfnBlock, stride: str) -> tuple[str, tuple[int, ...]]:
    """Return dtype and shape of a block's bundles: weights where that is all there is, else bytes."""
    if block.dtype is not None and stride_bytes(block, stride) == block.bundle_bytes:
        return block.dtype, (block.n_neurons, len(block.components), block.hidden)
    return "U8", (block.n_neurons, stride_bytes(block, stride))


def _index_entry(
    block: FfnBlock, order: Int32Array, offsets: Mapping[str, int], stride: str
) -> dict[str, Any]:  # fmt: skip
    """Return what the index says of a block, given where the regions of all blocks lie."""
    apart: dict[str, Any] = {}
    rest = block
    if f"{block.name}.{_GATES}" in offsets:
        of_gates, rest = block.gates_apart()
        apart["gates"] = {
            "offset_bytes": offsets[f"{block.name}.{_GATES}"], "stride_bytes": of_gates.bundle_bytes,
            "components": _components(of_gates),
        }  # fmt: skip
    return {
        "offset_bytes": offsets[f"{block.name}.{_BUNDLES}"], "stride_bytes": stride_bytes(rest, stride), **apart,
        "components": _components(rest), "dtype": block.dtype or "mixed", "n_neurons": block.n_neurons,
        "order": order.tolist(),
    }  # fmt: skip


def _components(block: FfnBlock) -> list[dict[str, Any]]:
    """Return what the index says of the parts of a bundle."""
    components = []
    offset_in_bundle = 0
    for component in block.components:
        components.append({
            "role": component.role, "tensor": component.name, "dtype": component.dtype,
            "offset_bytes": offset_in_bundle, "length_bytes": component.unit_bytes,
        })  # fmt: skip
        offset_in_bundle += component.unit_bytes
    return components


def _resident_names(model: FfnModel) -> list[str]:
    """Return the tensors that are in no bundle, widest dtype first, else in checkpoint order."""
    bundled = {component.name for block in model.blocks.values() for component in block.components}
    names = [name for name in model.checkpoint.shard_of if name not in bundled]
    return sorted(names, key=lambda name: -DTYPE_BITS[model.checkpoint.extent(name).dtype])


def _resident_pieces(checkpoint: Checkpoint, name: str) -> Iterator[UInt8Array]:
    extent = checkpoint.extent(name)
    with opened(checkpoint.file_of(name)) as descriptor:
        yield from chunks(descriptor, extent.offset_bytes, extent.length_bytes)
