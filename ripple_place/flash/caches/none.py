"""No DRAM cache: every access misses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    from ripple_place.placement import NeuronPlacement


class NoCache:
    """A cache that holds nothing, whatever its capacity."""

    policy = "none"

    def __init__(self, capacity: int, placement: NeuronPlacement) -> None:
        del capacity, placement

    def replay(self, neurons: npt.NDArray[Any], is_hit: npt.NDArray[Any]) -> None:
        """Write 0 to `is_hit` for each access."""
        del neurons
        is_hit[:] = 0
