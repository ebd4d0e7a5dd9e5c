"""Layouts: where bundles lie, and what a layout must say."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.errors import PlacementError
from ripple_place.flash.layout import BlockExtent, Layout
from ripple_place.placement import ModelPlacement, NeuronPlacement

PLACEMENT = ModelPlacement(
    {"layers.10": NeuronPlacement(np.array([1, 0])), "layers.9": NeuronPlacement(np.array([0, 1, 2]))},
    {"bundle_bytes": "6912"},
)


def test_placement_s_own_bundle_size_is_taken() -> None:
    """A placement made from a checkpoint knows its bundles; blocks come in model order, 10 after 9."""
    layout = Layout.from_placement("placed", PLACEMENT)
    assert list(layout.blocks) == ["layers.9", "layers.10"]
    assert layout.blocks["layers.10"].extent == BlockExtent(6912, 6912, 0)
    assert layout.blocks["layers.9"].n_neurons == 3


def test_bundle_sizes_by_block() -> None:
    """Blocks of one model may have bundles of different sizes."""
    layout = Layout.from_placement("placed", PLACEMENT, {"layers.9": 4096, "layers.10": 8192})
    assert [block.extent.stride_bytes for block in layout.blocks.values()] == [4096, 8192]


def test_extents_of_a_bundled_file() -> None:
    """A bundled file's index gives offset and stride of each block."""
    extents = {"layers.9": BlockExtent.padded(6912, 4096), "layers.10": BlockExtent(6912, 6912, 4096)}
    layout = Layout.from_extents("bundled", PLACEMENT, extents)
    assert layout.blocks["layers.9"].extent == BlockExtent(6912, 8192, 0)
    assert layout.blocks["layers.10"].extent.base_offset_bytes == 4096


@pytest.mark.parametrize(
    ("bundle_bytes", "match"),
    [
        (None, r"layout placed: found no bundle_bytes of layers.9, layers.10.*--bundle-bytes"),
        ({"layers.9": 4096}, "found no bundle_bytes of layers.10; expected one for each of 2 blocks"),
        (0, "expected 0 < bundle_bytes <= stride_bytes"),
    ],
)
def test_missing_bundle_sizes(bundle_bytes: int | dict[str, int] | None, match: str) -> None:
    """Nothing is guessed: a block without a bundle size has no bytes to read."""
    with pytest.raises(PlacementError, match=match):
        Layout.from_placement("placed", ModelPlacement(PLACEMENT.blocks), bundle_bytes)


def test_overlapping_bundles() -> None:
    """A stride below the bundle would count the same bytes twice."""
    with pytest.raises(PlacementError, match="stride_bytes=4096"):
        BlockExtent(6912, 4096)
