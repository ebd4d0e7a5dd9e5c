"""Rewriting a checkpoint: write both formats, hash them, prove them, and only then let OUT appear."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ripple_place.checkpoint.fileio import PAGE_BYTES, hash_files, ignore_progress
from ripple_place.checkpoint.names import BUNDLED_FILE, JOURNAL_FILE, MANIFEST_FILE, PLACEMENT_FILE
from ripple_place.checkpoint.output.bundle import bundle_sources
from ripple_place.checkpoint.output.journal import Journal, finished_files
from ripple_place.checkpoint.output.manifest import build_manifest, format_manifest
from ripple_place.checkpoint.output.ours import PARTIAL_MARK
from ripple_place.checkpoint.output.outdir import (
    BYTES_PER_FILE,
    check_free_space,
    check_output,
    installing,
    locked_directory,
)
from ripple_place.checkpoint.output.output_file import OutputFile
from ripple_place.checkpoint.output.plan import second_orders
from ripple_place.checkpoint.output.shard_writer import write_shard
from ripple_place.checkpoint.output.sidefiles import copy_file
from ripple_place.checkpoint.proof.verify import compare_output
from ripple_place.placement import placement_pieces
from ripple_place.tensorfile import tensor_file_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ripple_place.checkpoint.carriers.carrier import CarrierFile
    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.output.additions import Addition
    from ripple_place.checkpoint.output.plan import RewritePlan
    from ripple_place.checkpoint.proof.verify import VerificationReport

ASSUMED_BYTES_PER_S = 500e6
"""Bytes written, hashed and compared a second: what benchmarks/bench_rewrite.py finds on two cores and a cloud disk."""
MANIFEST_BYTES = 1 << 20
"""Of a manifest without orders, at most."""
BYTES_PER_UNIT = 12
"""Of a neuron's, or an expert's, place in placement (4) and manifest (its digits and a comma)."""


def execute(
    plan: RewritePlan, *, verify: bool = True, resume: bool = False, progress: Progress = ignore_progress
) -> VerificationReport | None:
    """Rewrite a checkpoint as planned. OUT appears whole, and verified, or not at all.

    Parameters
    ----------
    plan : RewritePlan
    verify : bool
        Prove the output before it appears; without, the manifest records no checks.
    resume : bool
        Continue what a run that was killed left in ``OUT.partial``, if anything; the same bytes come of it.
    progress : callable
        Called with bytes done, `plan.total_bytes` in all (less without `verify`).

    Returns
    -------
    VerificationReport or None
        What was checked, None without `verify`.

    Raises
    ------
    UsageError
        If OUT has appeared since it was planned, another process writes it, or the run to be continued was another.
    VerificationError
        If the output is not the source, permuted: the source changed meanwhile, or storage or this program failed.
    CheckpointError
        If a source file was truncated meanwhile.
    OSError
        If storage refuses; ENOSPC before the first byte where the space will not do.
    """
    source = plan.model.checkpoint.path
    check_output(source, plan.out, force=plan.force)
    with locked_directory(plan.out) as directory:
        check_output(source, plan.out, force=plan.force)  # Another run may have finished it since.
        finished = finished_files(plan, directory) if resume else {}
        check_free_space(
            plan.out, needed_bytes(plan), has_both_formats=len(plan.formats) > 1
        )  # Before what an earlier run has written is touched.
        with (
            installing(directory, plan.out, keeps_finished=bool(finished)),
            Journal(plan, directory, finished) as journal,
        ):
            write_output(plan, journal, progress)
            report = seal_output(plan, journal, verify=verify, progress=progress)
            journal.remove()
    return report


def needed_bytes(plan: RewritePlan) -> int:
    """Return the free space that a rewrite asks for, at most."""
    second = second_orders(plan.placement)
    order_bytes = BYTES_PER_UNIT * sum((1 + (name in second)) * b.n_neurons for name, b in plan.model.blocks.items())
    n_files = len(plan.weight_files) + len(plan.plain_files) + len(plan.carriers) + len(plan.additions) + 2
    return plan.written_bytes + plan.carrier_bytes + order_bytes + MANIFEST_BYTES + BYTES_PER_FILE * n_files


def estimated_seconds(plan: RewritePlan) -> float:
    """Return about how long a rewrite takes where reading, hashing and comparing run at `ASSUMED_BYTES_PER_S`."""
    return plan.total_bytes / ASSUMED_BYTES_PER_S


def write_output(plan: RewritePlan, journal: Journal, progress: Progress = ignore_progress) -> None:
    """Write everything but the manifest to the journal's directory, flushed to storage; finished files are kept."""
    checkpoint, directory = plan.model.checkpoint, journal.directory
    tasks: list[tuple[str, int, Callable[[], str]]] = [(PLACEMENT_FILE, 0, partial(_write_placement, plan, directory))]
    if "drop-in" in plan.formats:
        for name, shard in checkpoint.shards.items():
            tasks.append(
                (
                    name,
                    shard.size_bytes,
                    partial(write_shard, plan.model, plan.orders, plan.actions, shard, directory / name, progress),
                )
            )
    if plan.bundle is not None:
        tasks.append((BUNDLED_FILE, plan.bundle.size_bytes, partial(_write_bundled, plan, directory, progress)))
    for name, size_bytes in plan.plain_files.items():
        tasks.append((name, size_bytes, partial(copy_file, checkpoint.path / name, directory / name, progress)))
    for file in plan.carriers:
        tasks.append((file.name, 0, partial(_write_carrier, plan, file, directory)))
    for name, addition in plan.additions.items():
        tasks.append((name, 0, partial(_write_addition, addition, directory / name)))
    for name, size_bytes, task in tasks:
        if name in journal:
            progress(size_bytes)
        else:
            journal.add(name, task())


def seal_output(
    plan: RewritePlan, journal: Journal, *, verify: bool = True, progress: Progress = ignore_progress
) -> VerificationReport | None:
    """Hash the source of a written output, compare them if asked to, and write the manifest."""
    root, directory = plan.model.checkpoint.path, journal.directory
    written: list[str] = [*plan.weight_files, *plan.plain_files]
    hashes = hash_files([root / name for name in plan.source_files], progress)
    hashes |= hash_files([file.source for file in plan.carriers])
    carrier_hashes = {file.name: hashes[file.source] for file in plan.carriers}
    source_hashes = {name: hashes[root / name] for name in plan.source_files}
    out_hashes = journal.hashes([*written, PLACEMENT_FILE, *(file.name for file in plan.carriers), *plan.additions])
    out_files: dict[str, dict[str, Any]] = {
        name: {"size_bytes": (directory / name).stat().st_size, "sha256": sha256} for name, sha256 in out_hashes.items()
    }
    document = build_manifest(plan, source_hashes, out_files, [], carrier_hashes)
    report = None
    if verify:
        report = compare_output(
            root, directory, document, progress, placement=plan.placement,
            originals=plan.carriers or None, besides=[JOURNAL_FILE, PARTIAL_MARK], family=plan.model.family,
        )  # fmt: skip
        document = build_manifest(plan, source_hashes, out_files, report.as_json(), carrier_hashes)
    write_pieces(directory / MANIFEST_FILE, [memoryview(format_manifest(document).encode())])
    return report


def _write_placement(plan: RewritePlan, directory: Path) -> str:
    return write_pieces(directory / PLACEMENT_FILE, placement_pieces(plan.placement))


def _write_bundled(plan: RewritePlan, directory: Path, progress: Progress) -> str:
    assert plan.bundle is not None
    sources = bundle_sources(plan.model, plan.orders, plan.bundle)
    pieces = tensor_file_pieces(sources, plan.bundle.metadata, data_alignment_bytes=PAGE_BYTES)
    return write_pieces(directory / BUNDLED_FILE, pieces, progress)


def _write_carrier(plan: RewritePlan, file: CarrierFile, directory: Path) -> str:
    return write_pieces(directory / file.name, [memoryview(file.permuted(plan.orders))])


def _write_addition(addition: Addition, path: Path) -> str:
    return write_pieces(path, addition.pieces())


def write_pieces(path: Path, pieces: Iterable[memoryview], progress: Progress = ignore_progress) -> str:
    """Write a new file and return its SHA-256."""
    with OutputFile(path) as file:
        for piece in pieces:
            file.append(piece)
            progress(piece.nbytes)
    return file.sha256
