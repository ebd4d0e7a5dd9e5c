"""Makes tiny devices, traces and layouts for the tests of the flash package."""

from __future__ import annotations

import numpy as np

from ripple_place.flash.device.profile import DeviceProfile
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.placement import NeuronPlacement
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace

LINEAR_SOURCES = dict.fromkeys(
    ("page_bytes", "max_request_bytes", "overhead_us", "bandwidth_bytes_per_s"), "remembered: made up for tests"
)


def linear_device(page_bytes: int = 4096, max_request_bytes: int = 65536) -> DeviceProfile:
    """Return a device with 10 us a request and 4096 bytes a microsecond: lambda is 10 for bundles of 4 KiB."""
    return DeviceProfile(
        name="linear",
        description="for tests",
        page_bytes=page_bytes,
        max_request_bytes=max_request_bytes,
        form="linear",
        overhead_us=10.0,
        bandwidth_bytes_per_s=4096e6,
        sources=LINEAR_SOURCES,
    )


def block_trace(active: np.ndarray, token_index: list[int] | None = None) -> BlockTrace:
    """Pack a dense activity matrix of shape (n_rows, n_neurons)."""
    return BlockTrace(
        active.shape[1],
        np.packbits(active.astype(bool), axis=1, bitorder="little"),
        None if token_index is None else np.array(token_index, np.int32),
    )


def trace_of(blocks: dict[str, BlockTrace], n_tokens: int) -> ActivationTrace:
    """Return a trace of one segment."""
    return ActivationTrace(blocks, n_tokens, np.array([0]))


def layout_of(
    orders: dict[str, list[int]], bundle_bytes: int = 4096, stride_bytes: int | None = None, name: str = "tested"
) -> Layout:
    """Return a layout with the given order in each block."""
    extent = BlockExtent(bundle_bytes, stride_bytes or bundle_bytes)
    return Layout(
        name, {block: BlockLayout(NeuronPlacement(np.array(order)), extent) for block, order in orders.items()}
    )
