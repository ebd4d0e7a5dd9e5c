"""Partial GLU pruning: the gate, or up, is computed in full, and tells which neurons the rest is read of.

A baseline of DIP's authors (arXiv 2412.01380, section 4): by ``|act(gate(x))|`` or ``|up(x)|`` the largest neurons are
kept. The weights that tell are read of every neuron, and charged, unless a predictor tells. Neurons that put out zero
are never used, also where up alone would ask for them: a reader of ReGLU by up reads a little more.
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
    knowledge : Knowledge
        Of ``gate`` or ``up``. By default, this one of the three parts of a neuron's weights is read of every neuron.
    """

    name: ClassVar[str] = "partial-glu"
    changes_output: ClassVar[bool] = True
    uses_gate: ClassVar[bool] = True
    target: ClassVar[float | None] = None
    units: ClassVar[tuple[str, ...]] = (NEURON,)
    keep: float
    knowledge: Knowledge = Knowledge("gate", "gate")  # noqa: RUF009 - frozen

    @classmethod
    def from_text(cls, written: RuleText) -> PartialGlu:
        """Return the rule that a text names; raises UsageError if it is none."""
        written.check_options(("keep", "drop", "by", "sees"))
        by = written.options.get("by", "gate")
        if by not in ("gate", "up"):
            raise UsageError(
                f"rule {written}", found=f"by={by}", expected="by=gate or by=up", remedy="write one of them"
            )
        return cls(keep_of(written, "partial-glu=0.3"), Knowledge(by, written.options.get("sees", "gate")))

    def of_block(self, block: BlockView) -> MaskedBlock:
        """Return the mask of the rule."""
        largest = KeepLargest(self.keep)

        def mask(outputs: Float32Array, gate: Float32Array | None) -> BoolArray:
            if gate is None or not block.is_gated:
                return largest.active(outputs)  # type: ignore[no-any-return]
            if self.knowledge.of == "gate":
                return largest.active(gate)  # type: ignore[no-any-return]
            # The output is the product of both; where the gate is zero, so is the output, whatever up is.
            up = np.divide(outputs, gate, out=np.zeros_like(outputs), where=gate != 0)
            return largest.active(up)  # type: ignore[no-any-return]

        return MaskedBlock(mask)

    def __str__(self) -> str:
        """Write the rule as it is parsed."""
        options = {"by": self.knowledge.of, "sees": self.knowledge.sees}
        parts = [f"{key}={value}" for key, value in options.items() if value != "gate"]
        return ",".join([f"{self.name}={self.keep:g}", *parts])
