"""The verdict: figures of each judged block and of all together, and whether the trace was long enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import NEURON
from ripple_place.bundle_sizes import one_size
from ripple_place.verdict.rule_cost import NEARLY_ALL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.graph.statistics import BlockStatistics
    from ripple_place.verdict.rule_cost import RuleCost
    from ripple_place.verdict.score import BlockScore, Score

ASSUMED_BUNDLE_BYTES = 4096
"""Assumed if the bundle size is unknown: that of OPT-350M, up and down at two bytes a weight."""
ASSUMED_WEIGHT_BYTES = 2
"""Assumed of columns, whose numbers of weights a trace tells."""
SHORT_TRACE_TOKENS = 1024
"""Below this a block's pair counts are mostly noise: a pair that fires together for 1 % of tokens does so 10 times."""
STILL_LEARNING = 0.01
"""More text is worth recording if the last doubling lowered the cost by this share. Each doubling brings less than the
one before: at a percent, the next may bring almost a percent, while whole orderings differ by ten."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """The worth of reordering, as far as a profile can tell.

    Attributes
    ----------
    read_costs : mapping of str to ReadCost
        By block.
    n_tokens : int
        Of the trace.
    n_blocks : int
        Of the trace; `blocks` has those that were judged.
    overall : Score or None
        Blocks together, per token; None if none has enough tokens.
    blocks : mapping of str to BlockScore
        In model order.
    notes : mapping of str to str
        Why placement cannot help a block, or why it was not judged.
    statistics : mapping of str to BlockStatistics
    rule : RuleCost
        The activity rule of the trace, and what it costs the model.
    unit : str
        Of the trace.
    """

    read_costs: Mapping[str, ReadCost]
    n_tokens: int
    n_blocks: int
    overall: Score | None
    blocks: Mapping[str, BlockScore]
    notes: Mapping[str, str]
    statistics: Mapping[str, BlockStatistics]
    rule: RuleCost
    unit: str = NEURON

    @property
    def read_cost(self) -> ReadCost:
        """What reads of a block cost: all blocks have device and unit in common, and those of neurons all of it."""
        return next(iter(self.read_costs.values()))

    @property
    def bundle_bytes(self) -> dict[str, int]:
        """Sizes of bundles by block, if costs are times."""
        return {name: cost.bundle_bytes or 0 for name, cost in self.read_costs.items() if cost.is_time}

    @property
    def is_nearly_all(self) -> bool:
        """Whether nearly all neurons are active in every block that was judged, so that nothing can be left unread."""
        shares = [block.score.crowds[0].active_share for block in self.blocks.values()]
        return bool(shares) and min(shares) >= NEARLY_ALL

    @property
    def helps(self) -> bool | None:
        """Whether reordering saves enough, under a rule that does not spoil the model; None if unknown."""
        return None if self.overall is None else self.overall.is_gain and not self.rule.is_harmful

    @property
    def is_long_enough(self) -> bool | None:
        """Whether more text would hardly lower the cost; None if the trace is too short to tell."""
        if self.overall is None or self.overall.last_doubling is None or self.n_tokens < SHORT_TRACE_TOKENS:
            return None
        return self.overall.last_doubling < STILL_LEARNING

    def to_json(self) -> dict[str, Any]:
        """Return the ``verdict`` entry of ``profile --json``, but for its sentences."""
        cost = self.read_cost
        is_one = len({other.break_even_gap for other in self.read_costs.values()}) == 1
        return {
            "unit": cost.unit,
            "device": None if cost.device is None else cost.device.name,
            "bundle_bytes": one_size(self.bundle_bytes),
            **({} if is_one else {"bundle_bytes_by_block": self.bundle_bytes}),
            "break_even_gap": cost.break_even_gap if is_one else None,
            "gap": cost.gap if is_one else None,
            "helps": self.helps,
            "rule": self.rule.to_json(),
            "long_enough": self.is_long_enough,
            "n_blocks": self.n_blocks,
            "n_blocks_judged": len(self.blocks),
            "overall": None if self.overall is None else self.overall.to_json(),
            "blocks": {
                name: {
                    **(self.blocks[name].score.to_json() if name in self.blocks else {}),
                    "note": self.notes.get(name),
                }
                for name in self.statistics
                if name in self.blocks or name in self.notes
            },
        }
