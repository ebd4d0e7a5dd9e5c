"""The planner with one gap for all tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.kernels.reads import plan_rows

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import BlockLayout
    from ripple_place.flash.replay import Chunk
    from ripple_place.kernels.read_state import RowReads


class FixedGapPlanner:
    """Reads through gaps of up to `gap` unwanted neurons; 0 is no collapse."""

    name = "fixed"

    def __init__(self, layout: BlockLayout, device: DeviceProfile, gap: int) -> None:
        self.gap: int | None = gap
        self._gap = gap

    def plan(self, chunk: Chunk, reads: RowReads) -> None:
        """Plan the reads of the chunk's rows; see `ripple_place.kernels.reads.plan_rows`."""
        plan_rows(chunk.accesses, self._gap, reads)
