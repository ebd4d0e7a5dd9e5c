"""Prove that a rewritten checkpoint is the source, permuted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ripple_place.capture.logits import check_can_run, compare_logits
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.proof.verify import VerificationReport, verification_bytes
from ripple_place.checkpoint.proof.verify import verify as verify_output
from ripple_place.errors import CheckpointError
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from pathlib import Path


def verify(checkpoint: Path, out: Path, track: Track = no_track, *, logits: bool = False) -> VerificationReport:
    """Compare every tensor of `out` with the source's, after undoing the permutation, and hash every file.

    Parameters
    ----------
    checkpoint, out : Path
    track : Track
        Told of progress.
    logits : bool
        Run both models with transformers on random tokens, and compare what they say.

    Raises
    ------
    UsageError
        If either is not there, or `out` was not written by `reorder`.
    UnsupportedError
        If `logits` are asked for and cannot be had.
    VerificationError
        If anything differs.
    OSError
        If a file cannot be read.
    """
    try:
        total_bytes = verification_bytes(read_manifest(out))
    except CheckpointError:
        total_bytes = 0  # A damaged manifest: the verification proper says so.
    if logits:
        check_can_run(out)
    report = verify_output(checkpoint, out, track.bytes(total_bytes, "verifying"))
    if not logits:
        return report
    checks = {**report.checks, "logits equal, in float64, on random tokens": compare_logits(checkpoint, out)}
    return replace(report, checks=checks)
