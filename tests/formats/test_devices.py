"""Device files of an earlier version: read, and written anew.

TOML can be spelled in many ways, and which one we write is no promise: what is written is compared by its values.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.flash.device.files import read_device
from ripple_place.flash.device.profile import DeviceProfile
from ripple_place.flash.device.writer import format_device
from ripple_place.flash.storage.calibration import build_profile
from ripple_place.flash.storage.sweep import Cell
from tests.formats.kept import FORMATS, kept

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES_BYTES = (4096, 8192, 12288, 16384)


def cells_at(depth: int) -> list[Cell]:
    """Return what `calibrate` measures on a disk of 40 us and 4096 bytes a microsecond, with less at small depths."""
    return [
        Cell(size, depth, np.array([1.0, 1.01, 0.99]) * (40 + size / 4096) * 8 / depth, (50.0, 90.0))
        for size in SIZES_BYTES
    ]


def calibrated() -> DeviceProfile:
    """Return what `calibrate` makes of such times: a table."""
    survey = [cell for depth in (1, 2, 4, 8) for cell in cells_at(depth)]
    return build_profile(
        cells_at(8), survey, name="disk", where="ext4 on /dev/sda1", alignment_bytes=512, size_bytes=1 << 30,
        n_repeats=3,
    )  # fmt: skip


def _sources(*names: str) -> dict[str, str]:
    return dict.fromkeys(("page_bytes", "max_request_bytes", *names), 'remembered: "made up"\nfor tests \x7f')


def linear() -> DeviceProfile:
    """Return a line with every condition that a profile may know."""
    return DeviceProfile(
        name="linear", description="ein Gerät", page_bytes=4096, max_request_bytes=65536, form="linear",
        overhead_us=10.5, bandwidth_bytes_per_s=4096e6, max_iops=80000.0, range_bytes=(1 << 20, 1 << 30),
        range_factor=(1.25, 1.0), cores=("big", "little one"), core_factor=(1.0, 0.5), queue_depths=(1, 32),
        queue_factor=(0.125, 1.0), warm_bandwidth_factor=0.75, read_ahead_bytes=131072, estimated=True,
        sources=_sources(
            "overhead_us", "bandwidth_bytes_per_s", "max_iops", "range_factor", "core_factor", "queue_factor",
            "warm_bandwidth_factor", "read_ahead_bytes",
        ),
    )  # fmt: skip


def ceiling() -> DeviceProfile:
    """Return requests and bytes a second, and nothing else."""
    return DeviceProfile(
        name="ceiling", description="", page_bytes=512, max_request_bytes=8192, form="ceiling",
        bandwidth_bytes_per_s=1e9, max_iops=1e5, sources=_sources("max_iops", "bandwidth_bytes_per_s"),
    )  # fmt: skip


DEVICES: dict[str, Callable[[], DeviceProfile]] = {
    "device-table.toml": calibrated,
    "device-linear.toml": linear,
    "device-ceiling.toml": ceiling,
}


@pytest.mark.parametrize("name", DEVICES)
def test_written_as_ever(name: str) -> None:
    """The same profile, and the same times measured by `calibrate`, give the same keys and values in the same order."""
    text = format_device(DEVICES[name]())
    expected = tomllib.loads(kept(name, text.encode()).read_text(encoding="utf-8"))
    found = tomllib.loads(text)
    assert found == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize("name", DEVICES)
def test_read_for_ever(name: str) -> None:
    """Every field, and so every time that follows from them."""
    device = read_device(FORMATS / name)
    assert device == DEVICES[name]()
    assert device.request_us(4096) > 0
