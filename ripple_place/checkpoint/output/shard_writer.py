"""A shard in another neuron order: the same header, the same extents, and in them the neurons moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.checkpoint.fileio import Scratch, opened
from ripple_place.checkpoint.output.output_file import OutputFile
from ripple_place.checkpoint.output.permute import permuted_tensor

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from ripple_place.arrays import Int32Array
    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.tensorfile import TensorFile


def write_shard(
    model: FfnModel, orders: Mapping[str, Int32Array], actions: Mapping[str, str], shard: TensorFile, target: Path,
    progress: Progress, *, is_hashed: bool = True,
) -> str:  # fmt: skip
    """Write a shard with the same header and extents, its neuron tensors permuted, flushed to storage.

    Parameters
    ----------
    model : FfnModel
    orders : mapping of str to ndarray of int32
        ``order[slot]`` of every block.
    actions : mapping of str to str
        What happens to each tensor; see `ripple_place.checkpoint.output.plan.tensor_actions`.
    shard : TensorFile
        Of the model's checkpoint.
    target : Path
        Where nothing may be.
    progress : callable
        Called with bytes done.
    is_hashed : bool
        Whether to hash what is written.

    Returns
    -------
    str
        SHA-256 of what was written, as hexadecimal digits; empty unless it was hashed.

    Raises
    ------
    CheckpointError
        If the shard was truncated meanwhile.
    OSError
        If storage refuses.
    """
    moved = {
        name: [(tensor, orders[block]) for tensor, block in model.parts[name]]
        for name in shard.tensors
        if actions[name] != "copied"
    }
    with opened(shard.path) as descriptor, OutputFile(target, is_hashed=is_hashed) as file:
        scratch = Scratch()
        for name, offset_bytes, length_bytes in _segments(shard, moved):
            if name is None:
                file.append_range(descriptor, offset_bytes, length_bytes, progress)
                continue
            for piece in permuted_tensor(model.checkpoint, moved[name], scratch):
                file.append(piece)
                progress(piece.nbytes)
    return file.sha256 if is_hashed else ""


def _segments(shard: TensorFile, moved: Collection[str]) -> list[tuple[str | None, int, int]]:
    """Cut a shard into tensors that move and, nameless, what lies between them: (name, offset, length in bytes)."""
    segments: list[tuple[str | None, int, int]] = []
    begin = 0
    for extent in shard.tensors.values():
        if extent.name in moved:
            segments.append((None, begin, extent.offset_bytes - begin))
            segments.append((extent.name, extent.offset_bytes, extent.length_bytes))
            begin = extent.offset_bytes + extent.length_bytes
    segments.append((None, begin, shard.size_bytes - begin))
    return [segment for segment in segments if segment[2]]
