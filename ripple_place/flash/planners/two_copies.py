"""The planner for neurons that lie on flash twice: each is read from whichever copy makes the reads cheaper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.kernels.two_copies import MAX_PASSES, TwoCopies, plan_rows_of_two

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import BlockLayout
    from ripple_place.flash.replay import Chunk
    from ripple_place.kernels.read_state import RowReads


class TwoCopyPlanner:
    """Reads through gaps of up to `gap` unwanted neurons, in either copy.

    Which neurons come from which copy goes by lambda x reads + neurons read, with the lambda of the device's line: by
    that measure no token costs more than from the first copy alone. Slots of the second copy count on from those of
    the first. About a microsecond a neuron on one core: to be set against what it saves.

    Raises
    ------
    UsageError
        If files are mapped, or another planner was asked for: those know of one copy only.
    """

    name = "two copies"

    def __init__(self, layout: BlockLayout, device: DeviceProfile, gap: int, planner: str = "fixed") -> None:
        if device.is_mapped or planner != "fixed":
            raise UsageError(
                "--access mmap" if device.is_mapped else f"--collapse {planner}",
                found="a layout with two copies of its neurons", expected="one copy, or reads planned with a fixed gap",
                remedy="simulate a placement made without --copies 2, or leave the option out",
            )  # fmt: skip
        assert layout.placement.second_slot is not None
        self.gap: int | None = gap
        self._gap = gap
        self._break_even_gap = device.break_even_gap(layout.extent.bundle_bytes)
        self._second_slot = layout.placement.second_slot
        self._copies = TwoCopies.allocate(layout.n_neurons)

    def plan(self, chunk: Chunk, reads: RowReads) -> None:
        """Plan the reads of the chunk's rows; see `ripple_place.kernels.two_copies`."""
        plan_rows_of_two(
            chunk.accesses, self._second_slot, self._gap, self._break_even_gap, MAX_PASSES, self._copies, reads,
            np.empty(chunk.slots.size, np.uint8),
        )  # fmt: skip
