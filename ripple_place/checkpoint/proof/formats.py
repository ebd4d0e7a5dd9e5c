"""The proof of each output format: headers, extents and every tensor against the source."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ripple_place.blocks import ffn_of, is_input_block
from ripple_place.checkpoint.fileio import CHUNK_BYTES, PAGE_BYTES, OpenFiles, chunks, opened, read_into, read_through
from ripple_place.checkpoint.names import BUNDLED_FILE
from ripple_place.checkpoint.proof.compare import AGAIN, check_bundled_component, check_tensor, ranges_equal, slots_of
from ripple_place.errors import CheckpointError, VerificationError
from ripple_place.inputfile import open_stream
from ripple_place.tensorfile import TensorFile, build_header

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ripple_place.arrays import Int32Array, Int64Array
    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.checkpoint.output.bundle_layout import BundleLayout
    from ripple_place.tensorfile import TensorExtent


_STOCK_NUMPY_DTYPES = {"BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64", "F16", "F32", "F64"}
"""What the stock reader turns into numpy arrays without further packages (BF16, for one, it does not)."""


def compare_drop_in(
    out: Path, model: FfnModel, orders: Mapping[str, Int32Array], actions: Mapping[str, str], progress: Progress
) -> dict[str, int]:
    """Return what was compared in the drop-in shards of an output, and how many of each.

    Raises
    ------
    VerificationError
        If a header or a tensor is not the source's, permuted.
    """
    for shard_name, shard in model.checkpoint.shards.items():
        with opened(shard.path) as source, opened(out / shard_name) as target:
            if not ranges_equal(source, 0, target, 0, shard.data_start_bytes, progress):
                raise VerificationError(
                    out / shard_name, found="another header", expected="the source's, byte for byte", remedy=AGAIN
                )
            for extent in shard.tensors.values():
                where = f"{out / shard_name}: tensor {extent.name}"
                offset = extent.offset_bytes
                if actions[extent.name] == "copied":
                    if not ranges_equal(source, offset, target, offset, extent.length_bytes, progress):
                        raise _untouched_error(where)
                else:
                    for tensor, block in model.parts[extent.name]:
                        check_tensor(where, tensor, source, offset, target, offset, orders[block], progress)
    n_copied = sum(action == "copied" for action in actions.values())
    return {
        "shard headers equal the source's": len(model.checkpoint.shards),
        "untouched tensors equal the source's": n_copied,
        "permuted tensors equal the source's after the inverse permutation": len(actions) - n_copied,
    }


def compare_bundled(
    out: Path, model: FfnModel, orders: Mapping[str, Int32Array], layout: BundleLayout, progress: Progress
) -> dict[str, int]:
    """Return what was compared in the bundled file of an output, and how many of each.

    Raises
    ------
    VerificationError
        If header, index, a bundle or a resident tensor is not what source and placement make of it.
    """
    path = out / BUNDLED_FILE
    file = TensorFile.open(path, CheckpointError)
    header = build_header(layout.tensors, layout.metadata, data_alignment_bytes=PAGE_BYTES)
    with open_stream(path) as raw:
        if raw.read(len(header)) != header:
            raise VerificationError(
                path, found="another header or index", expected="what source and placement make of it", remedy=AGAIN
            )
    index = json.loads(file.metadata["index"])
    checkpoint = model.checkpoint
    n_components = n_residents = resident_bytes = bundle_bytes = 0
    progress(file.data_start_bytes)
    with opened(path) as target, OpenFiles() as files:
        for name, block in model.blocks.items():
            place_of = slots_of(orders[ffn_of(name)]) if is_input_block(name) else None
            for what, copy, slot_of in _copies(index[name], orders[name]):
                _check_strides(f"{path}: {name}{what}", target, copy, block.n_neurons)
                roles = {component.role: component for component in block.components}
                for entry in copy["components"]:
                    component = roles[entry["role"]]
                    source = files.descriptor(checkpoint.file_of(component.name))
                    check_bundled_component(
                        f"{path}: {name}{what}, {component.name}", component, source,
                        checkpoint.extent(component.name).offset_bytes, target, copy, entry, slot_of, place_of,
                        progress,
                    )  # fmt: skip
                    n_components += 1
                bundle_bytes += block.n_neurons * block.bundle_bytes
        for extent in file.tensors.values():
            if extent.name not in checkpoint.shard_of:
                if ".padding" in extent.name:
                    _check_zeros(f"{path}: tensor {extent.name}", target, extent.offset_bytes, extent.length_bytes)
                continue
            source, offset = (
                files.descriptor(checkpoint.file_of(extent.name)),
                checkpoint.extent(extent.name).offset_bytes,
            )
            where = f"{path}: tensor {extent.name}"
            if extent.name in model.parts:
                for tensor, name in model.parts[extent.name]:
                    check_tensor(where, tensor, source, offset, target, extent.offset_bytes, orders[name], progress)
            elif not ranges_equal(source, offset, target, extent.offset_bytes, extent.length_bytes, progress):
                raise _untouched_error(where)
            n_residents += 1
            resident_bytes += extent.length_bytes
    # Padding has no counterpart in the source.
    progress(file.size_bytes - file.data_start_bytes - bundle_bytes - resident_bytes)
    return {
        "bundled components equal the source's, read at the index's offsets": n_components,
        "resident tensors equal the source's": n_residents,
    }


def _check_strides(where: str, target: int, copy: Mapping[str, Any], n_neurons: int) -> None:
    """Raise unless bundles are padded with zeros; the system then holds them all for small reads in another order."""
    stride, begin = copy["stride_bytes"], copy["offset_bytes"]
    n_bytes = sum(part["length_bytes"] for part in copy["components"])
    if stride == n_bytes:
        read_through(target, begin, stride * n_neurons)
        return
    bundles = np.empty((max(1, min(n_neurons, CHUNK_BYTES // stride)), stride), np.uint8)
    for first in range(0, n_neurons, len(bundles)):
        some = bundles[: n_neurons - first]
        read_into(target, some, begin + first * stride)
        if some[:, n_bytes:].any():
            raise _padding_error(where)


def _check_zeros(where: str, target: int, offset_bytes: int, length_bytes: int) -> None:
    if any(piece.any() for piece in chunks(target, offset_bytes, length_bytes)):
        raise _padding_error(where)


def _padding_error(where: str) -> VerificationError:
    return VerificationError(where, found="padding that holds something", expected="zeros", remedy=AGAIN)


def check_stock_reader(paths: Sequence[Path]) -> int:
    """Return the number of files, all of which the stock safetensors reader opens and reads as we do.

    Names, dtypes and shapes are compared, and the first row of each tensor whose dtype numpy has.

    Raises
    ------
    VerificationError
        If it refuses one of them, or sees other tensors.
    """
    for path in paths:
        ours = TensorFile.open(path, CheckpointError).tensors
        try:
            with safe_open(path, framework="np") as stock, opened(path) as descriptor:
                if set(stock.keys()) != set(ours):
                    raise VerificationError(
                        path, found=f"{len(stock.keys())} tensors by the stock reader",
                        expected=f"the same {len(ours)}", remedy=AGAIN,
                    )  # fmt: skip
                for extent in ours.values():
                    if not _reads_alike(stock.get_slice(extent.name), extent, descriptor):
                        raise VerificationError(
                            f"{path}: tensor {extent.name}", found="other contents by the stock reader",
                            expected=f"{extent.dtype} {list(extent.shape)}", remedy=AGAIN,
                        )  # fmt: skip
        except SafetensorError as cause:
            raise VerificationError(
                path, found=str(cause), expected="a file that the stock reader opens", remedy=AGAIN
            ) from cause
    return len(paths)


def _reads_alike(stock: Any, extent: TensorExtent, descriptor: int) -> bool:
    """Tell whether the stock reader sees the dtype, shape and first row that we see."""
    if stock.get_dtype() != extent.dtype or tuple(stock.get_shape()) != extent.shape:
        return False
    if extent.dtype not in _STOCK_NUMPY_DTYPES or not extent.length_bytes or not extent.shape:
        return True
    row = np.empty(extent.length_bytes // extent.shape[0], np.uint8)
    read_into(descriptor, row, extent.offset_bytes)
    return bool(stock[0:1].tobytes() == row.tobytes())


def _copies(entry: Mapping[str, Any], order: Int32Array) -> list[tuple[str, Mapping[str, Any], Int64Array]]:
    """Return of each region of a block what to call it, where it lies (as an entry of its own), and slots by neuron.

    Regions are the copies, or the gates and the rest. The header, which has the index, was compared before.
    """
    copies: list[tuple[str, Mapping[str, Any], Int64Array]] = [("", entry, slots_of(order))]
    if "gates" in entry:
        copies.append((" (gates)", entry["gates"], slots_of(order)))
    if "order_2" in entry:
        second = {**entry, "offset_bytes": entry["offset_2_bytes"]}
        copies.append((" (second copy)", second, slots_of(np.array(entry["order_2"], np.int32))))
    return copies


def _untouched_error(where: str) -> VerificationError:
    return VerificationError(where, found="other bytes", expected="the source's, byte for byte", remedy=AGAIN)
