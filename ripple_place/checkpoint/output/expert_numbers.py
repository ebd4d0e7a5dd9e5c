"""Experts under other numbers in the checkpoint's own form: a tensor's bytes are those of another expert's.

The number of an expert becomes its slot. Headers, names and extents stay: all experts of a layer have the same tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.checkpoint.fileio import OpenFiles, opened
from ripple_place.checkpoint.output.output_file import OutputFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ripple_place.arrays import Int32Array
    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.model.expert_block import ExpertModel, ExpertPart, Runs
    from ripple_place.placement import ModelPlacement
    from ripple_place.tensorfile import TensorFile

NUMBERING, BY_SLOT = "numbering", "slots"
"""Entry of a placement's metadata, and of the manifest, that says that experts are numbered by their slots."""

Moved = tuple["ExpertPart", "Int32Array", int | None]
"""What a tensor is a part of, ``order[slot]`` of its block, and its slot; without a slot it has all experts."""

_EXPERT = "{expert}"


def is_renumbered(placement: ModelPlacement) -> bool:
    """Tell whether experts have the numbers of their slots, routers included."""
    return placement.metadata.get(NUMBERING) == BY_SLOT


def moved_tensors(model: ExpertModel, orders: Mapping[str, Int32Array]) -> dict[str, Moved]:
    """Return the tensors of a checkpoint whose bytes change when experts are numbered by their slots.

    Parameters
    ----------
    model : ExpertModel
    orders : mapping of str to ndarray of int32
        ``order[slot]`` of every block: the expert whose number becomes `slot`.
    """
    moved: dict[str, Moved] = {}
    for name, block in model.blocks.items():
        order = orders[name]
        if np.array_equal(order, np.arange(order.size)):
            continue
        for part in (*block.parts, *model.routers[name].parts):
            if _EXPERT in part.tensor:
                for slot in range(order.size):
                    moved[part.tensor.replace(_EXPERT, str(slot))] = part, order, slot
            else:
                moved[part.tensor] = part, order, None
    return moved


def runs_of(moved: Moved) -> Iterator[Runs]:
    """Yield where the source has the bytes of a tensor that moves, in the order in which they are written."""
    part, order, slot = moved
    if slot is not None:
        yield part.experts[order[slot]]
        return
    for row in range(part.experts[0].n_runs):
        for expert in order.tolist():
            runs = part.experts[expert]
            yield runs._replace(offset_bytes=runs.offset_bytes + row * runs.step_bytes, n_runs=1)


def write_renumbered_shard(
    moved: Mapping[str, Moved], shard: TensorFile, target: Path, progress: Progress, *, is_hashed: bool = True
) -> str:
    """Write a shard with the same header and extents, its experts renumbered, flushed to storage.

    Parameters
    ----------
    moved : mapping of str to Moved
        See `moved_tensors`.
    shard : TensorFile
        Of the checkpoint; experts may come from its other shards.
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
        If a shard was truncated meanwhile.
    OSError
        If storage refuses.
    """
    with (
        opened(shard.path) as descriptor, OpenFiles() as files, OutputFile(target, is_hashed=is_hashed) as file
    ):  # fmt: skip
        position = 0
        for extent in shard.tensors.values():
            if extent.name not in moved:
                continue
            file.append_range(descriptor, position, extent.offset_bytes - position, progress)
            for runs in runs_of(moved[extent.name]):
                file.append_range(files.descriptor(runs.file), runs.offset_bytes, runs.run_bytes, progress)
            position = extent.offset_bytes + extent.length_bytes
        file.append_range(descriptor, position, shard.size_bytes - position, progress)
    return file.sha256 if is_hashed else ""
