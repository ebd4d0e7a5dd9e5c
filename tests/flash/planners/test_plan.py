"""Read plans of one token: golden cases by hand, and what must hold of any plan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.flash.layout import BlockExtent
from ripple_place.flash.planners.plan import plan_token
from tests.flash.builders import linear_device


@pytest.mark.parametrize(
    ("slots", "gap", "extent", "requests"),
    [
        ([], 0, BlockExtent.packed(4096), []),
        ([0, 2], 0, BlockExtent.packed(4096), [(0, 4096), (8192, 4096)]),
        ([0, 2], 1, BlockExtent.packed(4096), [(0, 12288)]),
        # Slot 1 of 6912-byte bundles lies in bytes 6912 to 13824: pages 1 to 3.
        ([1], 0, BlockExtent.packed(6912), [(4096, 12288)]),
        ([1], 0, BlockExtent.padded(6912, 4096), [(8192, 8192)]),
        # Slots 0 and 2 end and start in different pages, 0 and 1 of 2048 bytes in the same: still two requests.
        ([0, 2], 0, BlockExtent.packed(2048), [(0, 4096), (4096, 4096)]),
        ([0], 0, BlockExtent(2048, 2048, 100), [(0, 4096)]),
        ([0, 2], 0, BlockExtent(1024, 1024, 0), [(0, 4096), (0, 4096)]),
        # 40 bundles of 4 KiB are 160 KiB: requests of 64, 64 and 32 KiB.
        (list(range(40)), 0, BlockExtent.packed(4096), [(0, 65536), (65536, 65536), (131072, 32768)]),
        # The read starts within page 1: rounding comes before splitting.
        ([1, 2, 3], 0, BlockExtent.packed(30000), [(28672, 65536), (94208, 28672)]),
    ],
)
def test_requests_by_hand(slots: list[int], gap: int, extent: BlockExtent, requests: list[tuple[int, int]]) -> None:
    """Offsets and lengths of what the device sees."""
    plan = plan_token(np.array(slots), gap, extent, linear_device())
    assert list(zip(plan.offset_bytes.tolist(), plan.length_bytes.tolist(), strict=True)) == requests


@given(
    st.sets(st.integers(0, 80), min_size=1, max_size=25).map(sorted),
    st.integers(0, 6),
    st.sampled_from([BlockExtent.packed(4096), BlockExtent.packed(6912), BlockExtent.padded(6912, 4096)]),
)
@settings(max_examples=40, deadline=None)
def test_bytes_read_are_active_plus_gap_plus_padding(slots: list[int], gap: int, extent: BlockExtent) -> None:
    """No wanted byte is lost, and each byte read is a wanted bundle, a gap, padding of a stride, or page rounding."""
    plan = plan_token(np.array(slots), gap, extent, linear_device())
    n_neurons_read = int(plan.read_lengths.sum())
    gap_bytes = (n_neurons_read - len(slots)) * extent.bundle_bytes
    stride_padding = int((plan.read_lengths - 1).sum()) * (extent.stride_bytes - extent.bundle_bytes)
    page_padding = int(plan.length_bytes.sum()) - len(slots) * extent.bundle_bytes - gap_bytes - stride_padding
    assert 0 <= page_padding < 2 * 4096 * plan.first_slot.size
    assert (plan.offset_bytes % 4096 == 0).all()
    assert plan.length_bytes.max() <= 65536
    for slot in slots:
        start = slot * extent.stride_bytes
        for byte in (start, start + extent.bundle_bytes - 1):
            assert ((plan.offset_bytes <= byte) & (byte < plan.offset_bytes + plan.length_bytes)).any()


@given(st.sets(st.integers(0, 80), max_size=25).map(sorted), st.integers(0, 6))
@settings(max_examples=30, deadline=None)
def test_coalescing_never_adds_a_request(slots: list[int], gap: int) -> None:
    """While no read reaches the maximum request, reading through gaps only saves requests."""
    device = linear_device(max_request_bytes=2**20)
    extent = BlockExtent.packed(4096)
    merged = plan_token(np.array(slots), gap, extent, device)
    assert merged.offset_bytes.size <= plan_token(np.array(slots), 0, extent, device).offset_bytes.size
