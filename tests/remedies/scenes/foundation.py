"""The loose modules of the foundation."""

from __future__ import annotations

from ripple_place.blocks import select_layers
from tests.remedies.cases import instead

BLOCKS = ["layers.0", "layers.1"]

instead(
    "blocks.py:select_layers", "write the selection that way", "a range written 0..1: written 0-1",
    lambda: select_layers(BLOCKS, "0..1"), lambda: select_layers(BLOCKS, "0-1"),
)  # fmt: skip
instead(
    "blocks.py:select_layers", "name layers that exist", "layer 2 of a model with two: layer 1",
    lambda: select_layers(BLOCKS, "2"), lambda: select_layers(BLOCKS, "1"),
)  # fmt: skip
