"""What a reader of a layout has done: counts as the simulator's, and times as measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array


@dataclass
class BlockCounters:
    """Of one block, since it was opened.

    Attributes
    ----------
    n_rows : int
        Times that the block was asked.
    n_asked, n_hits : int
        Units that were asked for, and those of them that were in DRAM.
    n_reads, n_requests, bytes_read : int
        Of the read plan; what storage saw of it, rounded to pages and split; and its bytes.
    read_us, waited_us : list of float
        By row: from the first read's start to the last one's end, and what of that nothing else hid.
    predicted_us : list of float
        By row: what the simulator charges.
    """

    n_rows: int = 0
    n_asked: int = 0
    n_hits: int = 0
    n_reads: int = 0
    n_requests: int = 0
    bytes_read: int = 0
    read_us: list[float] = field(default_factory=list)
    waited_us: list[float] = field(default_factory=list)
    predicted_us: list[float] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class RowTimes:
    """Times of all rows of some blocks that were asked equally often, added up over the blocks.

    Attributes
    ----------
    read_us, waited_us, predicted_us : ndarray of shape (n_rows,), float64
    """

    read_us: Float64Array
    waited_us: Float64Array
    predicted_us: Float64Array


@dataclass
class ReaderCounters:
    """Of all blocks of a reader.

    Attributes
    ----------
    blocks : dict of str to BlockCounters
        In model order.
    bytes_loaded : int
        Read before the first row: what a cache pins.
    """

    blocks: dict[str, BlockCounters]
    bytes_loaded: int = 0

    @property
    def hit_ratio(self) -> float | None:
        """Share of what was asked for that was in DRAM; None before anything was."""
        asked = sum(block.n_asked for block in self.blocks.values())
        return sum(block.n_hits for block in self.blocks.values()) / asked if asked else None

    def total(self, count: str) -> int:
        """Return the sum of a count over the blocks."""
        return sum(getattr(block, count) for block in self.blocks.values())

    def total_us(self, times: str) -> float:
        """Return the sum of times over rows and blocks."""
        return float(sum(sum(getattr(block, times)) for block in self.blocks.values()))

    def row_times(self) -> RowTimes:
        """Return the times of each row of the model; blocks must have been asked equally often."""
        each = [
            np.sum([getattr(block, name) for block in self.blocks.values()], axis=0)
            for name in ("read_us", "waited_us", "predicted_us")
        ]
        return RowTimes(*each)
