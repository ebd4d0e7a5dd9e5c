"""Cells and profiles of made-up times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.storage.calibration import build_profile
from ripple_place.flash.storage.sweep import Cell

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile


def cell(size_bytes: int, depth: int, *repeats_us: float) -> Cell:
    """Return a cell with the given repeats."""
    return Cell(size_bytes, depth, np.array(repeats_us), (1.0, 2.0))


def profile_of(times_us: dict[int, float], depth: int = 8) -> DeviceProfile:
    """Return the profile of cells with one repeat each."""
    cells = [cell(size, depth, us) for size, us in times_us.items()]
    return build_profile(
        cells, cells, name="disk", where="ext4 on /dev/sda1", alignment_bytes=512, size_bytes=1 << 30, n_repeats=5
    )
