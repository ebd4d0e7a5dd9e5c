"""Reading what lies together, in the largest requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile


def sequential_read_us(device: DeviceProfile, n_bytes: int) -> tuple[float, int, int]:
    """Return flash time, requests and bytes of reading `n_bytes` that lie together, in the largest requests."""
    n_pages = -(-n_bytes // device.page_bytes)
    read_us = float(device.read_us_by_pages(n_pages)[n_pages])
    return read_us, -(-n_pages * device.page_bytes // device.max_request_bytes), n_pages * device.page_bytes
