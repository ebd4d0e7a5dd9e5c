"""Exact: whatever puts out something is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ripple_place.blocks import WEIGHT_UNITS
from ripple_place.errors import UsageError
from ripple_place.select.knowledge import Knowledge
from ripple_place.select.rule import MaskedBlock

if TYPE_CHECKING:
    from ripple_place.select.rule import BlockView
    from ripple_place.trace.rule_text import RuleText


@dataclass(frozen=True)
class Exact:
    """The rule that drops nothing."""

    name: ClassVar[str] = "exact"
    changes_output: ClassVar[bool] = False
    uses_gate: ClassVar[bool] = False
    target: ClassVar[float | None] = None
    units: ClassVar[tuple[str, ...]] = WEIGHT_UNITS
    knowledge: Knowledge = field(default_factory=lambda: Knowledge("activity"))

    @classmethod
    def from_text(cls, written: RuleText) -> Exact:
        """Return the rule that a text names; raises UsageError if it has a value or an option of its own."""
        written.check_options(("sees",))
        if written.value is not None:
            raise UsageError(
                f"rule {written}", found=f"the value {written.value}", expected="none", remedy="write exact"
            )
        return cls(Knowledge("activity", written.options.get("sees", "predictor")))

    def of_block(self, block: BlockView) -> MaskedBlock:
        """Return a mask of all that fire."""
        return MaskedBlock(lambda outputs, gate: outputs != 0)

    def __str__(self) -> str:
        """Write the rule as it is parsed."""
        return self.name + ("" if self.knowledge.sees == "predictor" else f",sees={self.knowledge.sees}")
