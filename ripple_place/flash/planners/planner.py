"""What a planner does: decide which reads fetch what a chunk of tokens misses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import BlockLayout
    from ripple_place.flash.replay import Chunk
    from ripple_place.kernels.read_state import RowReads


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

    def plan(self, chunk: Chunk, reads: RowReads) -> None:
        """Write first and last slot of each read, ascending in each row, and where the reads of each row start."""
        ...
