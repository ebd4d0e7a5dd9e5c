"""Verification: an output is the source with its neurons permuted as the placement says, and nothing else."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.checkpoint.carriers.plan import redescribe
from ripple_place.checkpoint.fileio import hash_files, ignore_progress
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import BUNDLED_FILE, MANIFEST_FILE, PLACEMENT_FILE
from ripple_place.checkpoint.output.bundle import plan_bundle
from ripple_place.checkpoint.output.manifest import Manifest, describe_blocks, read_manifest
from ripple_place.checkpoint.output.plan import resolve_orders, second_orders, tensor_actions
from ripple_place.checkpoint.proof.compare import AGAIN
from ripple_place.checkpoint.proof.formats import check_stock_reader, compare_bundled, compare_drop_in
from ripple_place.checkpoint.proof.forward import compare_forward
from ripple_place.errors import CheckpointError, PlacementError, UsageError, VerificationError
from ripple_place.placement import read_placement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ripple_place.arrays import Int32Array
    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.model.ffn import FfnModel


@dataclass(frozen=True)
class VerificationReport:
    """What was verified, all of it successfully.

    Attributes
    ----------
    checks : mapping of str to int
        What was checked -> how many of them.
    n_permuted, n_untouched : int
        Tensors of the model by whether their neurons moved.
    n_bytes : int
        Bytes of weights that were compared with the source.
    """

    checks: Mapping[str, int]
    n_permuted: int
    n_untouched: int
    n_bytes: int

    def as_json(self) -> list[dict[str, Any]]:
        """Return the checks as the manifest records them."""
        return [{"check": check, "count": count, "result": "passed"} for check, count in self.checks.items()]


def verification_bytes(manifest: Manifest) -> int:
    """Return the bytes that `verify` reports as progress: files of OUT and source hashed, weights compared."""
    files, source = manifest.document["files"], manifest.document["source"]["files"]
    hashed: int = sum(entry["size_bytes"] for entry in (*files.values(), *source.values()))
    return hashed + manifest.weight_bytes


def verify(
    source: str | os.PathLike[str], out: str | os.PathLike[str], progress: Progress = ignore_progress
) -> VerificationReport:
    """Prove that an output directory holds the source's model, permuted.

    Parameters
    ----------
    source : path-like
        The original checkpoint.
    out : path-like
        The output; it may have been moved or copied.
    progress : callable
        Called with bytes done, `verification_bytes` in all.

    Raises
    ------
    UsageError
        If `source` is no directory, or `out` no output.
    VerificationError
        If any file of the output or the source is not what the manifest records, or any tensor is not the source's.
    OSError
        If a file cannot be read.

    Notes
    -----
    Every file is hashed; every tensor is compared byte by byte after the inverse permutation, in each format; every
    safetensors file is opened by the stock reader; every FFN with float weights is computed on random input from both.
    About two tensors are held in memory.
    """
    source, out = Path(source), Path(out)
    if not source.is_dir():
        raise UsageError(source, found="no directory", expected="the original checkpoint", remedy="correct the path")
    if not (out / MANIFEST_FILE).is_file():
        read_manifest(out)  # Raises: not an output.
    with _as_verification_error():
        manifest = read_manifest(out)
        _check_files(source, out, manifest.document, progress)
        report = compare_output(source, out, manifest.document, progress)
        n_files = len(manifest.document["files"]) + len(manifest.document["source"]["files"])
        checks = {"files hash to what the manifest records": n_files, **report.checks}
        formats, model = manifest.document["formats"], describe_ffn(Checkpoint.open(source))
        if n_blocks := compare_forward(out, model, manifest.document["bundled"], drop_in="drop-in" in formats):
            checks["FFN blocks compute the same on random input, in float64"] = n_blocks
    return VerificationReport(
        checks,
        report.n_permuted,
        report.n_untouched,
        report.n_bytes,
    )


def compare_output(
    source: Path, out: Path, document: Mapping[str, Any], progress: Progress = ignore_progress
) -> VerificationReport:
    """Compare an output with its source, tensor by tensor; files are not hashed.

    Parameters
    ----------
    source, out : Path
    document : mapping of str to anything
        The manifest.
    progress : callable
        Called with bytes of weights done.

    Raises
    ------
    VerificationError
        If anything differs from what source and placement make of it.
    OSError
        If a file cannot be read.
    """
    with _as_verification_error():
        model = describe_ffn(Checkpoint.open(source))
        placement = read_placement(out / PLACEMENT_FILE)
        orders = resolve_orders(model, placement)
        actions = tensor_actions(model, orders)
        second = second_orders(placement)
        bundle = plan_bundle(model, orders, document["stride"], second) if "bundled" in document["formats"] else None
        expected = {
            "family": model.family.name,
            "shards": list(model.checkpoint.shards),
            "tensors": actions,
            "blocks": describe_blocks(model, placement, bundle, document["stride"]),
            "bundled": bundle and dict(bundle.index),
        }
        found = {**document, "shards": document["source"]["shards"]}
        for key, value in expected.items():
            if found[key] != value:
                raise VerificationError(
                    f"{out / MANIFEST_FILE}: {key}", found="something else", remedy=AGAIN,
                    expected="what source and placement make of it",
                )  # fmt: skip
        checks = {"side files equal the source's": _check_side_files(out, document)}
        if document.get("carriers"):
            checks["files permuted along equal their sources after the inverse permutation"] = _check_carriers(
                out, document["carriers"], model, orders
            )
        if "drop-in" in document["formats"]:
            checks |= compare_drop_in(out, model, orders, actions, progress)
        if bundle is not None:
            checks |= compare_bundled(out, model, orders, bundle, progress)
        ours = [name for name in (*document["source"]["shards"], BUNDLED_FILE, PLACEMENT_FILE)
                if name in document["files"]]  # fmt: skip
        checks["files open in the stock safetensors reader"] = check_stock_reader([out / name for name in ours])
    n_permuted = sum(action != "copied" for action in actions.values())
    return VerificationReport(checks, n_permuted, len(actions) - n_permuted, Manifest(out, document).weight_bytes)


def _check_files(source: Path, out: Path, document: Mapping[str, Any], progress: Progress) -> None:
    """Raise unless OUT has exactly the recorded files, and these and the source's have the recorded hashes."""
    recorded = document["files"]
    for directory, _, names in os.walk(out):
        for name in names:
            file = (Path(directory) / name).relative_to(out)
            # No loader reads hidden files, and file managers and hubs strew them.
            if file.as_posix() not in recorded and file.as_posix() != MANIFEST_FILE and not str(file).startswith("."):
                raise VerificationError(
                    out / file, found="a file that was not written with the rest", expected="only recorded files",
                    remedy="remove it: a loader might take it for part of the model",
                )  # fmt: skip
    check_recorded(out, recorded, AGAIN, progress)
    changed = "give the checkpoint from which the output was made, unchanged"
    check_recorded(source, document["source"]["files"], changed, progress)


def check_recorded(root: Path, files: Mapping[str, Any], remedy: str, progress: Progress = ignore_progress) -> None:
    """Raise VerificationError unless files have the sizes and hashes that a manifest records of them.

    Parameters
    ----------
    root : Path
        Where they lie.
    files : mapping of str to mapping
        `size_bytes` and `sha256`, by name.
    remedy : str
        What to do otherwise.
    progress : callable
        Called with bytes hashed.
    """
    for name, entry in files.items():
        n_bytes = (root / name).stat().st_size if (root / name).is_file() else None
        if n_bytes != entry["size_bytes"]:
            raise VerificationError(
                root / name, found="no such file" if n_bytes is None else f"{n_bytes} bytes",
                expected=f"{entry['size_bytes']} bytes", remedy=remedy,
            )  # fmt: skip
    hashes = hash_files([root / name for name in files], progress)
    for name, entry in files.items():
        if hashes[root / name] != entry["sha256"]:
            raise VerificationError(
                root / name, found=f"SHA-256 {hashes[root / name]}", expected=f"{entry['sha256']}, as recorded",
                remedy=remedy,
            )  # fmt: skip


def _check_side_files(out: Path, document: Mapping[str, Any]) -> int:
    """Return the number of files beside the weights, all recorded with the source's hash."""
    source = document["source"]
    names = [name for name in source["files"] if name not in source["shards"]]
    for name in names:
        if document["files"].get(name) != source["files"][name]:
            raise VerificationError(
                out / name, found="it missing, or other bytes", expected="the source's, byte for byte", remedy=AGAIN
            )
    return len(names)


def _check_carriers(out: Path, carriers: Mapping[str, Any], model: FfnModel, orders: Mapping[str, Int32Array]) -> int:
    """Return the number of files permuted along, each of which hashes like its source once it is put back."""
    for name, entry in carriers.items():
        restored = redescribe(model, out, name, entry["kind"]).permuted(orders, inverse=True)
        if hashlib.sha256(restored).hexdigest() != entry["source_sha256"]:
            raise VerificationError(
                out / name, found="other contents", expected="the source's, in the order of the placement", remedy=AGAIN
            )
    return len(carriers)


@contextmanager
def _as_verification_error() -> Iterator[None]:
    """Turn what is wrong with a file into what is wrong with the output."""
    try:
        yield
    except (CheckpointError, PlacementError) as cause:
        raise VerificationError(cause.where, found=cause.found, expected=cause.expected, remedy=cause.remedy) from cause
