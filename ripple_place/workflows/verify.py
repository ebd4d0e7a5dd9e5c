"""Prove that a rewritten checkpoint is the source, permuted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.checkpoint.manifest import read_manifest
from ripple_place.checkpoint.verify import VerificationReport, verification_bytes
from ripple_place.checkpoint.verify import verify as verify_output
from ripple_place.errors import CheckpointError
from ripple_place.workflows.tracking import Track, no_track

if TYPE_CHECKING:
    from pathlib import Path


def verify(checkpoint: Path, out: Path, track: Track = no_track) -> VerificationReport:
    """Compare every tensor of `out` with the source's, after undoing the permutation, and hash every file.

    Raises
    ------
    UsageError
        If either is not there, or `out` was not written by `reorder`.
    VerificationError
        If anything differs.
    OSError
        If a file cannot be read.
    """
    try:
        total_bytes = verification_bytes(read_manifest(out))
    except CheckpointError:
        total_bytes = 0  # A damaged manifest: the verification proper says so.
    return verify_output(checkpoint, out, track.bytes(total_bytes, "verifying"))
