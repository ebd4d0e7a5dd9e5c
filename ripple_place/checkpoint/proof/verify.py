"""Verification: an output is the source with its neurons permuted as the placement says, and nothing else."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import unit_metadata
from ripple_place.checkpoint.carriers.plan import plan_carriers
from ripple_place.checkpoint.fileio import hash_files, ignore_progress, opened
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import MANIFEST_FILE, PLACEMENT_FILE
from ripple_place.checkpoint.output.bundle import plan_bundle
from ripple_place.checkpoint.output.bundle_layout import INSIDE
from ripple_place.checkpoint.output.manifest import Manifest, describe_blocks, gates_metadata, read_manifest
from ripple_place.checkpoint.output.plan import resolve_orders, second_orders, tensor_actions
from ripple_place.checkpoint.proof.carriers import check_carriers
from ripple_place.checkpoint.proof.compare import AGAIN, ranges_equal
from ripple_place.checkpoint.proof.formats import check_stock_reader, compare_bundled, compare_drop_in
from ripple_place.checkpoint.proof.forward import compare_forward
from ripple_place.checkpoint.proof.inventory import FOLDER_VIEW, Contents, Inventory
from ripple_place.checkpoint.proof.predictors import check_predictors, require_predictors
from ripple_place.errors import CheckpointError, PlacementError, UnsupportedError, UsageError, VerificationError
from ripple_place.inputfile import open_stream
from ripple_place.placement import placement_pieces, read_placement

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from ripple_place.checkpoint.carriers.carrier import CarrierFile
    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.model.family import Family
    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.checkpoint.output.bundle_layout import BundleLayout
    from ripple_place.placement import ModelPlacement
    from ripple_place.predict.predictor import ModelPredictor

ADDED = "declared additions for readers that drop or predict neurons (the model is the same without them)"


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
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    progress: Progress = ignore_progress,
    *,
    adapter: Path | None = None,
    carriers: Sequence[Path] = (),
    family: Family | None = None,
    predictor: ModelPredictor | None = None,
) -> VerificationReport:
    """Prove that an output directory holds the source's model, permuted, and nothing else.

    Parameters
    ----------
    source : path-like
        The original checkpoint.
    out : path-like
        The output; it may have been moved or copied.
    progress : callable
        Called with bytes done, `verification_bytes` in all.
    adapter : Path, optional
        Directory of the LoRA adapter that was permuted along.
    carriers : sequence of Path
        What else was permuted along. If any original is given, all must be, and are compared; without, files that were
        permuted along are compared with hashes in the manifest, which anybody who can write the output can forge.
    family : Family, optional
        The one by which the output was made, where it is not the one that ships for the model type.
    predictor : ModelPredictor, optional
        Those of a profile, in the source's order: then the output must have the same, in its own. Without, predictors
        are only checked to be of the model's blocks.

    Raises
    ------
    UsageError
        If `source` is no directory, `out` no output, nothing lies where an original should, or predictors are given
        and the output has none.
    TraceFormatError
        If predictors are given that are not of this model.
    VerificationError
        If any file of the output or the source is not what the manifest records, any file or tensor is not the
        source's, or there is an entry that is not made from the source, links included.
    UnsupportedError
        If the source is, or an original, of a kind that cannot be rewritten.
    OSError
        If a file cannot be read.

    Notes
    -----
    What must be in the output follows from the source; the manifest must agree. Every file is hashed; every tensor is
    compared byte by byte after the inverse permutation, in each format; every safetensors file is opened by the stock
    reader; every FFN with float weights is computed on random input from both. The placement decides the order; what
    it pins, its frequencies and its metadata are claims. An output that changes meanwhile is not proved.
    About two tensors are held in memory, and the predictors.
    """
    source, out = Path(source), Path(out)
    if not source.is_dir():
        raise UsageError(source, found="no directory", expected="the original checkpoint", remedy="correct the path")
    if not (out / MANIFEST_FILE).is_file():
        read_manifest(out)  # Raises: not an output.
    with as_verification_error():
        # Before any file is opened: a FIFO would be waited for.
        inventory = Inventory.of(out)
        document = read_manifest(out).document
        inventory.check_accounted({*document["files"], MANIFEST_FILE})
        if predictor is not None:
            require_predictors(out, document.get("additions", {}))
        check_recorded(out, document["files"], AGAIN, progress)
        changed = "give the checkpoint from which the output was made, unchanged"
        check_recorded(source, document["source"]["files"], changed, progress)
        model = describe_ffn(Checkpoint.open(source), family)
        given = plan_carriers(model, adapter, carriers) if adapter is not None or carriers else None
        report = compare_output(source, out, document, progress, originals=given, family=family, predictor=predictor)
        n_files = len(document["files"]) + len(document["source"]["files"])
        checks = {"files hash to what the manifest records": n_files, **report.checks}
        if n_blocks := compare_forward(out, model, document["bundled"], drop_in="drop-in" in document["formats"]):
            checks["FFN blocks compute the same on random input, in float64"] = n_blocks
    return VerificationReport(
        checks,
        report.n_permuted,
        report.n_untouched,
        report.n_bytes,
    )


def compare_output(
    source: Path,
    out: Path,
    document: Mapping[str, Any],
    progress: Progress = ignore_progress,
    *,
    placement: ModelPlacement | None = None,
    originals: Sequence[CarrierFile] | None = None,
    besides: Collection[str] = (MANIFEST_FILE,),
    family: Family | None = None,
    predictor: ModelPredictor | None = None,
) -> VerificationReport:
    """Compare an output with its source, file by file and tensor by tensor; files are not hashed.

    Parameters
    ----------
    source, out : Path
    document : mapping of str to anything
        The manifest. Nothing in it is trusted but the hashes of what came from elsewhere, where `originals` are None.
    progress : callable
        Called with bytes of weights done.
    placement : ModelPlacement, optional
        The one that the output must have; without, the one that it has.
    originals : sequence of CarrierFile, optional
        What the files from elsewhere were made from.
    besides : collection of str
        Files that may lie in the output with all those.
    family : Family, optional
    predictor : ModelPredictor, optional
        As in `verify`.

    Raises
    ------
    TraceFormatError
        If a predictor is given that is not of this model.
    VerificationError
        If anything differs from what source and placement make of it, is missing, or is not made from them.
    OSError
        If a file cannot be read.
    """
    with as_verification_error():
        model = describe_ffn(Checkpoint.open(source), family)
        inventory = Inventory.of(out)
        contents = Contents.of(model.checkpoint, inventory)
        carriers: Mapping[str, Any] = document.get("carriers", {})
        additions = document.get("additions", {}).keys()
        inventory.check_accounted(contents.files | carriers.keys() | additions | {*besides})
        checks = {"side files equal the source's": check_copied(source, out, document, contents.copied)}
        placement = check_placement(out / PLACEMENT_FILE, placement)
        model = model.of_unit(placement.unit)
        orders = resolve_orders(model, placement)
        actions = tensor_actions(model, orders)
        second = second_orders(placement)
        is_bundled = "bundled" in contents.formats
        gates = document.get("gates", INSIDE)
        bundle = plan_bundle(model, orders, document["stride"], second, gates) if is_bundled else None
        blocks = describe_blocks(model, placement, bundle)
        _check_manifest(out, document, model, contents, actions, blocks, bundle)
        if carriers or originals:
            checks |= check_carriers(out, carriers, model, orders, originals)
        if "drop-in" in contents.formats:
            checks |= compare_drop_in(out, model, orders, actions, progress)
        if bundle is not None:
            checks |= compare_bundled(out, model, orders, bundle, progress)
        if additions:
            checks[ADDED] = len(additions)
        checks |= check_predictors(out, additions, model, orders, predictor)
        ours = [*contents.weights, PLACEMENT_FILE, *(name for name in additions if name.endswith(".safetensors"))]
        checks["files open in the stock safetensors reader"] = check_stock_reader([out / name for name in ours])
    n_permuted = sum(action != "copied" for action in actions.values())
    return VerificationReport(checks, n_permuted, len(actions) - n_permuted, Manifest(out, document).weight_bytes)


def check_placement(path: Path, expected: ModelPlacement | None) -> ModelPlacement:
    """Return the placement of an output, whose file must be, byte for byte, how it (or the expected one) is written."""
    placement = expected or read_placement(path)
    with open_stream(path) as file:
        is_equal = all(file.read(piece.nbytes) == piece for piece in placement_pieces(placement)) and not file.read(1)
    if not is_equal:
        raise VerificationError(
            path, found="other bytes", expected="the placement as it is written by `ripple-place reorder`",
            remedy=AGAIN,
        )  # fmt: skip
    return placement


def _check_manifest(
    out: Path, document: Mapping[str, Any], model: FfnModel, contents: Contents, actions: Mapping[str, str],
    blocks: Mapping[str, Any], bundle: BundleLayout | None,
) -> None:  # fmt: skip
    """Raise unless a manifest says what follows from source and placement, wherever it says anything of that."""
    shards = model.checkpoint.shards
    expected = {
        "unit": unit_metadata(model.unit).get("unit"),
        "gates": gates_metadata(bundle).get("gates"),
        "formats": list(contents.formats),
        "family": model.family.name,
        "model_type": model.checkpoint.config["model_type"],
        "shards": list(shards),
        "tensors": actions,
        "blocks": blocks,
        "bundled": bundle and dict(bundle.index),
        "source": {*shards, *contents.copied},
        "files": contents.files | document.get("carriers", {}).keys() | document.get("additions", {}).keys(),
    }
    recorded = document["source"]
    found = {
        "unit": None,
        "gates": None,
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


def check_copied(source: Path, out: Path, document: Mapping[str, Any], names: Sequence[str]) -> int:
    """Return the number of files that were copied, each equal to the source's and recorded with one hash for both."""
    for name in names:
        is_recorded = document["files"].get(name) == document["source"]["files"].get(name)
        with opened(source / name) as original, opened(out / name) as copy:
            size_bytes = os.fstat(original).st_size
            is_equal = os.fstat(copy).st_size == size_bytes and ranges_equal(original, 0, copy, 0, size_bytes)
        if not (is_recorded and is_equal):
            raise VerificationError(
                out / name, found="it missing, or other bytes", expected="the source's, byte for byte", remedy=AGAIN
            )
    return len(names)


@contextmanager
def as_verification_error() -> Iterator[None]:
    """Turn what is wrong with a file into what is wrong with the output; what is not supported proves nothing."""
    try:
        yield
    except UnsupportedError:
        raise
    except (CheckpointError, PlacementError) as cause:
        raise VerificationError.relocated(cause, cause.where) from cause
