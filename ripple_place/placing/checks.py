"""Checks that a profile and the parameters of placing fit a checkpoint, made before the long part."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from ripple_place.blocks import unit_metadata
from ripple_place.checkpoint.model.quantisation_config import REORDER_FIRST
from ripple_place.checkpoint.output.plan import orders_of
from ripple_place.errors import PlacementError, TraceFormatError, UnsupportedError
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.printable import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.graph.profile import Profile
    from ripple_place.placing.params import PlacingParams


def check_granule(model: FfnModel, names: Sequence[str], params: PlacingParams) -> None:
    """Raise UnsupportedError if an ordering of single neurons would part those that share a scale or a pattern."""
    for name in names:
        needed = model.blocks[name].granule
        what = "quantised weights with a scale for"
        if any(tensor.kept_groups for tensor in model.blocks[name].tensors):
            what = "a declared pattern (sparsity, activations) over"
        if params.granule % needed and params.ordering != "original":
            raise UnsupportedError(
                f"{model.checkpoint.path}: {name}", found=f"{what} each {needed} neurons",
                expected=f"whole granules of {needed} to move, and --granule is {params.granule}",
                remedy=f"add --granule {needed}, or {REORDER_FIRST}",
            )  # fmt: skip


def check_profile_of(model: FfnModel, profile: Profile, names: Sequence[str]) -> None:
    """Raise TraceFormatError unless the named blocks of the profile are blocks of the model, and as wide."""
    sizes = {name: block.n_neurons for name, block in model.blocks.items()}
    check_profile_fits(profile, names, sizes, model.checkpoint.path, model.unit)


def check_profile_fits(
    profile: Profile, names: Sequence[str], sizes: Mapping[str, int], where: Path, unit: str
) -> None:  # fmt: skip
    """Raise TraceFormatError unless the named blocks of the profile have the sizes of blocks of the model `where`."""
    try:
        placement = {name: NeuronPlacement.original(profile.blocks[name].n_neurons) for name in names}
        orders_of(ModelPlacement(placement, unit_metadata(unit)), sizes, where)
    except PlacementError as cause:
        raise TraceFormatError(
            cause.where.replace("placement", "profile"), found=cause.found, expected=cause.expected,
            remedy="profile a trace of this very model",
        ) from cause  # fmt: skip


def model_warnings(model: FfnModel, profile: Profile) -> tuple[str, ...]:
    """Return what the model's description notes, and a warning if the trace is of a model by another name.

    Blocks and their widths are the same (`check_profile_of`), but a name is no proof: a copy has another one, and a
    model trained further may keep it. The checkpoint's names are its directory and what its config was saved under.
    """
    recorded = "" if profile.trace is None else profile.trace.metadata.get("model", "")
    named = [PurePath(part).name for part in recorded.split(" + ") if part not in ("", "unknown")]
    saved_as = model.checkpoint.config.get("_name_or_path")
    directory = without_surrogates(model.checkpoint.path.resolve().name)  # As metadata has it.
    known = {directory, PurePath(saved_as).name if isinstance(saved_as, str) else directory}
    if known.issuperset(named):
        return model.notes
    return (
        *model.notes,
        f"the profile's trace names the model {recorded}, the checkpoint is {directory}: blocks and widths are the "
        "same, but orders of another model bring little; profile this one unless it is a copy",
    )
