"""Which stride of bundles costs less flash time: packed, or each bundle on a page of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.flash.bundle_form import BundleForm
from ripple_place.flash.layout import BlockExtent, Layout
from ripple_place.flash.simulator import SimulationParams, simulate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.placing.placed import Placed
    from ripple_place.trace.activation_trace import ActivationTrace


def choose_stride(
    trace: ActivationTrace | None, placed: Placed, device: DeviceProfile | None, bundle_bytes: Mapping[str, int],
    gate_bytes: Mapping[str, int] | None = None,
) -> str:  # fmt: skip
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
    gate_bytes : mapping of str to int, optional
        Bytes of a gate in those whose gates lie apart; 0, or absent, where they lie in the bundles.
    """
    if device is None or trace is None:
        return "packed"
    page_bytes, placement = device.page_bytes, placed.placement
    gates = gate_bytes or {}
    if all((size - gates.get(name, 0)) % page_bytes == 0 for name, size in bundle_bytes.items()):
        return "packed"
    params = SimulationParams()
    if placed.dram is not None:
        params = SimulationParams(placed.dram.recorded.cache, placed.dram.recorded.capacity_neurons)
    extents = {
        "packed": {name: BlockExtent.packed(size) for name, size in bundle_bytes.items()},
        "page": {name: BlockExtent.padded(size, page_bytes) for name, size in bundle_bytes.items()},
    }
    trace = trace.select(list(placement.blocks))
    time_us = {}
    for stride, by_block in extents.items():
        forms = {}
        for name, size in gates.items():
            if size:
                rest_bytes = bundle_bytes[name] - size
                padded_bytes = rest_bytes + -rest_bytes % page_bytes
                rest_stride = rest_bytes if stride == "packed" else padded_bytes
                forms[name] = BundleForm.apart(size, rest_bytes, rest_stride, placement.blocks[name].n_neurons)
                by_block[name] = BlockExtent(bundle_bytes[name], size + rest_stride)
        layout = Layout.from_extents(stride, placement, by_block, forms)
        time_us[stride] = simulate(trace, layout, device, params).totals.flash_time_us
    return min(time_us, key=lambda stride: (time_us[stride], stride != "packed"))
