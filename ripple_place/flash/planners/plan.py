"""The read planner: which reads fetch the neurons of one token that DRAM lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.kernels.reads import pages_of_read, plan_reads

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray, Int32Array, Int64Array
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import BlockExtent


@dataclass(frozen=True, eq=False)
class ReadPlan:
    """The reads of one token in one block.

    Attributes
    ----------
    first_slot, last_slot : ndarray of shape (n_reads,), int32
        Slots of each read, both included; ascending and disjoint.
    offset_bytes, length_bytes : ndarray of shape (n_requests,), int64
        What the device sees: reads rounded out to pages and split at the maximum request. Two reads that share a page
        stay two requests.
    """

    first_slot: Int32Array
    last_slot: Int32Array
    offset_bytes: Int64Array
    length_bytes: Int64Array

    @classmethod
    def of_reads(
        cls, first_slot: Int32Array, last_slot: Int32Array, extent: BlockExtent, device: DeviceProfile
    ) -> ReadPlan:
        """Return the plan of given reads, whoever planned them, with the requests that follow."""
        offsets, lengths = [], []
        for first, last in zip(first_slot.tolist(), last_slot.tolist(), strict=True):
            offset = (extent.base_offset_bytes + first * extent.stride_bytes) // device.page_bytes * device.page_bytes
            n_pages = pages_of_read(
                first, last, extent.bundle_bytes, extent.stride_bytes, extent.base_offset_bytes, device.page_bytes
            )
            end = offset + n_pages * device.page_bytes
            for start in range(offset, end, device.max_request_bytes):
                offsets.append(start)
                lengths.append(min(end - start, device.max_request_bytes))
        return cls(first_slot, last_slot, np.array(offsets, np.int64), np.array(lengths, np.int64))

    @property
    def read_lengths(self) -> Int32Array:
        """Length of each read in neurons, those of gaps included."""
        return self.last_slot - self.first_slot + 1


def plan_token(slots: AnyArray, gap: int, extent: BlockExtent, device: DeviceProfile) -> ReadPlan:
    """Return the reads that fetch `slots`, merged across up to `gap` unwanted slots.

    Parameters
    ----------
    slots : ndarray of shape (n_slots,), integer
        Ascending, without duplicates.
    gap : int
        At least 0.
    extent : BlockExtent
    device : DeviceProfile
        Its page and its maximum request apply.
    """
    slots = np.ascontiguousarray(slots, np.int32)
    first_slot, last_slot = np.empty_like(slots), np.empty_like(slots)
    n_reads = plan_reads(slots, gap, first_slot, last_slot)
    return ReadPlan.of_reads(first_slot[:n_reads], last_slot[:n_reads], extent, device)
