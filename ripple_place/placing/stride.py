"""Which stride of bundles costs less flash time: packed, or each bundle on a page of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.flash.layout import BlockExtent, Layout
from ripple_place.flash.simulator import SimulationParams, simulate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.placing.placed import Placed
    from ripple_place.trace.activation_trace import ActivationTrace


def choose_stride(
    trace: ActivationTrace | None, placed: Placed, device: DeviceProfile | None, bundle_bytes: Mapping[str, int]
) -> str:
    """Return ``packed`` or ``page``, whichever takes less flash time on a trace; packed, the smaller file, if equal.

    Parameters
    ----------
    trace : ActivationTrace or None
        None, like a missing device, leaves it at packed.
    placed : Placed
        With the DRAM that it is placed for.
    device : DeviceProfile or None
    bundle_bytes : mapping of str to int
        Of the placed blocks.
    """
    if device is None or trace is None:
        return "packed"
    page_bytes, placement = device.page_bytes, placed.placement
    if all(size % page_bytes == 0 for size in bundle_bytes.values()):
        return "packed"
    params = SimulationParams()
    if placed.dram is not None:
        params = SimulationParams(placed.dram.recorded.cache, placed.dram.recorded.capacity_neurons)
    extents = {
        "packed": {name: BlockExtent.packed(size) for name, size in bundle_bytes.items()},
        "page": {name: BlockExtent.padded(size, page_bytes) for name, size in bundle_bytes.items()},
    }
    trace = trace.select(list(placement.blocks))
    time_us = {
        stride: simulate(trace, Layout.from_extents(stride, placement, by_block), device, params).totals.flash_time_us
        for stride, by_block in extents.items()
    }
    return min(time_us, key=lambda stride: (time_us[stride], stride != "packed"))
