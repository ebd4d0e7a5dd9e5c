"""The files of a checkpoint that are not its weights: which are copied, and which would be stale and are left out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.checkpoint.carriers.predictor import LAYER_FILE
from ripple_place.checkpoint.fileio import ignore_progress, opened
from ripple_place.checkpoint.names import OWN_DIRECTORY
from ripple_place.checkpoint.output.nesting import check_no_output_within
from ripple_place.checkpoint.output.output_file import OutputFile
from ripple_place.checkpoint.output.weight_files import stale_reason
from ripple_place.errors import CheckpointError, UnsupportedError, UsageError
from ripple_place.foreign import file_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.model.shards import Checkpoint

_TOOL_DIRECTORIES = {".git", ".cache", "__pycache__"}


@dataclass(frozen=True)
class SideFiles:
    """Files beside the weights.

    Attributes
    ----------
    copied : mapping of str to int
        Name relative to the checkpoint, with ``/`` -> size in bytes.
    left_out : mapping of str to str
        Name -> why.
    """

    copied: Mapping[str, int]
    left_out: Mapping[str, str]


def list_side_files(checkpoint: Checkpoint) -> SideFiles:
    """List the files of a checkpoint directory that are neither its shards nor its index.

    Raises
    ------
    UsageError
        If the directory is itself an output of ours, or has one inside: its neurons are in another order already.
    UnsupportedError
        If an adapter lies beside the weights.
    CheckpointError
        If an entry is no readable file or directory, such as a broken link.
    OSError
        If an entry cannot be read.
    """
    root = checkpoint.path
    if (root / OWN_DIRECTORY).exists():
        raise UsageError(
            root, found=f"{OWN_DIRECTORY}/: this checkpoint was reordered before", expected="the original checkpoint",
            remedy=f"give the original, or what `ripple-place verify {root} --restore DIR` makes of this",
        )  # fmt: skip
    weights = {*checkpoint.shards, checkpoint.index_name}
    copied: dict[str, int] = {}
    left_out: dict[str, str] = {}
    for directory, subdirectories, names in os.walk(root):
        parent = Path(directory)
        check_no_output_within(root, parent)
        for name in sorted(subdirectories):
            if name in _TOOL_DIRECTORIES or (parent / name).is_symlink():
                reason = "a linked directory" if (parent / name).is_symlink() else "bookkeeping of another tool"
                left_out[(parent / name).relative_to(root).as_posix()] = reason
        subdirectories[:] = sorted(
            name for name in subdirectories if (parent / name).relative_to(root).as_posix() not in left_out
        )
        for name in sorted(names):
            file = parent / name
            relative = file.relative_to(root).as_posix()
            if relative in weights:
                continue
            if not file.is_file():
                raise file_error(
                    CheckpointError, file, found="a special file", expected="a file", remedy="remove the entry"
                )
            if name == "adapter_config.json":
                raise UnsupportedError(
                    parent, found="an adapter, whose matrices carry the neuron axis too",
                    expected="a checkpoint without one, since it would no longer fit",
                    remedy="move it out of the checkpoint and give it with --adapter, or merge it into the model first",
                )  # fmt: skip
            if LAYER_FILE.fullmatch(name) or name.endswith((".gpuidx", ".imatrix")) or "imatrix" in name.lower():
                left_out[relative] = "by neuron, and so stale; give it with --carrier"
            elif (stale := stale_reason(file)) is not None:
                left_out[relative] = stale
            else:
                copied[relative] = file.stat().st_size
    return SideFiles(copied, left_out)


def copy_file(source: Path, target: Path, progress: Progress = ignore_progress) -> str:
    """Copy a file's bytes to a new file, flushed to storage, and return their SHA-256; its directory is made."""
    with opened(source) as descriptor, OutputFile(target) as file:
        file.append_range(descriptor, 0, os.fstat(descriptor).st_size, progress)
    return file.sha256
