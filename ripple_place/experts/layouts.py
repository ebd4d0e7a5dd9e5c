"""From the names of layouts to where experts lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.blocks import EXPERT
from ripple_place.checkpoint.names import PLACEMENT_FILE
from ripple_place.errors import PlacementError, UsageError
from ripple_place.experts.reading import ORIGINAL, PACKED, ExpertLayout
from ripple_place.placement import read_placement

if TYPE_CHECKING:
    from ripple_place.trace.activation_trace import ActivationTrace


def read_expert_layout(name: str, trace: ActivationTrace) -> ExpertLayout:
    """Return the layout by a name: ``original``, ``packed``, or a file or output whose order experts are packed in.

    Raises
    ------
    UsageError
        If there is nothing by that name.
    PlacementError
        If a file is malformed, of another unit, or of another model than the trace.
    OSError
        If a file cannot be read.
    """
    if name == ORIGINAL:
        return ExpertLayout.original()
    if name == PACKED:
        return ExpertLayout.packed()
    path = Path(name)
    if path.is_dir():
        path = path / PLACEMENT_FILE
    if not path.is_file():
        raise UsageError(
            f"--layout {name}", found="nothing there that orders experts",
            expected=f"{ORIGINAL}, {PACKED}, a placement of experts, or an output that has one",
            remedy=f"name {ORIGINAL} or {PACKED}, or check the path",
        )  # fmt: skip
    placement = read_placement(path)
    sizes = {block: part.n_neurons for block, part in placement.blocks.items()}
    wanted = {block: part.n_neurons for block, part in trace.blocks.items()}
    if placement.unit != EXPERT or any(sizes.get(block) != n_experts for block, n_experts in wanted.items()):
        raise PlacementError(
            path, found=f"a placement of {placement.unit}s in {len(sizes)} blocks",
            expected=f"one of the trace's experts in {len(wanted)} blocks",
            remedy=f"give a placement made from these routes, or --layout {PACKED}",
        )  # fmt: skip
    return ExpertLayout.packed(name, {block: placement.blocks[block].slot_of for block in wanted})
