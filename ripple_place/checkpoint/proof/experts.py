"""Verification of packs: every expert's bytes are the source's, at the offsets that the index gives any reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.blocks import EXPERT
from ripple_place.checkpoint.fileio import (
    PAGE_BYTES,
    OpenFiles,
    chunks,
    ignore_progress,
    opened,
    read_into,
)
from ripple_place.checkpoint.model.experts import names_of, open_experts
from ripple_place.checkpoint.model.routers import check_numbering
from ripple_place.checkpoint.names import BUNDLED_FILE, MANIFEST_FILE, PLACEMENT_FILE
from ripple_place.checkpoint.output.expert_bundle import plan_expert_bundle
from ripple_place.checkpoint.output.expert_numbers import BY_SLOT, NUMBERING, is_renumbered
from ripple_place.checkpoint.output.expert_plan import describe_experts_of, expert_actions
from ripple_place.checkpoint.output.manifest import Manifest, read_manifest
from ripple_place.checkpoint.output.plan import orders_of
from ripple_place.checkpoint.proof.compare import AGAIN, ranges_equal
from ripple_place.checkpoint.proof.expert_numbers import compare_renumbered, runs_equal, runs_one_by_one
from ripple_place.checkpoint.proof.formats import check_stock_reader
from ripple_place.checkpoint.proof.inventory import FOLDER_VIEW, Contents, Inventory
from ripple_place.checkpoint.proof.verify import (
    VerificationReport,
    as_verification_error,
    check_copied,
    check_placement,
    check_recorded,
)
from ripple_place.errors import CheckpointError, VerificationError
from ripple_place.inputfile import open_stream
from ripple_place.tensorfile import TensorFile, build_header

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping

    from ripple_place.arrays import Int32Array
    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.model.expert_block import ExpertModel, Runs
    from ripple_place.checkpoint.model.family import Family
    from ripple_place.checkpoint.output.bundle_layout import BundleLayout
    from ripple_place.placement import ModelPlacement


def verify_experts(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    progress: Progress = ignore_progress,
    *,
    family: Family | None = None,
) -> VerificationReport:
    """Prove that an output directory holds the experts of the source, and nothing that is not the source's.

    Parameters
    ----------
    source : path-like
        The original checkpoint directory or GGUF file.
    out : path-like
        The output; it may have been moved or copied.
    progress : callable
        Called with bytes done, `ripple_place.checkpoint.proof.verify.verification_bytes` in all.
    family : Family, optional
        The one by which the output was made, where it is not the one that ships for the model type.

    Raises
    ------
    UsageError
        If there is nothing at `source`, or `out` is no output.
    VerificationError
        If any file of the output or the source is not what the manifest records, any byte of any expert is not the
        source's, or there is an entry that is not made from the source.
    UnsupportedError
        If the source's experts cannot be packed.
    OSError
        If a file cannot be read.

    Notes
    -----
    Every expert is read at the offset that a reader computes from the index. Memory is a few chunks of 8 MiB; where
    weights are gathered, one expert's part of a tensor.
    """
    out = Path(out)
    with as_verification_error():
        # Before any file is opened: a FIFO would be waited for.
        inventory = Inventory.of(out)
        document = read_manifest(out).document
        inventory.check_accounted({*document["files"], MANIFEST_FILE})
        check_recorded(out, document["files"], AGAIN, progress)
        model = open_experts(source, family)
        changed = "give the checkpoint from which the output was made, unchanged"
        check_recorded(model.root, document["source"]["files"], changed, progress)
        report = compare_experts(model, out, document, progress)
    n_files = len(document["files"]) + len(document["source"]["files"])
    checks = {"files hash to what the manifest records": n_files, **report.checks}
    return VerificationReport(checks, report.n_permuted, report.n_untouched, report.n_bytes)


def compare_experts(
    model: ExpertModel, out: Path, document: Mapping[str, Any], progress: Progress = ignore_progress, *,
    placement: ModelPlacement | None = None, besides: Collection[str] = (MANIFEST_FILE,),
) -> VerificationReport:  # fmt: skip
    """Compare a pack with its source, expert by expert; files are not hashed.

    Parameters
    ----------
    model : ExpertModel
        The source.
    out : Path
    document : mapping of str to anything
        The manifest, of which nothing is trusted.
    progress : callable
        Called with bytes of weights done.
    placement : ModelPlacement, optional
        The one that the output must have; without, the one that it has.
    besides : collection of str
        Files that may lie in the output with all those.

    Raises
    ------
    VerificationError
        If anything differs from what source and placement make of it, is missing, or is not made from them.
    OSError
        If a file cannot be read.
    """
    with as_verification_error():
        inventory = Inventory.of(out)
        if model.checkpoint is None:
            contents = Contents(("bundled",), (), (BUNDLED_FILE,))
        else:
            contents = Contents.of(model.checkpoint, inventory)
        inventory.check_accounted(contents.files | {*besides})
        placement = check_placement(out / PLACEMENT_FILE, placement)
        if placement.unit != EXPERT:
            raise _pack_error(out / PLACEMENT_FILE, f"a placement of {placement.unit}s")
        sizes = {name: block.n_neurons for name, block in model.blocks.items()}
        orders = orders_of(placement, sizes, model.path)
        renumber = is_renumbered(placement)
        if renumber:
            check_numbering(model, orders)
        is_bundled = BUNDLED_FILE in contents.weights
        bundle = plan_expert_bundle(model, orders, renumber=renumber) if is_bundled else None
        _check_manifest(out, document, model, contents, placement, orders, bundle)
        shards = [name for name in contents.weights if name != BUNDLED_FILE]
        copied = contents.copied if renumber else [*contents.copied, *shards]
        checks = {"files beside the pack equal the source's": check_copied(model.root, out, document, copied)}
        progress(sum(size for name, size in model.weight_files.items() if name in copied))
        if renumber and shards:
            checks |= compare_renumbered(out, model, orders, progress)
        if bundle is not None:
            checks |= _compare_pack(out / BUNDLED_FILE, model, orders, bundle, progress, renumber=renumber)
        checks["files open in the stock safetensors reader"] = check_stock_reader(
            [out / name for name in (*contents.weights, PLACEMENT_FILE)]
        )
    n_moved = sum(action != "copied" for action in document["tensors"].values())
    return VerificationReport(checks, n_moved, len(model.tensors) - n_moved, Manifest(out, document).weight_bytes)


def _check_manifest(
    out: Path, document: Mapping[str, Any], model: ExpertModel, contents: Contents, placement: ModelPlacement,
    orders: Mapping[str, Int32Array], bundle: BundleLayout | None,
) -> None:  # fmt: skip
    """Raise unless a manifest says what follows from source and placement."""
    recorded = document["source"]
    expected = {
        "unit": EXPERT,
        "formats": list(contents.formats),
        "stride": "page",
        "family": model.family,
        "model_type": model.model_type,
        "shards": list(model.weight_files),
        NUMBERING: BY_SLOT if is_renumbered(placement) else None,
        "tensors": expert_actions(model, orders, renumber=is_renumbered(placement)),
        "blocks": describe_experts_of(model, placement, bundle),
        "bundled": bundle and dict(bundle.index),
        "source": {*model.weight_files, *contents.copied},
        "files": contents.files,
    }
    found = {
        "unit": None,
        NUMBERING: None,
        **document,
        "shards": recorded["shards"],
        "source": recorded["files"].keys() - {FOLDER_VIEW},
        "files": document["files"].keys() - {FOLDER_VIEW},
    }
    for key, value in expected.items():
        if found[key] != value:
            raise VerificationError(
                f"{out / MANIFEST_FILE}: {key}", found="something else", remedy=AGAIN,
                expected="what source and placement make of it",
            )  # fmt: skip


def _compare_pack(
    path: Path, model: ExpertModel, orders: Mapping[str, Int32Array], layout: BundleLayout, progress: Progress, *,
    renumber: bool,
) -> dict[str, int]:  # fmt: skip
    """Return what was compared in a pack: experts, read by the file's own index, padding, and resident tensors."""
    file = TensorFile.open(path, CheckpointError)
    header = build_header(layout.tensors, layout.metadata, data_alignment_bytes=PAGE_BYTES)
    with open_stream(path) as raw:
        if raw.read(len(header)) != header:
            raise _pack_error(path, "another header or index")
    progress(len(header))
    index = json.loads(file.metadata["index"])
    with opened(path) as target, OpenFiles() as files:
        for name, block in model.blocks.items():
            entry = index[name]
            for expert, slot in enumerate(np.argsort(orders[name], kind="stable").tolist()):
                begin = end = entry["offset_bytes"] + slot * entry["stride_bytes"]
                where = f"{path}: {name}, expert {expert}"
                for part, component in zip(block.parts, entry["components"], strict=True):
                    _check_zeros(where, target, end, begin + component["offset_bytes"])
                    end = begin + component["offset_bytes"]
                    if not _equals(files, part.experts[expert], target, end):
                        raise _pack_error(f"{where}, {component['tensor']}", "other bytes")
                    end += component["length_bytes"]
                _check_zeros(where, target, end, begin + entry["stride_bytes"])
                progress(entry["stride_bytes"])
        followed = _compare_routers(path, model, orders, file, files) if renumber else frozenset()
        for resident in model.residents:
            extent = file.tensors[resident.name]
            if resident.name not in followed and not _equals(files, resident.place, target, extent.offset_bytes):
                raise _pack_error(f"{path}: tensor {resident.name}", "other bytes")
            progress(extent.length_bytes)
    return {
        "experts equal the source's, read at the index's offsets": sum(b.n_neurons for b in model.blocks.values()),
        "resident tensors equal the source's": len(model.residents),
    }


def _compare_routers(
    path: Path, model: ExpertModel, orders: Mapping[str, Int32Array], file: TensorFile, files: OpenFiles
) -> frozenset[str]:
    """Return the tensors of a pack that follow renumbered experts, each expert's slice compared with the source's."""
    parts = [(name, part) for name, routers in model.routers.items() for part in routers.parts]
    for name, part in parts:
        (tensor,) = names_of(part.tensor, model.blocks[name])
        begin = file.tensors[tensor].offset_bytes
        first = part.experts[0].offset_bytes
        for expert, slot in enumerate(np.argsort(orders[name], kind="stable").tolist()):
            place = part.experts[slot]
            moved = place._replace(file=path, offset_bytes=begin + place.offset_bytes - first)
            if not runs_equal(files, part.experts[expert], moved):
                raise _pack_error(f"{path}: tensor {tensor}, expert {expert}", "other bytes")
    return frozenset(part.tensor for _, part in parts)


def _equals(files: OpenFiles, runs: Runs, target: int, offset_bytes: int) -> bool:
    """Tell whether a range of the pack has the bytes of runs of the source."""
    source = files.descriptor(runs.file)
    if runs.n_runs == 1:
        return ranges_equal(source, runs.offset_bytes, target, offset_bytes, runs.run_bytes)
    position = offset_bytes
    for piece in runs_one_by_one(source, runs):
        found = np.empty(piece.size, np.uint8)
        read_into(target, found, position)
        if not np.array_equal(found, piece):
            return False
        position += piece.size
    return True


def _check_zeros(where: str, target: int, begin: int, end: int) -> None:
    if any(piece.any() for piece in chunks(target, begin, end - begin)):
        raise _pack_error(where, "padding that holds something")


def _pack_error(where: object, found: str) -> VerificationError:
    return VerificationError(where, found=found, expected="what source and placement make of it", remedy=AGAIN)
