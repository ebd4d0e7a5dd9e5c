"""The manifest of an output: what it was made from and how, and the hash of every file, its own included."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import sorted_blocks, unit_metadata
from ripple_place.checkpoint.names import ADDITIONS, BUNDLED_FILE, MANIFEST_FILE, MANIFEST_FORMAT, PLACEMENT_FILE
from ripple_place.checkpoint.output.bundle_layout import APART
from ripple_place.checkpoint.output.manifest_form import malformed_key
from ripple_place.errors import CheckpointError, UsageError
from ripple_place.foreign import file_error
from ripple_place.inputfile import read_input
from ripple_place.jsontext import parse_json
from ripple_place.version import __version__, is_later_version

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.checkpoint.output.bundle_layout import BundleLayout
    from ripple_place.checkpoint.output.plan import RewritePlan
    from ripple_place.placement import ModelPlacement

_KEYS = (
    "format", "tool_version", "family", "model_type", "formats", "stride", "source", "tensors", "blocks", "bundled",
    "checks", "files", "manifest_sha256",
)  # fmt: skip
_OPTIONAL_KEYS = ("unit", "gates", "numbering", "carriers", "additions")
"""Before the last three keys, where there is anything to say."""


@dataclass(frozen=True)
class ManifestBlock:
    """One block of an output, as a reader or a simulator needs it.

    Attributes
    ----------
    n_neurons, bundle_bytes : int
        Units, and bytes of one.
    stride_bytes : int
        From one bundle to the next; `bundle_bytes` where there is no bundled file.
    offset_bytes : int or None
        Of the block in the bundled file, None where there is none.
    placed : bool
        Whether the placement has the block.
    gates : mapping of str to int, optional
        Where its gates lie, if apart from the rest: `offset_bytes` and `stride_bytes`; those of the block are then of
        the rest.
    """

    n_neurons: int
    bundle_bytes: int
    stride_bytes: int
    offset_bytes: int | None
    placed: bool
    gates: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read and whose hash holds.

    Attributes
    ----------
    out : Path
        The output directory.
    document : mapping of str to anything
        The JSON object.
    """

    out: Path
    document: Mapping[str, Any]

    @property
    def blocks(self) -> dict[str, ManifestBlock]:
        """The blocks, in model order."""
        keys = ManifestBlock.__dataclass_fields__
        blocks = self.document["blocks"]
        return {
            name: ManifestBlock(**{key: value for key, value in blocks[name].items() if key in keys})
            for name in sorted_blocks(blocks)
        }

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weight files in OUT."""
        files = self.document["files"]
        names = [*self.document["source"]["shards"], BUNDLED_FILE]
        return sum(files[name]["size_bytes"] for name in names if name in files)

    @property
    def placement_path(self) -> Path:
        """Where the placement file lies."""
        return self.out / PLACEMENT_FILE

    @property
    def bundled_path(self) -> Path | None:
        """Where the bundled file lies, None if there is none."""
        return self.out / BUNDLED_FILE if "bundled" in self.document["formats"] else None


def build_manifest(
    plan: RewritePlan,
    source_hashes: Mapping[str, str],
    out_files: Mapping[str, Mapping[str, Any]],
    checks: list[dict[str, Any]],
    carrier_hashes: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the manifest of a rewrite.

    Parameters
    ----------
    plan : RewritePlan
    source_hashes : mapping of str to str
        SHA-256 of each of the plan's source files.
    out_files : mapping of str to mapping
        ``size_bytes`` and ``sha256`` of each file in OUT but the manifest.
    checks : list of dict
        What was verified.
    carrier_hashes : mapping of str to str, optional
        SHA-256 of the source of each of the plan's carriers, by its name in OUT.
    """
    model = plan.model
    document: dict[str, Any] = {
        "format": MANIFEST_FORMAT,
        "tool_version": __version__,
        "family": model.family.name,
        "model_type": model.checkpoint.config["model_type"],
        "formats": list(plan.formats),
        "stride": plan.stride,
        "source": {
            "files": {
                name: {"size_bytes": size_bytes, "sha256": source_hashes[name]}
                for name, size_bytes in sorted(plan.source_files.items())
            },
            "shards": list(model.checkpoint.shards),
            "left_out": dict(sorted(plan.side_files.left_out.items())),
        },
        "tensors": dict(plan.actions),
        "blocks": describe_blocks(model, plan.placement, plan.bundle),
        "bundled": dict(plan.bundle.index) if plan.bundle else None,
    }
    document |= unit_metadata(model.unit) | gates_metadata(plan.bundle)
    if plan.carriers:
        document["carriers"] = {
            file.name: {"kind": file.kind, "source_sha256": (carrier_hashes or {})[file.name]} for file in plan.carriers
        }
    if plan.additions:
        document["additions"] = {name: ADDITIONS[name] for name in sorted(plan.additions)}
    document |= {
        "checks": checks,
        "files": dict(sorted(out_files.items())),
    }
    return sealed(document)


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with its hash."""
    return {**document, "manifest_sha256": _hash(document)}


def gates_metadata(bundle: BundleLayout | None) -> dict[str, str]:
    """Return the key that says that gates lie apart, where they do."""
    return {"gates": APART} if bundle is not None and bundle.gates == APART else {}


def _place_of_gates(bundle: BundleLayout | None, name: str) -> dict[str, Any]:
    """Return where a block's gates lie, if apart."""
    gates = None if bundle is None else bundle.index[name].get("gates")
    return {} if gates is None else {"gates": {key: gates[key] for key in ("offset_bytes", "stride_bytes")}}


def describe_blocks(
    model: FfnModel, placement: ModelPlacement, bundle: BundleLayout | None
) -> dict[str, dict[str, Any]]:
    """Return what the manifest says of each block."""
    return {
        name: {
            "n_neurons": block.n_neurons,
            "hidden": block.hidden,
            "dtype": block.dtype or "mixed",
            "bundle_bytes": block.bundle_bytes,
            "stride_bytes": bundle.index[name]["stride_bytes"] if bundle else block.bundle_bytes,
            "offset_bytes": bundle.index[name]["offset_bytes"] if bundle else None,
            **_place_of_gates(bundle, name),
            "placed": name in placement.blocks,
            "tensors": {
                tensor.role: tensor.name for tensor in block.tensors or [part.tensor for part in block.components]
            },
        }
        for name, block in model.blocks.items()
    }


def format_manifest(document: Mapping[str, Any]) -> str:
    """Return a manifest as text: one line per top-level key, the same bytes for the same content."""
    lines = (f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in document.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_manifest(out: str | os.PathLike[str]) -> Manifest:
    """Read the manifest of an output directory and check its hash.

    Raises
    ------
    UsageError
        If `out` is no output: no directory, or without a manifest.
    CheckpointError
        If the manifest is damaged, or of another version of the format.
    OSError
        If it cannot be read.
    """
    path = Path(out) / MANIFEST_FILE
    if not path.is_file():
        raise UsageError(
            out, found="a directory without " + MANIFEST_FILE if Path(out).is_dir() else "no directory",
            expected="an output of `ripple-place reorder`", remedy="give the directory that was named with --out",
        )  # fmt: skip
    text = read_input(path)
    found, remedy = None, "run `ripple-place reorder` again, with this version"
    try:
        document = parse_json(text)
        if isinstance(document, dict) and is_later_version(document.get("format"), MANIFEST_FORMAT):
            found, remedy = f"format {document['format']!r}", "update ripple-place: a later version wrote this output"
        elif not isinstance(document, dict) or tuple(key for key in document if key not in _OPTIONAL_KEYS) != _KEYS:
            found = "unknown or missing keys"
        elif document["format"] != MANIFEST_FORMAT:
            found = f"format {document['format']!r}"
        elif format_manifest(document).encode() != text or _hash(document) != document["manifest_sha256"]:
            found = "bytes that its own hash does not cover"
        elif key := malformed_key(document):
            found = f"{key} of another form"
    except ValueError as cause:
        found = str(cause)
    if found is not None:
        raise file_error(
            CheckpointError, path, found=found, expected=f"a whole {MANIFEST_FORMAT}", remedy=remedy
        )  # fmt: skip
    return Manifest(Path(out), document)


def _hash(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest, its own entry left out."""
    covered = {key: value for key, value in document.items() if key != "manifest_sha256"}
    return hashlib.sha256(format_manifest(covered).encode()).hexdigest()
