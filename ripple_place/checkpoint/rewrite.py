"""Rewriting a checkpoint: write both formats, hash them, prove them, and only then let OUT appear."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from ripple_place.checkpoint.bundle import PAGE_BYTES, bundle_sources
from ripple_place.checkpoint.fileio import as_pieces_done, copy_range, hash_files, ignore_progress, opened, prefetch
from ripple_place.checkpoint.manifest import build_manifest, format_manifest
from ripple_place.checkpoint.outdir import check_free_space, check_output, replacing_directory
from ripple_place.checkpoint.permute import permuted_tensor
from ripple_place.checkpoint.plan import BUNDLED_FILE, MANIFEST_FILE, PLACEMENT_FILE, second_orders
from ripple_place.checkpoint.sidefiles import copy_file
from ripple_place.checkpoint.verify import compare_output
from ripple_place.placement import write_placement
from ripple_place.tensorfile import as_bytes, write_tensor_file

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.plan import RewritePlan
    from ripple_place.checkpoint.verify import VerificationReport
    from ripple_place.tensorfile import TensorFile

_PREFETCH_BYTES = 256 << 20
_MANIFEST_BYTES = 1 << 20
_BYTES_PER_NEURON = 12
"""Of an order in placement (4) and manifest (its digits and a comma)."""


def execute(
    plan: RewritePlan, *, verify: bool = True, progress: Progress = ignore_progress
) -> VerificationReport | None:
    """Rewrite a checkpoint as planned. OUT appears whole, and verified, or not at all.

    Parameters
    ----------
    plan : RewritePlan
    verify : bool
        Prove the output before it appears; without, the manifest records no checks.
    progress : callable
        Called with bytes done, `plan.total_bytes` in all (less without `verify`).

    Returns
    -------
    VerificationReport or None
        What was checked, None without `verify`.

    Raises
    ------
    UsageError
        If OUT has appeared since it was planned, or another process writes it.
    VerificationError
        If the output is not the source, permuted: the source changed meanwhile, or storage or this program failed.
    CheckpointError
        If a source file was truncated meanwhile.
    OSError
        If storage refuses; ENOSPC before the first byte where the space will not do.
    """
    check_output(plan.model.checkpoint.path, plan.out, force=plan.force)
    second = second_orders(plan.placement)
    order_bytes = _BYTES_PER_NEURON * sum((1 + (name in second)) * b.n_neurons for name, b in plan.model.blocks.items())
    check_free_space(plan.out, plan.written_bytes + order_bytes + _MANIFEST_BYTES + plan.carrier_bytes)
    with replacing_directory(plan.out) as directory:
        write_output(plan, directory, progress)
        return seal_output(plan, directory, verify=verify, progress=progress)


def write_output(plan: RewritePlan, directory: Path, progress: Progress = ignore_progress) -> None:
    """Write everything but the manifest to a directory, flushed to storage."""
    checkpoint = plan.model.checkpoint
    if "drop-in" in plan.formats:
        for name, shard in checkpoint.shards.items():
            _write_shard(plan, shard, directory / name, progress)
    if plan.bundle is not None:
        sources = bundle_sources(plan.model, plan.orders, plan.bundle)
        counted = [replace(source, pieces=as_pieces_done(source.pieces, progress)) for source in sources]
        write_tensor_file(directory / BUNDLED_FILE, counted, plan.bundle.metadata, data_alignment_bytes=PAGE_BYTES)
        progress(plan.bundle.header_bytes)
    for name in plan.plain_files:
        copy_file(checkpoint.path / name, directory / name, progress)
    for file in plan.carriers:
        _write_bytes(directory / file.name, file.permuted(plan.orders))
    write_placement(directory / PLACEMENT_FILE, plan.placement)


def seal_output(
    plan: RewritePlan, directory: Path, *, verify: bool = True, progress: Progress = ignore_progress
) -> VerificationReport | None:
    """Hash a written output and its source, compare them if asked to, and write the manifest."""
    root = plan.model.checkpoint.path
    written = [*plan.weight_files, *plan.plain_files]
    hashes = hash_files(
        [*(root / name for name in plan.source_files), *(directory / name for name in written)], progress
    )
    ours = [PLACEMENT_FILE, *(file.name for file in plan.carriers)]
    hashes |= hash_files([*(directory / name for name in ours), *(file.source for file in plan.carriers)])
    carrier_hashes = {file.name: hashes[file.source] for file in plan.carriers}
    source_hashes = {name: hashes[root / name] for name in plan.source_files}
    out_files = {
        name: {"size_bytes": (directory / name).stat().st_size, "sha256": hashes[directory / name]}
        for name in [*written, *ours]
    }
    document = build_manifest(plan, source_hashes, out_files, [], carrier_hashes)
    report = None
    if verify:
        report = compare_output(root, directory, document, progress)
        document = build_manifest(plan, source_hashes, out_files, report.as_json(), carrier_hashes)
    _write_bytes(directory / MANIFEST_FILE, format_manifest(document).encode())
    return report


def _write_shard(plan: RewritePlan, shard: TensorFile, target: Path, progress: Progress) -> None:
    """Write a shard with the same header and extents, its neuron tensors permuted."""
    moved = {
        name: [(tensor, plan.orders[block]) for tensor, block in plan.model.parts[name]]
        for name in shard.tensors
        if plan.actions[name] != "copied"
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened(shard.path) as descriptor, target.open("xb") as file:
        segments = _segments(shard, moved)
        for (name, offset_bytes, length_bytes), following in zip(segments, [*segments[1:], None], strict=True):
            if following is not None:
                # Storage reads the next tensor while this one is permuted and written.
                prefetch(descriptor, following[1], min(following[2], _PREFETCH_BYTES))
            if name is None:
                copy_range(descriptor, offset_bytes, length_bytes, file, progress)
                continue
            for piece in permuted_tensor(plan.model.checkpoint, moved[name]):
                file.write(as_bytes(piece))
                progress(piece.nbytes)
        file.flush()
        os.fsync(file.fileno())


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


def _write_bytes(path: Path, data: bytes | bytearray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
