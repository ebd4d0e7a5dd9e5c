"""Prove that a rewritten checkpoint is the source, permuted, and give the source back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import EXPERT, NEURON
from ripple_place.capture.logits import check_can_run, compare_logits
from ripple_place.checkpoint.model.known_families import read_family
from ripple_place.checkpoint.output.expert_numbers import NUMBERING
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.output.outdir import partial_of
from ripple_place.checkpoint.proof.experts import verify_experts
from ripple_place.checkpoint.proof.verify import VerificationReport, verification_bytes
from ripple_place.checkpoint.proof.verify import verify as verify_output
from ripple_place.checkpoint.restore import RestoreReport, restore, restore_bytes
from ripple_place.errors import CheckpointError, UsageError
from ripple_place.graph.profile import read_predictor
from ripple_place.outputs import check_input
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.model.family import Family
    from ripple_place.predict.predictor import ModelPredictor


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` prints.

    Attributes
    ----------
    out : Path
    checkpoint : Path or None
    verification : VerificationReport or None
        None without a checkpoint.
    restored_to : Path or None
    restored : RestoreReport or None
        None if nothing was restored.
    is_pack : bool
        Whether `out` holds experts side by side.
    """

    out: Path
    checkpoint: Path | None = None
    verification: VerificationReport | None = None
    restored_to: Path | None = None
    restored: RestoreReport | None = None
    is_pack: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``verify --json``."""
        document: dict[str, Any] = {"out": str(self.out)}
        if self.verification is not None:
            document = {
                "checkpoint": str(self.checkpoint),
                "out": str(self.out),
                "tensors_permuted": self.verification.n_permuted,
                "tensors_untouched": self.verification.n_untouched,
                "bytes_compared": self.verification.n_bytes,
                "checks": self.verification.as_json(),
            }
        if self.restored is not None:
            document["restored"] = {
                "directory": str(self.restored_to),
                "files": self.restored.n_files,
                "bytes": self.restored.n_bytes,
                "left_out": list(self.restored.left_out),
            }
        return document


def verify(
    checkpoint: Path | str | None,
    out: Path | str,
    track: Track = no_track,
    *,
    logits: bool = False,
    restore_to: Path | str | None = None,
    adapter: Path | str | None = None,
    carriers: Sequence[Path | str] = (),
    family: Path | str | None = None,
    profile: Path | str | None = None,
) -> VerifyReport:
    """Compare every tensor of `out` with the source's, after undoing the permutation, and hash every file.

    Parameters
    ----------
    checkpoint : Path, str or None
        The source; None: `out` is not compared with anything, only restored.
    out : Path or str
        What `reorder` wrote, or `pack_experts`: the latter must hold every expert's bytes.
    track : Track
        Receives progress updates.
    logits : bool
        Run both models with transformers on random tokens, and compare their logits.
    restore_to : Path or str, optional
        New directory for the original files of `out`, hash-equal; written after the proof.
    adapter : Path or str, optional
    carriers : sequence of Path or str
        Originals of what was permuted along, as given to `reorder`: then `out` must have been made from these.
    family : Path or str, optional
        The family file, or name of a family, that was given to `reorder`.
    profile : Path or str, optional
        The profile that was given to `reorder`: then the predictors in `out` must be the profile's.

    Raises
    ------
    UsageError
        If a path is not there, `out` was not written by `reorder`, `restore_to` exists, there is nothing to do, the
        profile or `out` has no predictors, or `out` is a pack and logits or originals are given.
    TraceFormatError
        If the profile is malformed, or of another model.
    UnsupportedError
        If `logits` are asked for and cannot be had.
    VerificationError
        If anything differs.
    CheckpointError, PlacementError
        If what is restored from is malformed.
    OSError
        If a file cannot be read or written.
    """
    out = Path(out)
    report = VerifyReport(out)
    has_originals = adapter is not None or bool(carriers) or profile is not None
    if checkpoint is None and (logits or has_originals or restore_to is None):
        raise UsageError(
            "verify", found="no checkpoint to compare with", expected="the one that OUT was made from",
            remedy="name the checkpoint, or only restore",
        )  # fmt: skip
    given = None if family is None else read_family(family)
    if checkpoint is not None:
        predictor = None if profile is None else _predictor_of(Path(profile))
        originals = (
            None if adapter is None else Path(adapter), [Path(carrier) for carrier in carriers], given, predictor
        )  # fmt: skip
        verification = _prove(Path(checkpoint), out, track, *originals, logits=logits)
        is_pack = read_manifest(out).document.get("unit") == EXPERT
        report = replace(report, checkpoint=Path(checkpoint), verification=verification, is_pack=is_pack)
    if restore_to is not None:
        progress = track.bytes(restore_bytes(read_manifest(out).document), "restoring")
        report = replace(
            report, restored_to=Path(restore_to), restored=_restore(out, Path(restore_to), progress, given)
        )
    return report


def _predictor_of(profile: Path) -> ModelPredictor:
    """Return the predictors of a profile."""
    check_input(profile, "a profile", "correct the path")
    predictor = read_predictor(profile)
    if predictor is None:
        raise UsageError(
            f"--profile {profile}", found="no predictors in it", expected="the profile that OUT has predictors of",
            remedy="leave --profile out, or give the profile that was made with --predictor",
        )  # fmt: skip
    return predictor


def _restore(out: Path, target: Path, progress: Progress, family: Family | None) -> RestoreReport:
    """Restore; of a run that is interrupted, say what stays."""
    try:
        return restore(out, target, progress, family=family)
    except KeyboardInterrupt as interrupt:
        if (partial := partial_of(target)).exists():
            interrupt.add_note(f"{partial} stays: the same command replaces it, or remove it.")
        raise


def _prove(
    checkpoint: Path,
    out: Path,
    track: Track,
    adapter: Path | None,
    carriers: Sequence[Path],
    family: Family | None,
    predictor: ModelPredictor | None,
    *,
    logits: bool,
) -> VerificationReport:
    """Return what was verified: bytes and hashes, and logits if asked for."""
    total_bytes, unit, is_permuted = 0, NEURON, True
    try:
        manifest = read_manifest(out)
        total_bytes, unit = verification_bytes(manifest), manifest.document.get("unit", NEURON)
        is_permuted = unit != EXPERT or NUMBERING in manifest.document
    except CheckpointError:
        pass  # A damaged manifest: the verification proper says so.
    if unit == EXPERT and ((logits and not is_permuted) or adapter is not None or carriers or predictor is not None):
        raise UsageError(
            out, found="a pack of experts, and --logits or originals of what was permuted along",
            expected="the checkpoint alone: nothing was permuted", remedy="leave these options out",
        )  # fmt: skip
    if logits:
        check_can_run(out)
    progress = track.bytes(total_bytes, "verifying")
    if unit == EXPERT:
        verification = verify_experts(checkpoint, out, progress, family=family)
    else:
        verification = verify_output(
            checkpoint, out, progress, adapter=adapter, carriers=carriers, family=family, predictor=predictor
        )
    if not logits:
        return verification
    checks = {**verification.checks, "logits equal, in float64, on random tokens": compare_logits(checkpoint, out)}
    return replace(verification, checks=checks)
