"""No DRAM cache: every access misses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.flash.caches.cache import LONE_READS, Accesses, ArrayCache, CacheKernels
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.placement import NeuronPlacement


@compiled
def access(neurons: Any, admitted: Any, is_hit: Any) -> None:
    """Write 0 to `is_hit` for each access."""
    is_hit[:] = 0


@compiled
def holds(neuron: int, arguments: Any) -> bool:
    """Return that no neuron is in DRAM."""
    return False


class NoCache(ArrayCache):
    """A cache that holds nothing, whatever its capacity."""

    policy = "none"
    kernels = CacheKernels(access, holds)

    def __init__(self, capacity: int, placement: NeuronPlacement, reads: ReadCost = LONE_READS) -> None:
        super().__init__()

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Write 0 to `is_hit` for each access."""
        is_hit[:] = 0
