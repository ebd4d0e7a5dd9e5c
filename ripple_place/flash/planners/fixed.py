"""The planner with one gap for all tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.kernels.reads import plan_rows

if TYPE_CHECKING:
    import numpy.typing as npt

    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import BlockLayout
    from ripple_place.flash.replay import Chunk


class FixedGapPlanner:
    """Reads through gaps of up to `gap` unwanted neurons; 0 is no collapse."""

    name = "fixed"

    def __init__(self, layout: BlockLayout, device: DeviceProfile, gap: int) -> None:
        self.gap: int | None = gap
        self._gap = gap

    def plan(self, chunk: Chunk, first_slot: npt.NDArray[Any], last_slot: npt.NDArray[Any], starts: Any) -> None:
        """Plan the reads of the chunk's rows; see `ripple_place.kernels.reads.plan_rows`."""
        plan_rows(chunk.slots, chunk.row_starts, chunk.is_hit, self._gap, first_slot, last_slot, starts)
