"""What several tests of scoring start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ripple_place.placing.params import PlacingParams
from ripple_place.workflows.reorder import reorder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def greedy(tmp_path: Path, profile_path: Path) -> str:
    """Return the greedy placement, with bundles of 4 KiB."""
    reorder(None, profile_path, tmp_path / "greedy", PlacingParams(ordering="greedy", bundle_bytes=4096))
    return str(tmp_path / "greedy")
