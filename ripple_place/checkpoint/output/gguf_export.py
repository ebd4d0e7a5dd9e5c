"""The FFNs of a reordered model as a GGUF file with a row per neuron, for engines that read neurons from GGUF.

PowerInfer and its kin want gate, up and the transposed down (``ffn_down_t``) with the neurons along the rows, in the
order in which they lie on flash. The file holds the FFNs alone, under the names of PowerInfer's converter; attention,
norms and vocabulary come from an ordinary conversion of the drop-in output, whose neurons have the same order.

References
----------
Tiiny-AI/PowerInfer, convert-hf-to-powerinfer-gguf.py; ggml-org/ggml, GGUF specification.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.checkpoint.fileio import PAGE_BYTES, Scratch, opened, read_into
from ripple_place.checkpoint.output.permute import permuted_pieces, write_unit_rows
from ripple_place.errors import UnsupportedError
from ripple_place.extras import install_command
from ripple_place.newfile import file_beside
from ripple_place.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from gguf import GGUFWriter

    from ripple_place.arrays import AnyArray, Int32Array
    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.checkpoint.model.neuron_tensor import Component, NeuronTensor


_NAMES = {"gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down_t"}
_BIASES = {"gate_bias": "ffn_gate", "up_bias": "ffn_up"}
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_BLOCK = re.compile(r"(?:(enc|dec)oder\.)?layers\.(\d+)(?:\.experts\.(\d+)|(\.shared_expert))?")


def check_exportable(model: FfnModel) -> None:
    """Raise UnsupportedError unless the gguf package is there, and the model's weights are such as GGUF has.

    Biases of gate and up in one tensor are left to ordinary conversions, which split them: they are refused here.
    """
    if importlib.util.find_spec("gguf") is None:
        raise UnsupportedError(
            "--gguf", found="no gguf package", expected="the gguf extra",
            remedy=install_command("gguf"),
        )  # fmt: skip
    for name, block in model.ffns.items():
        odd = {tensor.dtype for tensor in block.tensors} - _DTYPES.keys()
        fused = [tensor.name for tensor in block.carriers if tensor.role not in _BIASES]
        if not block.components or block.untouched or odd or fused:
            raise UnsupportedError(
                f"{model.checkpoint.path}: {name}",
                found=", ".join(sorted(odd) or fused) or "quantised weights",
                expected="float weights and biases of gate and up for GGUF", remedy="leave --gguf out",
            )  # fmt: skip


def export_gguf(model: FfnModel, orders: Mapping[str, Int32Array], path: str | os.PathLike[str]) -> None:
    """Write the FFNs of a model, neurons in the given orders, as GGUF; the file appears whole or not at all.

    Parameters
    ----------
    model : FfnModel
        Of which `check_exportable` holds.
    orders : mapping of str to ndarray of int32
        ``order[slot]`` of every block.
    path : path-like
        Replaced if it exists.

    Raises
    ------
    UsageError
        If `path` is a link, device, pipe or socket.
    OSError
        If storage refuses.

    Notes
    -----
    Tensors are aligned to 4096 bytes. ``blk.N.ffn_order`` is the neuron in each slot. Two matrices are held in memory.
    """
    from gguf import GGUFWriter

    path = Path(path)
    with file_beside(path, named=True) as new:
        writer = GGUFWriter(new.name, str(model.checkpoint.config["model_type"]))
        try:
            _describe(writer, model, orders)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for _, _, _, read in _tensors(model, orders):
                writer.write_tensor_data(read())
        finally:
            writer.close()
        new.rename_to(path)


def _describe(writer: GGUFWriter, model: FfnModel, orders: Mapping[str, Int32Array]) -> None:
    """Tell the writer what will stand in the file."""
    from gguf import GGMLQuantizationType

    writer.add_custom_alignment(PAGE_BYTES)
    writer.add_block_count(1 + max(int(_parts_of_name(name)[1]) for name in model.ffns))
    writer.add_embedding_length(next(iter(model.ffns.values())).hidden)
    writer.add_string("ripple_place.version", __version__)
    writer.add_string("ripple_place.content", "ffn only, neurons in slot order")
    for name, dtype, shape, _ in _tensors(model, orders):
        raw = GGMLQuantizationType.BF16 if dtype == "BF16" else None
        numpy_dtype = np.dtype("<i4" if dtype == "I32" else _DTYPES[dtype])
        writer.add_tensor_info(name, shape, numpy_dtype, int(np.prod(shape)) * numpy_dtype.itemsize, raw_dtype=raw)


def _tensors(model: FfnModel, orders: Mapping[str, Int32Array]) -> Iterator[tuple[str, str, tuple[int, ...], Any]]:
    """Yield name, dtype and shape of each tensor, and what returns its contents."""
    for block in model.ffns.values():
        stack, layer, expert, shared = _parts_of_name(block.name)
        prefix = f"{stack + '.' if stack else ''}blk.{layer}."
        suffix = f".{expert}" if expert is not None else "_shexp" if shared else ""
        order = orders[block.name]
        for component in block.components:
            shape = (block.n_neurons, component.n_weights)
            name = f"{prefix}{_NAMES[component.role]}{suffix}.weight"
            yield name, component.dtype, shape, lambda c=component, o=order: _rows(model, c, o)
        for tensor in block.carriers:
            name = f"{prefix}{_BIASES[tensor.role]}{suffix}.bias"
            yield (
                name,
                tensor.dtype,
                (block.n_neurons,),
                lambda t=tensor, o=order: _vector(model, t, o),
            )
        yield f"{prefix}ffn_order{suffix}", "I32", (block.n_neurons,), lambda o=order: o


def _vector(model: FfnModel, tensor: NeuronTensor, order: Int32Array) -> AnyArray:
    """Return a bias in slot order; pieces are copied, since each is valid only until the next."""
    pieces = permuted_pieces(model.checkpoint, tensor, order, Scratch())
    return np.concatenate([piece.copy() for piece in pieces], axis=None)


def _rows(model: FfnModel, component: Component, order: Int32Array) -> AnyArray:
    """Return a component with a neuron per row, in slot order."""
    checkpoint = model.checkpoint
    if component.rows_begin_bytes is None:
        turned = np.empty((order.size, component.n_weights), f"u{component.tensor.item_bytes}")
        write_unit_rows(checkpoint, component, turned)
        return turned[order]
    rows = np.empty((order.size, component.unit_bytes), np.uint8)
    with opened(checkpoint.file_of(component.name)) as descriptor:
        read_into(descriptor, rows, checkpoint.extent(component.name).offset_bytes + component.rows_begin_bytes)
    return rows[order]


def _parts_of_name(block: str) -> tuple[str | None, str, str | None, str | None]:
    """Return stack, layer, expert and whether shared, of a block's name."""
    match = _BLOCK.fullmatch(block)
    assert match is not None, block
    stack, layer, expert, shared = match.groups()
    return stack, layer, expert, shared
