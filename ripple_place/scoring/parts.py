"""How many parts a neuron's weights have, as the outputs among the layouts say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.checkpoint.output.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.flash.layout import Layout


def parts_of_layouts(layouts: Sequence[Layout]) -> dict[str, int]:
    """Return by block the parts of a neuron's weights, 3 with a gate and 2 without, where an output says it."""
    for layout in layouts:
        if Path(layout.name).is_dir():
            blocks = read_manifest(Path(layout.name)).document["blocks"]
            return {
                name: 3 if any(role.startswith("gate") for role in entry["tensors"]) else 2
                for name, entry in blocks.items()
            }
    return {}
