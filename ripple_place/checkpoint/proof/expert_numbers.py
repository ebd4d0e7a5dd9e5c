"""Proof of renumbered experts: every expert's bytes, and its rows of the router, lie under its new number.

None of the code that wrote the shards is used: each expert of the source is looked for where the source has the expert
of the new number.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.checkpoint.fileio import CHUNK_BYTES, OpenFiles, opened, read_into
from ripple_place.checkpoint.model.experts import names_of
from ripple_place.checkpoint.proof.compare import AGAIN, ranges_equal
from ripple_place.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ripple_place.arrays import Int32Array, UInt8Array
    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.model.expert_block import ExpertModel, Runs


def compare_renumbered(
    out: Path, model: ExpertModel, orders: Mapping[str, Int32Array], progress: Progress
) -> dict[str, int]:
    """Return what was compared in the shards of an output whose experts have the numbers of their slots.

    Parameters
    ----------
    out : Path
    model : ExpertModel
        The source, a checkpoint directory.
    orders : mapping of str to ndarray of int32
        ``order[slot]`` of every block.
    progress : callable
        Called with bytes done.

    Raises
    ------
    VerificationError
        If a header differs from the source's, an expert or its part of a router is not that of the source, or
        another tensor has changed.
    OSError
        If a file cannot be read.
    """
    checkpoint = model.checkpoint
    assert checkpoint is not None
    counted: set[str] = set()
    n_experts = n_routers = 0
    with OpenFiles() as files:
        for name, block in model.blocks.items():
            slot_of = np.argsort(orders[name], kind="stable").tolist()
            routers = model.routers[name].parts if name in model.routers else ()
            for part in (*block.parts, *routers):
                counted |= {*names_of(part.tensor, block)}
                for expert, slot in enumerate(slot_of):
                    place = part.experts[slot]
                    target = place._replace(file=out / place.file.relative_to(model.root))
                    if not runs_equal(files, part.experts[expert], target):
                        raise VerificationError(
                            f"{target.file}: {name}, {part.tensor}", found=f"other bytes under number {slot}",
                            expected=f"those of the source's expert {expert}", remedy=AGAIN,
                        )  # fmt: skip
                    progress(place.length_bytes)
            n_experts += block.n_neurons
            n_routers += len(routers)
    for shard_name, shard in checkpoint.shards.items():
        with opened(shard.path) as source, opened(out / shard_name) as written:
            others = {extent.name: extent for extent in shard.tensors.values() if extent.name not in counted}
            ranges = {"header": (0, shard.data_start_bytes)}
            ranges |= {f"tensor {name}": (of.offset_bytes, of.length_bytes) for name, of in others.items()}
            for what, (offset, length) in ranges.items():
                if not ranges_equal(source, offset, written, offset, length, progress):
                    raise VerificationError(
                        f"{out / shard_name}: {what}", found="other bytes", expected="the source's, byte for byte",
                        remedy=AGAIN,
                    )  # fmt: skip
    return {
        "shard headers equal the source's": len(checkpoint.shards),
        "renumbered experts equal the source's, in the shards": n_experts,
        "routers' slices follow their experts": n_routers,
        "untouched tensors equal the source's": len(checkpoint.shard_of) - len(counted),
    }


def runs_equal(files: OpenFiles, source: Runs, target: Runs) -> bool:
    """Tell whether runs of two files, equally many and long, hold the same bytes."""
    descriptors = files.descriptor(source.file), files.descriptor(target.file)
    if source.n_runs == 1:
        return ranges_equal(descriptors[0], source.offset_bytes, descriptors[1], target.offset_bytes, source.run_bytes)
    pieces = zip(*map(runs_one_by_one, descriptors, (source, target)), strict=True)
    return all(np.array_equal(expected, found) for expected, found in pieces)


def runs_one_by_one(descriptor: int, runs: Runs) -> Iterator[UInt8Array]:
    """Yield the bytes of some runs at a time, each read by itself.

    As plainly as can be: none of the code that gathers runs when they are written is used.
    """
    per_piece = max(1, CHUNK_BYTES // runs.run_bytes)
    for first in range(0, runs.n_runs, per_piece):
        piece = np.empty((min(per_piece, runs.n_runs - first), runs.run_bytes), np.uint8)
        for place, run in enumerate(piece):
            read_into(descriptor, run, runs.offset_bytes + (first + place) * runs.step_bytes)
        yield piece.reshape(math.prod(piece.shape))
