"""Packing experts: write the expert-major file and what lies beside it, prove both, and only then let OUT appear."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ripple_place.checkpoint.fileio import hash_files, ignore_progress
from ripple_place.checkpoint.names import BUNDLED_FILE, JOURNAL_FILE, MANIFEST_FILE, PLACEMENT_FILE
from ripple_place.checkpoint.output.expert_bundle import write_expert_bundle
from ripple_place.checkpoint.output.expert_numbers import moved_tensors, write_renumbered_shard
from ripple_place.checkpoint.output.expert_plan import pack_manifest
from ripple_place.checkpoint.output.journal import Journal, begun_files, finished_files
from ripple_place.checkpoint.output.manifest import format_manifest
from ripple_place.checkpoint.output.ours import PARTIAL_MARK
from ripple_place.checkpoint.output.outdir import (
    BYTES_PER_FILE,
    check_free_space,
    check_output,
    installing,
    locked_directory,
)
from ripple_place.checkpoint.output.sidefiles import copy_file
from ripple_place.checkpoint.proof.experts import compare_experts
from ripple_place.checkpoint.rewrite import BYTES_PER_UNIT, MANIFEST_BYTES, write_pieces
from ripple_place.placement import placement_pieces

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.output.expert_plan import PackPlan
    from ripple_place.checkpoint.proof.verify import VerificationReport

_BYTES_PER_TENSOR = 256
"""Of a tensor's name in the manifest and in the header of the pack."""


def execute_pack(
    plan: PackPlan, *, verify: bool = True, resume: bool = False, progress: Progress = ignore_progress
) -> VerificationReport | None:
    """Write a pack as planned. OUT appears whole, and verified, or not at all.

    Parameters, result and errors are those of `ripple_place.checkpoint.rewrite.execute`.
    """
    check_output(plan.model.path, plan.out, force=plan.force)
    with locked_directory(plan.out) as directory:
        check_output(plan.model.path, plan.out, force=plan.force)  # Another run may have finished it since.
        finished = finished_files(plan, directory) if resume else {}
        begun = begun_files(plan, directory, finished) if resume else {}
        check_free_space(plan.out, needed_pack_bytes(plan), has_both_formats=len(plan.formats) > 1)
        with (
            installing(directory, plan.out, keeps_finished=bool(finished or begun)),
            Journal(plan, directory, finished, begun) as journal,
        ):
            write_pack(plan, journal, progress)
            report = seal_pack(plan, journal, verify=verify, progress=progress)
            journal.remove()
    return report


def needed_pack_bytes(plan: PackPlan) -> int:
    """Return the free space that a pack asks for, at most."""
    n_experts = sum(block.n_neurons for block in plan.model.blocks.values())
    n_files = len(plan.weight_files) + len(plan.plain_files) + 2
    document_bytes = MANIFEST_BYTES + BYTES_PER_UNIT * n_experts + _BYTES_PER_TENSOR * len(plan.model.tensors)
    return plan.written_bytes + document_bytes + BYTES_PER_FILE * n_files


def write_pack(plan: PackPlan, journal: Journal, progress: Progress = ignore_progress) -> None:
    """Write everything but the manifest to the journal's directory, flushed to storage; finished files are kept."""
    directory = journal.directory
    tasks: list[tuple[str, int, Callable[[], str]]] = [
        (PLACEMENT_FILE, 0, partial(write_pieces, directory / PLACEMENT_FILE, placement_pieces(plan.placement)))
    ]
    if plan.bundle is not None:
        write_bundle = partial(
            write_expert_bundle, directory / BUNDLED_FILE, plan.model, plan.orders, plan.bundle, progress,
            renumber=plan.renumbers, begun=journal.begun.get(BUNDLED_FILE), mark=partial(journal.mark, BUNDLED_FILE),
        )  # fmt: skip
        tasks.append((BUNDLED_FILE, plan.bundle.size_bytes, write_bundle))
    copied = plan.copied_weights | plan.plain_files
    if plan.renumbers and plan.model.checkpoint is not None:
        moved = moved_tensors(plan.model, plan.orders)
        copied = plan.plain_files
        for name, size_bytes in plan.copied_weights.items():
            shard = plan.model.checkpoint.shards[name]
            tasks.append((name, size_bytes, partial(write_renumbered_shard, moved, shard, directory / name, progress)))
    for name, size_bytes in copied.items():
        tasks.append((name, size_bytes, partial(copy_file, plan.root / name, directory / name, progress)))
    for name, size_bytes, task in tasks:
        if name in journal:
            progress(size_bytes)
        else:
            journal.add(name, task())


def seal_pack(
    plan: PackPlan, journal: Journal, *, verify: bool = True, progress: Progress = ignore_progress
) -> VerificationReport | None:
    """Hash the source of a written pack, compare them if asked to, and write the manifest."""
    directory = journal.directory
    hashes = hash_files([plan.root / name for name in plan.source_files], progress)
    source_hashes = {name: hashes[plan.root / name] for name in plan.source_files}
    out_files = {
        name: {"size_bytes": (directory / name).stat().st_size, "sha256": sha256}
        for name, sha256 in journal.hashes([*plan.weight_files, *plan.plain_files, PLACEMENT_FILE]).items()
    }
    document, report = pack_manifest(plan, source_hashes, out_files, []), None
    if verify:
        report = compare_experts(
            plan.model, directory, document, progress, placement=plan.placement, besides=[JOURNAL_FILE, PARTIAL_MARK]
        )
        document = pack_manifest(plan, source_hashes, out_files, report.as_json())
    write_pieces(directory / MANIFEST_FILE, [memoryview(format_manifest(document).encode())])
    return report
