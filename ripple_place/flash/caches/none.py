"""No DRAM cache: every access misses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.flash.caches.cache import LONE_READS, Accesses, ArrayCache

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.placement import NeuronPlacement


class NoCache(ArrayCache):
    """A cache that holds nothing, whatever its capacity."""

    policy = "none"

    def __init__(self, capacity: int, placement: NeuronPlacement, reads: ReadCost = LONE_READS) -> None:
        super().__init__()

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Write 0 to `is_hit` for each access."""
        is_hit[:] = 0
