"""What a planner does: decide which reads fetch what a chunk of tokens misses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy.typing as npt

    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import BlockLayout
    from ripple_place.flash.replay import Chunk


class Planner(Protocol):
    """Plans the reads of one block.

    Attributes
    ----------
    name : str
        What ``--collapse`` calls it.
    gap : int or None
        Unwanted neurons that reads go through; None where there is not one gap for all tokens.
    """

    name: str
    gap: int | None

    def __init__(self, layout: BlockLayout, device: DeviceProfile, gap: int) -> None: ...

    def plan(self, chunk: Chunk, first_slot: npt.NDArray[Any], last_slot: npt.NDArray[Any], starts: Any) -> None:
        """Write first and last slot of each read, ascending in each row, and where the reads of each row start."""
        ...
