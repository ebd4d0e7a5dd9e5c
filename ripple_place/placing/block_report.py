"""What became of one block when its neurons were ordered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ripple_place.trace.activation_trace import BlockTrace

HELPLESS_GAIN = 0.02
"""Below this gain over the original order, on tokens held out, the report says why placement cannot help."""
FEW_ROWS = 64
"""Fewer tokens than this say nothing of what fires together: pairs of rare neurons occur by chance."""
DENSE_SHARE = 0.25
"""From this active share on, the neurons that fire lie closer together than any read could be shortened by moving
them: in random order two of them are 4 slots apart at most on average, about the break-even gap of a phone."""


@dataclass(frozen=True)
class Tried:
    """One order that was tried behind the DRAM cache, and its cost per token; None where there are no such tokens."""

    name: str
    searched: float | None
    held_out: float | None


@dataclass(frozen=True)
class BlockReport:
    """What became of one block, on the profile's own trace; None where it has none.

    Attributes
    ----------
    objective_before, objective : float or None
        Of the original and of the new order, in `unit`.
    held_out_before, held_out : float or None
        The same on the tokens held out.
    unit : str
        ``reads`` per token; ``neurons``, lambda x reads + neurons read per token; or ``us``, flash time per token.
    seconds : float
    chosen : str
        The ordering; where held-out tokens spoke against it, what was taken instead.
    note : str
        Why placement cannot help this block, if it cannot.
    capacity_neurons, n_pinned : int or None
        Neurons of the block that DRAM holds, and those of them that never leave; None without a DRAM budget.
    tried : tuple of Tried
        The orders that were compared behind the DRAM cache, in turn.
    lower_bound, gap_to_bound : float or None
        Reads per token that no order can fall below on this trace, and ``objective / lower_bound - 1``; known of
        ``path``, up to a block size.
    """

    objective_before: float | None
    objective: float | None
    seconds: float
    held_out_before: float | None = None
    held_out: float | None = None
    unit: str = "reads"
    chosen: str = ""
    note: str = ""
    capacity_neurons: int | None = None
    n_pinned: int | None = None
    tried: tuple[Tried, ...] = ()
    lower_bound: float | None = None
    gap_to_bound: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the block's entry in ``reorder --json``."""
        return {
            "objective_before": self.objective_before,
            "objective": self.objective,
            "objective_unit": self.unit,
            "held_out_before": self.held_out_before,
            "held_out": self.held_out,
            "chosen": self.chosen,
            "lower_bound": self.lower_bound,
            "gap_to_bound": self.gap_to_bound,
            "seconds": self.seconds,
            "note": self.note or None,
            "capacity_neurons": self.capacity_neurons,
            "n_pinned": self.n_pinned,
            "tried": [
                {"order": tried.name, "cost": tried.searched, "held_out": tried.held_out} for tried in self.tried
            ],
        }


def known(value: float) -> float | None:
    """Return a mean, None for that of nothing."""
    return None if math.isnan(value) else value


def why_helpless(block: BlockTrace, before: float | None, after: float | None) -> str:
    """Return why placement cannot help a block, or nothing if it can.

    Parameters
    ----------
    block : BlockTrace
    before, after : float or None
        Cost of the original order and of the best one found, on tokens held out if there are any; None: unknown.

    Examples
    --------
    >>> from ripple_place.trace.activation_trace import BlockTrace
    >>> why_helpless(BlockTrace(8, np.full((100, 1), 255, np.uint8)), 9.0, 9.0)
    'placement cannot help: 100 % of its neurons are active'
    """
    n_active = int(np.bitwise_count(np.asarray(block.active)).sum(dtype=np.int64))
    if n_active == 0:
        return "placement cannot help: none of its neurons is ever active"
    if block.n_rows < FEW_ROWS:
        return f"placement says little: the block has {block.n_rows} tokens, too few to learn from"
    if before is None or after is None or after < (1 - HELPLESS_GAIN) * before:
        return ""
    if before == 0:
        return "placement has nothing to do: DRAM leaves nothing to read"
    share = n_active / (block.n_rows * block.n_neurons)
    if share >= DENSE_SHARE:
        return f"placement cannot help: {100 * share:.0f} % of its neurons are active"
    return f"placement gains {100 * (1 - after / before):.1f} % on tokens held out: little fires together twice"
