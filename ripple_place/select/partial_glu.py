"""Partial GLU pruning: the gate, or up, is computed in full, and tells which neurons the rest is read of.

A baseline of DIP's authors (arXiv 2412.01380, section 4): by ``|act(gate(x))|`` or ``|up(x)|`` the largest neurons are
kept. The weights that tell are read of every neuron, and charged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ripple_place.blocks import NEURON
from ripple_place.errors import UsageError
from ripple_place.select.knowledge import Knowledge
from ripple_place.select.rule import MaskedBlock
from ripple_place.select.space import keep_of
from ripple_place.trace.dip import KeepLargest

if TYPE_CHECKING:
    from ripple_place.arrays import BoolArray, Float32Array
    from ripple_place.select.rule import BlockView
    from ripple_place.trace.rule_text import RuleText


@dataclass(frozen=True)
class PartialGlu:
    """The rule.

    Parameters
    ----------
    keep : float
        Share of the neurons.
    by : str
        ``gate`` or ``up``.
    """

    name: ClassVar[str] = "partial-glu"
    changes_output: ClassVar[bool] = True
    uses_gate: ClassVar[bool] = True
    target: ClassVar[float | None] = None
    units: ClassVar[tuple[str, ...]] = (NEURON,)
    keep: float
    by: str = "gate"

    @classmethod
    def from_text(cls, written: RuleText) -> PartialGlu:
        """Return the rule that a text names; raises UsageError if it is none."""
        written.check_options(("keep", "drop", "by"))
        by = written.options.get("by", "gate")
        if by not in ("gate", "up"):
            raise UsageError(
                f"rule {written}", found=f"by={by}", expected="by=gate or by=up", remedy="write one of them"
            )
        return cls(keep_of(written, "partial-glu=0.3"), by)

    @property
    def knowledge(self) -> Knowledge:
        """One of the three parts of a neuron's weights is read of every neuron."""
        return Knowledge(self.by, "gate")

    def of_block(self, block: BlockView) -> MaskedBlock:
        """Return the mask of the rule."""
        largest = KeepLargest(self.keep)

        def mask(outputs: Float32Array, gate: Float32Array | None) -> BoolArray:
            activated = outputs if gate is None else gate
            if self.by == "gate":
                return largest.active(activated)  # type: ignore[no-any-return]
            # The output is the product of both; where the gate is zero, so is the output, whatever up is.
            up = np.divide(outputs, activated, out=np.zeros_like(outputs), where=activated != 0)
            return largest.active(up)  # type: ignore[no-any-return]

        return MaskedBlock(mask)

    def __str__(self) -> str:
        """Write the rule as it is parsed."""
        return f"{self.name}={self.keep:g}" + ("" if self.by == "gate" else f",by={self.by}")
