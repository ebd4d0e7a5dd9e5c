"""Give back the checkpoint that an output was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.restore import RestoreReport, restore_bytes
from ripple_place.checkpoint.restore import restore as restore_checkpoint
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from pathlib import Path


def restore(out: Path, target: Path, track: Track = no_track) -> RestoreReport:
    """Write the original files of `out` to the new directory `target`, hash-equal.

    Raises
    ------
    UsageError, UnsupportedError, VerificationError, CheckpointError, PlacementError, OSError
        As `ripple_place.checkpoint.restore.restore`.
    """
    total_bytes = restore_bytes(read_manifest(out).document)
    return restore_checkpoint(out, target, track.bytes(total_bytes, "restoring"))
