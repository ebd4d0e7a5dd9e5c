"""The plan of a pack: the files of an expert-major output, and what its manifest says, before the first byte."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import EXPERT, unit_metadata
from ripple_place.checkpoint.fileio import CHUNK_BYTES
from ripple_place.checkpoint.model.routers import check_numbering
from ripple_place.checkpoint.names import BUNDLED_FILE, MANIFEST_FORMAT
from ripple_place.checkpoint.output.bundle_layout import INSIDE
from ripple_place.checkpoint.output.expert_bundle import plan_expert_bundle
from ripple_place.checkpoint.output.expert_numbers import BY_SLOT, NUMBERING, is_renumbered, moved_tensors
from ripple_place.checkpoint.output.manifest import sealed
from ripple_place.checkpoint.output.nesting import check_no_output_around
from ripple_place.checkpoint.output.outdir import check_output
from ripple_place.checkpoint.output.plan import FORMATS, orders_of
from ripple_place.checkpoint.output.sidefiles import SideFiles, list_side_files
from ripple_place.errors import UsageError
from ripple_place.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping

    from ripple_place.arrays import Int32Array
    from ripple_place.checkpoint.carriers.carrier import CarrierFile
    from ripple_place.checkpoint.model.expert_block import ExpertModel
    from ripple_place.checkpoint.output.additions import Addition
    from ripple_place.checkpoint.output.bundle_layout import BundleLayout
    from ripple_place.placement import ModelPlacement

DROP_IN, BUNDLED = FORMATS


@dataclass(frozen=True)
class PackPlan:
    """What a pack will be made of.

    Attributes
    ----------
    model : ExpertModel
    placement : ModelPlacement
        Of experts.
    orders : mapping of str to ndarray of int32
        ``order[slot]`` of every block of the model.
    out : Path
    formats : tuple of str
        ``bundled``, and ``drop-in`` before it where the source's own files are copied beside. ``drop-in`` may stand
        alone where experts are renumbered in it.
    bundle : BundleLayout or None
        None without ``bundled``.
    side_files : SideFiles
        None of a GGUF file.
    force : bool
        Whether an earlier output may be replaced.
    carriers, additions
        None: nothing is permuted along. The journal asks for them.
    """

    model: ExpertModel
    placement: ModelPlacement
    orders: Mapping[str, Int32Array]
    out: Path
    formats: tuple[str, ...]
    bundle: BundleLayout | None
    side_files: SideFiles
    force: bool
    carriers: tuple[CarrierFile, ...] = ()
    additions: Mapping[str, Addition] = field(default_factory=dict)
    stride: str = "page"
    gates: str = INSIDE

    @property
    def root(self) -> Path:
        """The directory that `source_files` lie in."""
        return self.model.root

    @property
    def renumbers(self) -> bool:
        """Whether experts get the numbers of their slots, in all files."""
        return is_renumbered(self.placement)

    @property
    def copied_weights(self) -> dict[str, int]:
        """Size of each weight file of the source that lies in OUT too, perhaps renumbered, by name."""
        return dict(self.model.weight_files) if DROP_IN in self.formats else {}

    @property
    def weight_files(self) -> dict[str, int]:
        """Size of each weight file that will lie in OUT, by name."""
        bundled = {} if self.bundle is None else {BUNDLED_FILE: self.bundle.size_bytes}
        return self.copied_weights | bundled

    @property
    def plain_files(self) -> dict[str, int]:
        """Size of each other file that is copied, by name."""
        return plain_files(self.model, self.side_files, self.formats)

    @property
    def source_files(self) -> dict[str, int]:
        """Size of each file of the source that the output is made from, by name."""
        return dict(self.model.weight_files) | self.plain_files

    @property
    def written_bytes(self) -> int:
        """Bytes that will lie in OUT, but for manifest and placement."""
        return sum(self.weight_files.values()) + sum(self.plain_files.values())

    @property
    def total_bytes(self) -> int:
        """Bytes that are reported as progress: written, hashed in the source, and weights compared."""
        return self.written_bytes + sum(self.source_files.values()) + sum(self.weight_files.values())

    @property
    def peak_ram_bytes(self) -> int:
        """Estimate of the memory that weights take: of chunks that are read, hashed and written."""
        return 6 * CHUNK_BYTES


def plan_pack(
    model: ExpertModel, placement: ModelPlacement, out: str | os.PathLike[str], *,
    formats: Collection[str] = FORMATS, force: bool = False,
) -> PackPlan:  # fmt: skip
    """Plan an expert-major output.

    Parameters
    ----------
    model : ExpertModel
    placement : ModelPlacement
        Of experts; layers that it lacks stay in their original order.
    out : path-like
        Directory to be written.
    formats : collection of str
        With ``drop-in``, the source's own files lie beside the pack. A GGUF file is never copied. Where the placement
        says that experts are numbered by their slots, they are so in both, routers included.
    force : bool
        Replace an earlier output.

    Raises
    ------
    UsageError
        If ``bundled`` is not among the formats and experts keep their numbers, OUT exists (without `force`), OUT and
        the source are not apart, OUT lies in another output, or the source is an output or has one inside.
    PlacementError
        If the placement has a layer that the model lacks, or one of another number of experts, or takes groups of
        experts apart that the router chooses among.
    CheckpointError
        If an entry of the source directory cannot be copied.
    UnsupportedError
        If the index outgrows its header, or experts cannot be renumbered.
    """
    renumber = is_renumbered(placement)
    if BUNDLED not in formats and not renumber:
        raise UsageError(
            "--unit expert", found=f"--format {' '.join(formats)}, which moves no expert",
            expected="the bundled file, in which experts are contiguous", remedy="leave --format out, or give bundled",
        )  # fmt: skip
    out = Path(out)
    check_output(model.path, out, force=force)
    check_no_output_around(out)
    sizes = {name: block.n_neurons for name, block in model.blocks.items()}
    orders = orders_of(placement, sizes, model.path)
    kept = tuple(name for name in FORMATS if name in formats and (name == BUNDLED or model.checkpoint is not None))
    side_files = SideFiles({}, {}) if model.checkpoint is None else list_side_files(model.checkpoint)
    if renumber:
        check_numbering(model, orders)
    bundle = plan_expert_bundle(model, orders, renumber=renumber) if BUNDLED in kept else None
    return PackPlan(model, placement, orders, out, kept, bundle, side_files, force)


def plain_files(model: ExpertModel, side_files: SideFiles, formats: Collection[str]) -> dict[str, int]:
    """Return the size of each file that is copied beside the weights, by name: side files, and the shards' index."""
    sizes = dict(side_files.copied)
    checkpoint = model.checkpoint
    if checkpoint is not None and checkpoint.index_name is not None and DROP_IN in formats:
        sizes[checkpoint.index_name] = (checkpoint.path / checkpoint.index_name).stat().st_size
    return sizes


def pack_manifest(
    plan: PackPlan,
    source_hashes: Mapping[str, str],
    out_files: Mapping[str, Mapping[str, Any]],
    checks: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return the manifest of a pack; parameters as of `ripple_place.checkpoint.output.manifest.build_manifest`."""
    model = plan.model
    return sealed({
        "format": MANIFEST_FORMAT,
        "tool_version": __version__,
        "family": model.family,
        "model_type": model.model_type,
        "formats": list(plan.formats),
        "stride": plan.stride,
        "source": {
            "files": {
                name: {"size_bytes": size_bytes, "sha256": source_hashes[name]}
                for name, size_bytes in sorted(plan.source_files.items())
            },
            "shards": list(model.weight_files),
            "left_out": dict(sorted(plan.side_files.left_out.items())),
        },
        "tensors": expert_actions(model, plan.orders, renumber=plan.renumbers),
        "blocks": describe_experts_of(model, plan.placement, plan.bundle),
        "bundled": None if plan.bundle is None else dict(plan.bundle.index),
        **unit_metadata(EXPERT),
        **({NUMBERING: BY_SLOT} if plan.renumbers else {}),
        "checks": checks,
        "files": dict(sorted(out_files.items())),
    })  # fmt: skip


def expert_actions(
    model: ExpertModel, orders: Mapping[str, Int32Array], *, renumber: bool
) -> dict[str, str]:  # fmt: skip
    """Return what happens to each tensor of a mixture: ``copied``, or ``experts`` where it is another expert's."""
    moved = moved_tensors(model, orders) if renumber else {}
    return {name: "experts" if name in moved else "copied" for name in model.tensors}


def describe_experts_of(
    model: ExpertModel, placement: ModelPlacement, bundle: BundleLayout | None
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Return what the manifest says of each layer's experts."""
    return {
        name: {
            "n_neurons": block.n_neurons,
            "hidden": 0,
            "dtype": block.dtype or "mixed",
            "bundle_bytes": block.bundle_bytes,
            "stride_bytes": block.stride_bytes,
            "offset_bytes": None if bundle is None else bundle.index[name]["offset_bytes"],
            "placed": name in placement.blocks,
            "tensors": {part.role: part.tensor for part in block.parts},
        }
        for name, block in model.blocks.items()
    }
