"""The original checkpoint, given back from an output: its files, byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import EXPERT
from ripple_place.checkpoint.fileio import ignore_progress
from ripple_place.checkpoint.model.experts import open_experts
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.gguf_experts import GGUF
from ripple_place.checkpoint.model.routers import check_numbering
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import OWN_DIRECTORY, PLACEMENT_FILE
from ripple_place.checkpoint.output.expert_numbers import (
    BY_SLOT,
    NUMBERING,
    moved_tensors,
    write_renumbered_shard,
)
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.output.nesting import check_no_output_around
from ripple_place.checkpoint.output.outdir import (
    BYTES_PER_FILE,
    check_free_space,
    check_output,
    empty_directory,
    installing,
    locked_directory,
)
from ripple_place.checkpoint.output.plan import orders_of, resolve_orders, tensor_actions
from ripple_place.checkpoint.output.shard_writer import write_shard
from ripple_place.checkpoint.output.sidefiles import copy_file
from ripple_place.checkpoint.proof.inventory import Inventory
from ripple_place.checkpoint.proof.verify import check_recorded
from ripple_place.errors import UnsupportedError
from ripple_place.placement import read_placement, slots_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.model.family import Family


@dataclass(frozen=True)
class RestoreReport:
    """What was restored.

    Attributes
    ----------
    n_files, n_bytes : int
        All of them hash to what the manifest records of the original.
    left_out : tuple of str
        What lay beside the original and was not copied into the output, and so is not restored.
    """

    n_files: int
    n_bytes: int
    left_out: tuple[str, ...]


def restore_bytes(document: Mapping[str, Any]) -> int:
    """Return the bytes that `restore` reports as progress: files of OUT hashed, the original written and hashed."""
    written: int = sum(entry["size_bytes"] for entry in document["source"]["files"].values())
    hashed: int = sum(entry["size_bytes"] for entry in document["files"].values())
    return hashed + 2 * written


def restore(
    out: str | os.PathLike[str],
    target: str | os.PathLike[str],
    progress: Progress = ignore_progress,
    *,
    family: Family | None = None,
) -> RestoreReport:
    """Write the checkpoint that an output was made from; the original is not needed.

    Parameters
    ----------
    out : path-like
        The output, with the drop-in shards.
    target : path-like
        New directory; appears whole, and with the original's hashes, or not at all.
    progress : callable
        Called with bytes done, `restore_bytes` in all.
    family : Family, optional
        The one by which the output was made, where it is not the one that ships for the model type.

    Raises
    ------
    UsageError
        If `out` is no output, or `target` exists, is not apart from it, or lies in another output.
    UnsupportedError
        If there are no drop-in shards: the bundled file has the weights, but not the original's headers.
    VerificationError
        If a file of the output is not what the manifest records, or a restored one not what the original was.
    CheckpointError, PlacementError
        If the output is damaged.
    OSError
        If storage refuses.

    Notes
    -----
    The inverse of an order is applied by the code that applied the order; the hashes prove the result. At most one
    tensor is held in memory. Beside a pack of experts lie the original files, which are copied, unless experts were
    renumbered.

    Nothing but the manifest says what the original was: whoever can write `out` decides what is restored from it, and
    no code of it is run. `verify` with the original proves that they agree.
    """
    out, target = Path(out), Path(target)
    document = read_manifest(out).document
    if "drop-in" not in document["formats"]:
        raise UnsupportedError(
            out, found="the bundled format alone", expected="the drop-in shards, which keep the original's headers",
            remedy="use the GGUF file itself, which packing does not change" if document["family"] == GGUF
            else "restore from an output of --format drop-in or both",
        )  # fmt: skip
    check_output(out, target, force=None)
    Inventory.of(out, may_link=True)  # Before anything is opened: a FIFO would be waited for.
    check_no_output_around(target)
    files: Mapping[str, Any] = document["source"]["files"]
    check_recorded(out, document["files"], "this output is damaged; restore from another copy of it", progress)
    write = _writer(out, document, family, progress)
    n_bytes = sum(entry["size_bytes"] for entry in files.values())
    with locked_directory(target) as directory:
        check_output(out, target, force=None)
        check_free_space(target, n_bytes + BYTES_PER_FILE * len(files))
        with installing(directory, target):
            empty_directory(directory)
            for name in files:
                if write is None or not write(name, directory / name):
                    copy_file(out / name, directory / name, progress)
            check_recorded(directory, files, "report this: the output is sound, and yet gives another model", progress)
            (directory / OWN_DIRECTORY).rmdir()
    return RestoreReport(len(files), n_bytes, tuple(sorted(document["source"]["left_out"])))


def _writer(
    out: Path, document: Mapping[str, Any], family: Family | None, progress: Progress
) -> Callable[[str, Path], bool] | None:
    """Return what writes a shard of an output as it was, given its name and a path; None if shards were copied.

    It returns whether the name is that of a shard.
    """
    if document.get("unit") != EXPERT:
        return _shard_writer(out, family, progress)
    return _expert_shard_writer(out, family, progress) if document.get(NUMBERING) == BY_SLOT else None


def _expert_shard_writer(out: Path, family: Family | None, progress: Progress) -> Callable[[str, Path], bool]:
    """Return what writes a file of an output with its experts under their original numbers, if it is a shard."""
    placement, model = read_placement(out / PLACEMENT_FILE), open_experts(out, family)
    checkpoint = model.checkpoint
    assert checkpoint is not None
    sizes = {name: block.n_neurons for name, block in model.blocks.items()}
    orders = {name: slots_of(order) for name, order in orders_of(placement, sizes, out).items()}
    check_numbering(model, orders)
    moved = moved_tensors(model, orders)

    def write(name: str, target: Path) -> bool:
        shard = checkpoint.shards.get(name)
        if shard is not None:
            write_renumbered_shard(moved, shard, target, progress, is_hashed=False)
        return shard is not None

    return write


def _shard_writer(out: Path, family: Family | None, progress: Progress) -> Callable[[str, Path], bool]:
    """Return what writes a file of an output to a path with its neurons in the original order, if it is a shard.

    It is given the name and the path, and returns whether it is one.
    """
    placement = read_placement(out / PLACEMENT_FILE)
    model = describe_ffn(Checkpoint.open(out), family).of_unit(placement.unit)
    orders = {name: slots_of(order) for name, order in resolve_orders(model, placement).items()}
    actions = tensor_actions(model, orders)

    def write(name: str, target: Path) -> bool:
        shard = model.checkpoint.shards.get(name)
        if shard is not None:
            write_shard(model, orders, actions, shard, target, progress, is_hashed=False)
        return shard is not None

    return write
