"""What the activity rule of a trace costs the model, which no layout makes up for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import NEURON
from ripple_place.errors import UsageError
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.trace.union import rule_before_union

if TYPE_CHECKING:
    from collections.abc import Mapping

HARMFUL_RISE = 0.1
"""From this rise of the perplexity on, the verdict is on the rule and not on the layout. A convention."""
NEARLY_ALL = 0.9
"""From this active share on, a rule skips nothing worth speaking of."""


@dataclass(frozen=True)
class RuleCost:
    """The activity rule of a trace, and the perplexity of its text with and without it.

    Attributes
    ----------
    rule : str
        As the trace names it; ``unknown`` if it does not.
    changes_output : bool or None
        Whether the model says something else by this rule; None for rules of other tools.
    perplexity, perplexity_without_rule : float or None
        None where nobody measured them.
    unit : str
        What the rule keeps, one of `ripple_place.blocks.UNITS`.
    """

    rule: str
    changes_output: bool | None
    perplexity: float | None = None
    perplexity_without_rule: float | None = None
    unit: str = NEURON

    @classmethod
    def of_trace(cls, metadata: Mapping[str, str]) -> RuleCost:
        """Return what the metadata of a trace say."""
        name = rule_before_union(metadata.get("activity", "unknown"))
        try:
            changes_output = ActivityRule.parse(name).changes_output
        except UsageError:
            changes_output = None
        return cls(
            name, changes_output, _positive(metadata.get("perplexity")),
            _positive(metadata.get("perplexity_without_rule")), metadata.get("unit", NEURON),
        )  # fmt: skip

    @property
    def rise(self) -> float | None:
        """Share by which the rule raises the perplexity; 0 for an exact rule, None where that is not known."""
        if self.changes_output is False:
            return 0.0
        if self.perplexity is None or self.perplexity_without_rule is None:
            return None
        return self.perplexity / self.perplexity_without_rule - 1

    @property
    def is_harmful(self) -> bool:
        """Whether the rule is known to spoil the model."""
        return self.rise is not None and self.rise >= HARMFUL_RISE

    def to_json(self) -> dict[str, Any]:
        """Return the entry ``rule`` of ``verdict`` in ``profile --json``."""
        return {
            "name": self.rule,
            "changes_output": self.changes_output,
            "perplexity": self.perplexity,
            "perplexity_without_rule": self.perplexity_without_rule,
            "perplexity_rise": self.rise,
        }


def _positive(text: str | None) -> float | None:
    """Return a number that a trace holds as text; None for what is none."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < math.inf else None
