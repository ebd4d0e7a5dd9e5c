"""The layout of an output's bundled file, from its manifest and placement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ripple_place.errors import CheckpointError
from ripple_place.flash.bundle_form import GATES_APART, BundleForm
from ripple_place.flash.layout import BlockExtent
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.checkpoint.output.manifest import Manifest

MAX_NEURONS = 2**24
"""Of an output's blocks that were left in checkpoint order, whose orders no file holds: those of any model, twice."""


@dataclass(frozen=True, eq=False)
class OutputLayout:
    """Where an output has its units.

    Attributes
    ----------
    placement : ModelPlacement
        Of all blocks; those that were not placed in checkpoint order.
    extents : mapping of str to BlockExtent
        By block.
    forms : mapping of str to BundleForm
        Of blocks whose gates lie apart.
    """

    placement: ModelPlacement
    extents: Mapping[str, BlockExtent]
    forms: Mapping[str, BundleForm] = field(default_factory=dict)


def read_output_layout(name: str, manifest: Manifest) -> OutputLayout:
    """Return the layout of an output.

    Parameters
    ----------
    name : str
        What messages call it.
    manifest : Manifest

    Raises
    ------
    CheckpointError, PlacementError
        If the placement is malformed, or blocks are larger than any model's.
    OSError
        If the placement cannot be read.
    """
    placement = read_placement(manifest.placement_path)
    n_neurons = sum(entry.n_neurons for entry in manifest.blocks.values() if not entry.placed)
    if n_neurons > MAX_NEURONS:
        raise CheckpointError(
            name, found=f"blocks in checkpoint order of {n_neurons} neurons",
            expected=f"at most {MAX_NEURONS}", remedy="run `ripple-place reorder` again",
        )  # fmt: skip
    blocks = {
        block: placement.blocks[block] if entry.placed else NeuronPlacement.original(entry.n_neurons)
        for block, entry in manifest.blocks.items()
    }
    extents, forms = {}, {}
    for block, entry in manifest.blocks.items():
        base, stride_bytes = entry.offset_bytes or 0, entry.stride_bytes
        if entry.gates is not None:
            # Gates lie first, without padding between them.
            gate_bytes, rest_offset = entry.gates["stride_bytes"], base - entry.gates["offset_bytes"]
            rest_bytes = entry.bundle_bytes - gate_bytes
            forms[block] = BundleForm(GATES_APART, gate_bytes, rest_bytes, gate_bytes, stride_bytes, rest_offset)
            base, stride_bytes = entry.gates["offset_bytes"], gate_bytes + stride_bytes
        extents[block] = BlockExtent(entry.bundle_bytes, stride_bytes, base)
    return OutputLayout(ModelPlacement(blocks, placement.metadata), extents, forms)
