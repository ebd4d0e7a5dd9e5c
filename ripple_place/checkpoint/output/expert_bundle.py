"""The flash-contiguous file of a mixture: all bytes of an expert side by side, every expert on a page.

``{block}.bundles``, U8 ``[n_experts, stride]``, holds the experts of a layer in slot order: gate, up and down, each
with its scales and biases behind it, every part on a multiple of 64 bytes, zeros between them and up to the next page.
Then come the tensors that belong to no expert, under their own names; of a GGUF file none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.blocks import EXPERT, unit_metadata
from ripple_place.checkpoint.fileio import CHUNK_BYTES, PAGE_BYTES, OpenFiles, ignore_progress, read_into
from ripple_place.checkpoint.output.bundle_layout import lay_out
from ripple_place.checkpoint.output.expert_numbers import moved_tensors, runs_of
from ripple_place.checkpoint.output.output_file import OutputFile
from ripple_place.tensorfile import DTYPE_BITS, build_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ripple_place.arrays import Int32Array, UInt8Array
    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.model.expert_block import ExpertBlock, ExpertModel, Runs
    from ripple_place.checkpoint.output.bundle_layout import BundleLayout
    from ripple_place.checkpoint.output.output_file import Begun

_ZEROS = np.zeros(PAGE_BYTES, np.uint8)


def plan_expert_bundle(
    model: ExpertModel, orders: Mapping[str, Int32Array], *, renumber: bool = False
) -> BundleLayout:  # fmt: skip
    """Lay out the bundled file of a mixture.

    Parameters
    ----------
    model : ExpertModel
    orders : mapping of str to ndarray of int32
        ``order[slot]`` of every block: the expert that lies in the slot.
    renumber : bool
        Whether experts get the numbers of their slots: then the index says that expert i lies in slot i.

    Raises
    ------
    CheckpointError
        If a resident tensor has the name of a bundle.
    UnsupportedError
        If the index is too long for a safetensors header.
    """
    tensors: list[tuple[str, str, tuple[int, ...]]] = []
    begins: dict[str, int] = {}
    position = 0
    for name, block in model.blocks.items():
        tensors.append((f"{name}.bundles", "U8", (block.n_neurons, block.stride_bytes)))
        begins[name] = position
        position += block.n_neurons * block.stride_bytes
    residents = sorted(model.residents, key=lambda resident: -DTYPE_BITS[resident.dtype])
    tensors += [(resident.name, resident.dtype, resident.shape) for resident in residents]
    position += sum(resident.place.length_bytes for resident in residents)

    def index_at(start: int) -> dict[str, dict[str, Any]]:
        return {
            name: _index_entry(
                block, np.arange(block.n_neurons, dtype=np.int32) if renumber else orders[name], start + begins[name]
            )
            for name, block in model.blocks.items()
        }

    return lay_out(model.path, tensors, position, index_at, EXPERT)


def write_expert_bundle(
    path: Path, model: ExpertModel, orders: Mapping[str, Int32Array], layout: BundleLayout,
    progress: Progress = ignore_progress, *, renumber: bool = False, begun: Begun | None = None,
    mark: Callable[[int, str], object] | None = None,
) -> str:  # fmt: skip
    """Write the bundled file of a mixture, flushed to storage, and return its SHA-256.

    Parameters
    ----------
    path : Path
        Where nothing may be but what is `begun`.
    model, orders, renumber
        As of `plan_expert_bundle`; where experts are renumbered, routers follow.
    layout : BundleLayout
        What that returned.
    progress : callable
        Called with bytes done.
    begun, mark
        As of `ripple_place.checkpoint.output.output_file.OutputFile`.

    Raises
    ------
    CheckpointError
        If a source file ends before its tensors do.
    OSError
        If storage refuses.

    Notes
    -----
    Reads go straight into the blocks that are written: memory does not depend on the size of experts or layers.
    """
    with OutputFile(path, begun=begun, mark=mark) as file, OpenFiles() as files:
        header = build_header(layout.tensors, layout.metadata, data_alignment_bytes=PAGE_BYTES)
        file.append(header)
        progress(len(header))
        for name, block in model.blocks.items():
            offsets = block.part_offsets
            for expert in orders[name].tolist():
                position = 0
                for part, offset in zip(block.parts, offsets, strict=True):
                    _append_zeros(file, offset - position)
                    _append_runs(file, files, part.experts[expert], progress)
                    progress(offset - position)
                    position = offset + part.length_bytes
                _append_zeros(file, block.stride_bytes - position)
                progress(block.stride_bytes - position)
        places = {resident.name: resident.place for resident in model.residents}
        moved = moved_tensors(model, orders) if renumber else {}
        for name, _, _ in layout.tensors[len(model.blocks) :]:
            for runs in runs_of(moved[name]) if name in moved else (places[name],):
                _append_runs(file, files, runs, progress)
    return file.sha256


def gathered_pieces(descriptor: int, runs: Runs) -> Iterator[UInt8Array]:
    """Yield the bytes of runs that lie apart, some of them at a time.

    What lies between them is read too, a stretch of at most `CHUNK_BYTES` at once unless one step is longer.
    """
    per_piece = max(1, CHUNK_BYTES // runs.step_bytes)
    for first in range(0, runs.n_runs, per_piece):
        n_runs = min(per_piece, runs.n_runs - first)
        stretch = np.empty((n_runs - 1) * runs.step_bytes + runs.run_bytes, np.uint8)
        read_into(descriptor, stretch, runs.offset_bytes + first * runs.step_bytes)
        shape, strides = (n_runs, runs.run_bytes), (runs.step_bytes, 1)
        yield np.ascontiguousarray(np.lib.stride_tricks.as_strided(stretch, shape, strides))


def _append_runs(file: OutputFile, files: OpenFiles, runs: Runs, progress: Progress) -> None:
    descriptor = files.descriptor(runs.file)
    if runs.n_runs == 1:
        file.append_range(descriptor, runs.offset_bytes, runs.run_bytes, progress)
        return
    for piece in gathered_pieces(descriptor, runs):
        file.append(piece)
        progress(piece.nbytes)


def _append_zeros(file: OutputFile, n_bytes: int) -> None:
    if n_bytes:
        file.append(_ZEROS[:n_bytes])


def _index_entry(block: ExpertBlock, order: Int32Array, offset_bytes: int) -> dict[str, Any]:
    """Return what the index says of a block."""
    components = [
        {
            "role": part.role, "tensor": part.tensor, "dtype": part.dtype, "offset_bytes": offset,
            "length_bytes": part.length_bytes, "shape": list(part.shape),
        }
        for part, offset in zip(block.parts, block.part_offsets, strict=True)
    ]  # fmt: skip
    return {
        "offset_bytes": offset_bytes, "stride_bytes": block.stride_bytes, "components": components,
        "dtype": block.dtype or "mixed", "n_neurons": block.n_neurons, "order": order.tolist(),
        **unit_metadata(EXPERT),
    }  # fmt: skip
