"""From the names of layouts to layouts: which neuron lies where, how often each fired, and what DRAM was planned."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.blocks import unit_metadata
from ripple_place.bundle_sizes import recorded_sizes, sizes_of_blocks
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.errors import PlacementError, UsageError
from ripple_place.flash.layout import BlockExtent, Layout
from ripple_place.graph.profile import read_profile
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement
from ripple_place.placing.recorded_dram import RecordedDram
from ripple_place.runtime.output_layout import read_output_layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ripple_place.arrays import Int64Array
    from ripple_place.bundle_sizes import BundleBytes
    from ripple_place.flash.bundle_form import BundleForm
    from ripple_place.trace.activation_trace import ActivationTrace

    FiringCounts = Mapping[str, Int64Array]

ORIGINAL = "original"
"""Name of the layout in checkpoint order."""


@dataclass(frozen=True, eq=False)
class NamedLayout:
    """What the name of a layout leads to.

    Attributes
    ----------
    name : str
        As it was given.
    placement : ModelPlacement
        Of all blocks of the trace, and of further ones if the file has some.
    extents : mapping of str to BlockExtent
        Where the bundles of each block lie; empty if that is unknown.
    forms : mapping of str to BundleForm
        Of the blocks whose gates lie apart.
    """

    name: str
    placement: ModelPlacement
    extents: Mapping[str, BlockExtent]
    forms: Mapping[str, BundleForm] = field(default_factory=dict)


def read_layouts(
    names: Sequence[str],
    trace: ActivationTrace,
    bundle_bytes: BundleBytes | None = None,
    profile: Path | str | None = None,
    model_bundle_bytes: Mapping[str, int] | None = None,
) -> tuple[tuple[Layout, ...], dict[str, RecordedDram]]:
    """Return the layouts by these names, for the blocks of a trace.

    Parameters
    ----------
    names : sequence of str
        Output directories of `reorder`, placement files, or ``original``.
    trace : ActivationTrace
        Of the same model.
    bundle_bytes : int or (int, int), optional
        Of every block, or of input and of down columns, packed; overrides what layouts know.
    profile : Path or str, optional
        Has the firing counts of all layouts; default those that the layouts record.
    model_bundle_bytes : mapping of str to int, optional
        Of the model whose trace it is, by block: where neither `bundle_bytes` nor a layout says it.

    Returns
    -------
    layouts : tuple of Layout
        In the order of `names`.
    recorded : dict of str to RecordedDram
        By name, the DRAM that some of them were made for.

    Raises
    ------
    UsageError
        If a name stands twice, leads nowhere, or nothing says how long bundles are.
    PlacementError, CheckpointError, TraceFormatError
        If a file is malformed, or of another model than the trace.
    OSError
        If a file cannot be read.
    """
    if len(set(names)) < len(names):
        raise UsageError("--layout", found="a layout twice", expected="each once", remedy="leave one out")
    named = [read_layout(name, trace) for name in names]
    counts = firing_counts(trace, (layout.placement for layout in named), profile)
    # Checkpoint order, and placements that do not say, have bundles like the first layout that does.
    first = next((layout for layout in named if layout.extents), None)
    known, forms = ({}, {}) if first is None else (first.extents, first.forms)
    if not known and model_bundle_bytes is not None and model_bundle_bytes.keys() >= trace.blocks.keys():
        known = _packed({block: model_bundle_bytes[block] for block in trace.blocks})
    if bundle_bytes is not None:
        packed = _packed(sizes_of_blocks(bundle_bytes, trace.unit, trace.blocks))
        named = [replace(layout, extents=packed, forms={}) for layout in named]
    named = [layout if layout.extents else replace(layout, extents=known, forms=forms) for layout in named]
    layouts = tuple(_complete(layout, trace, counts) for layout in named)
    recorded = {layout.name: RecordedDram.of(layout.name, layout.placement) for layout in named}
    return layouts, {name: dram for name, dram in recorded.items() if dram is not None}


def read_layout(name: str, trace: ActivationTrace) -> NamedLayout:
    """Return the layout by this name, checked against the trace; for what it raises see `read_layouts`."""
    layout = _find(name, trace)
    for block, activations in trace.blocks.items():
        placed = layout.placement.blocks.get(block)
        if placed is None or placed.n_neurons != activations.n_neurons:
            raise PlacementError(
                f"--layout {name}: {block}", found="no such block" if placed is None else f"{placed.n_neurons} neurons",
                expected=f"{activations.n_neurons} neurons, as in the trace",
                remedy="give a layout and a trace of the same model",
            )  # fmt: skip
    return layout


def _find(name: str, trace: ActivationTrace) -> NamedLayout:
    """Return checkpoint order, or what a directory or a file holds."""
    originals = {block: NeuronPlacement.original(active.n_neurons) for block, active in trace.blocks.items()}
    if name == ORIGINAL:
        return NamedLayout(name, ModelPlacement(originals, unit_metadata(trace.unit)), {})
    path = Path(name)
    if not path.exists():
        raise UsageError(
            f"--layout {name}", found="nothing there", expected=f"an output of `reorder`, or {ORIGINAL}",
            remedy="correct the path",
        )  # fmt: skip
    if path.is_dir():
        layout = _read_output(name, path)
        _check_unit(name, layout.placement, trace)
        return layout
    placement = read_placement(path)
    _check_unit(name, placement, trace)
    if placement.blocks.keys().isdisjoint(trace.blocks):
        raise PlacementError(
            f"--layout {name}", found="none of the trace's blocks", expected=f"some of {', '.join(trace.blocks)}",
            remedy="give a layout and a trace of the same model",
        )  # fmt: skip
    # Blocks that were not reordered stay as they are.
    blocks = originals | dict(placement.blocks)
    extents = _packed(recorded_sizes(placement.metadata, blocks))
    return NamedLayout(name, ModelPlacement(blocks, placement.metadata), extents)


def _check_unit(name: str, placement: ModelPlacement, trace: ActivationTrace) -> None:
    """Raise unless a layout has blocks of what the trace's are."""
    if placement.unit != trace.unit:
        raise PlacementError(
            f"--layout {name}", found=f"blocks of {placement.unit}s",
            expected=f"blocks of {trace.unit}s, as in the trace",
            remedy="give a layout that was made from a profile of such a trace",
        )  # fmt: skip


def _packed(sizes: Mapping[str, int]) -> dict[str, BlockExtent]:
    """Return where bundles of these sizes lie that follow each other."""
    return {block: BlockExtent.packed(size) for block, size in sizes.items()}


def _read_output(name: str, path: Path) -> NamedLayout:
    """Return the layout of the bundled file in an output of `reorder`, whose manifest is the index."""
    output = read_output_layout(f"--layout {name}", read_manifest(path))
    return NamedLayout(name, output.placement, output.extents, output.forms)


def firing_counts(
    trace: ActivationTrace, placements: Iterable[ModelPlacement], profile: Path | str | None = None
) -> FiringCounts:
    """Return firing counts by block: the profile's, else the first that a placement records.

    One set for all layouts, so that they are compared with the same neurons in DRAM.

    Raises
    ------
    UsageError
        If there is no such profile.
    TraceFormatError
        If it is malformed.
    """
    if profile is not None:
        return {name: block.frequency for name, block in read_profile(existing_profile(profile)).blocks.items()}
    counts: dict[str, Int64Array] = {}
    for placement in placements:
        for name, block in placement.blocks.items():
            if block.frequency is not None and name in trace.blocks:
                counts.setdefault(name, block.frequency)
    return counts


def existing_profile(profile: Path | str) -> Path:
    """Return the path of a profile; raises UsageError if there is nothing."""
    if not Path(profile).exists():
        raise UsageError(
            f"--profile {profile}", found="nothing there", expected="a profile", remedy="correct the path"
        )  # fmt: skip
    return Path(profile)


def _complete(layout: NamedLayout, trace: ActivationTrace, counts: FiringCounts) -> Layout:
    """Return a layout of the trace's blocks, with these firing counts."""
    if not layout.extents:
        raise UsageError(
            f"--layout {layout.name}", found="nothing that says how long a neuron's weights are",
            expected="a bundle size", remedy="add --bundle-bytes (for instance 2 x hidden size x bytes per weight)",
        )  # fmt: skip
    blocks = {block: replace(layout.placement.blocks[block], frequency=counts.get(block)) for block in trace.blocks}
    placement = ModelPlacement(blocks, unit_metadata(trace.unit))
    return Layout.from_extents(layout.name, placement, layout.extents, layout.forms)
