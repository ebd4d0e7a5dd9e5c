"""One block's rows in two parts: those that orders are made on, and those held out to judge them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ripple_place.trace.activation_trace import BlockTrace

if TYPE_CHECKING:
    import numpy.typing as npt

    from ripple_place.trace.activation_trace import ActivationTrace

Number = TypeVar("Number", bound=np.generic)

HELD_OUT_SHARE = 1 / 8
"""Share of the trace's segments (or of its tokens, if it has a single segment) that is held out: the last ones."""


@dataclass(frozen=True, eq=False)
class SplitBlock:
    """A block's rows, split in two.

    Parameters
    ----------
    block : BlockTrace
        All rows.
    n_searched : int
        The first rows, on which orders are made. The others are held out; there may be none.
    """

    block: BlockTrace
    n_searched: int

    @classmethod
    def of_trace(cls, trace: ActivationTrace, name: str) -> SplitBlock:
        """Hold out the last rows of a block by their tokens; none where all rows are of tokens held out."""
        block = trace.blocks[name]
        first_token = held_out_token(trace)
        row = first_token if block.token_index is None else int(np.searchsorted(block.token_index, first_token))
        return cls(block, row or block.n_rows)

    @classmethod
    def unsplit(cls, block: BlockTrace) -> SplitBlock:
        """Return all rows as rows to search, none of them held out."""
        return cls(block, block.n_rows)

    @property
    def n_neurons(self) -> int:
        """Neurons of the block."""
        return self.block.n_neurons

    @property
    def has_held_out(self) -> bool:
        """Whether any rows are held out."""
        return self.n_searched < self.block.n_rows

    @cached_property
    def searched(self) -> BlockTrace:
        """The rows on which orders are made."""
        return rows_of(self.block, 0, self.n_searched)

    @cached_property
    def held_out(self) -> BlockTrace | None:
        """The rows held out; None if there are none."""
        return rows_of(self.block, self.n_searched, self.block.n_rows) if self.has_held_out else None

    @property
    def first_judging(self) -> int:
        """The first row that judges: the rows held out judge, or all rows if none are."""
        return self.n_searched if self.has_held_out else 0

    @cached_property
    def judging(self) -> BlockTrace:
        """The rows that judge."""
        return rows_of(self.block, self.first_judging, self.block.n_rows)

    @property
    def n_judging(self) -> int:
        """How many rows judge."""
        return self.block.n_rows - self.first_judging

    def judging_of(self, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Return the values, one a row, of the rows that judge."""
        return values[self.first_judging :]

    def with_block(self, block: BlockTrace) -> SplitBlock:
        """Return other activity of the same rows, split at the same row."""
        return replace(self, block=block)

    def latest(self, n_searched: int) -> SplitBlock:
        """Return the rows held out, and before them no more than the last `n_searched` rows to search."""
        first = max(0, self.n_searched - n_searched)
        return SplitBlock(rows_of(self.block, first, self.block.n_rows), self.n_searched - first)


def held_out_token(trace: ActivationTrace) -> int:
    """Return the first token that is held out; the number of tokens if the trace is too short to hold any out."""
    starts = trace.segment_starts
    n_held_out = max(1, round(HELD_OUT_SHARE * starts.size))
    return int(starts[-n_held_out]) if starts.size > 1 else round((1 - HELD_OUT_SHARE) * trace.n_tokens)


def judging_tokens(trace: ActivationTrace) -> tuple[int, bool]:
    """Return how many tokens judge, and whether they are held out; all tokens judge if none can be held out."""
    n_held_out = trace.n_tokens - held_out_token(trace)
    return n_held_out or trace.n_tokens, n_held_out > 0


def rows_of(block: BlockTrace, start: int, stop: int) -> BlockTrace:
    """Return some rows of a block, detached from the tokens that they belong to."""
    return BlockTrace(block.n_neurons, block.active[start:stop])
