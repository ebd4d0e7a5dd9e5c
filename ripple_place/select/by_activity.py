"""Rules of profiles as selection rules: ``threshold``, ``top-k``, ``cats``, ``teal``, ``dip``, ``glu-pruning``.

They look at a token's outputs alone, whatever lies in DRAM and wherever it lies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.select.knowledge import Knowledge
from ripple_place.select.rule import MaskedBlock
from ripple_place.trace.activity_rules import ActivityRule

if TYPE_CHECKING:
    from ripple_place.select.rule import BlockView
    from ripple_place.trace.rule_text import RuleText


@dataclass(frozen=True)
class ByActivity:
    """A rule of profiles.

    Parameters
    ----------
    rule : ActivityRule
    knowledge : Knowledge
    """

    rule: ActivityRule
    knowledge: Knowledge

    @classmethod
    def from_text(cls, written: RuleText) -> ByActivity:
        """Return the rule that a text names; raises UsageError if it is none."""
        options = {key: value for key, value in written.options.items() if key != "sees"}
        try:
            rule = ActivityRule.from_text(replace(written, options=options))
        except UsageError:
            raise UsageError(
                f"--select {written}", found=repr(str(written)), expected="threshold=X, top-k=K, top-k=P%, cats=P%, "
                "teal=P%, dip=KEEP or glu-pruning=KEEP; or keep=P% or drop=P% instead of the value",
                remedy="write the rule that way (docs/selection.md)",
            ) from None  # fmt: skip
        # CATS computes the gate of every neuron; it needs no predictor.
        default = "gate" if rule.uses_gate else "predictor"
        sees = written.options.get("sees", default)
        return cls(rule, Knowledge("gate" if rule.uses_gate else "magnitude", sees))

    @property
    def name(self) -> str:
        """The name by which the rule is registered."""
        return self.rule.kind

    @property
    def changes_output(self) -> bool:
        """Whether it may drop what puts out something."""
        return self.rule.changes_output

    @property
    def uses_gate(self) -> bool:
        """Whether it looks at the output of the activation function."""
        return self.rule.uses_gate

    @property
    def units(self) -> tuple[str, ...]:
        """Those of `ripple_place.blocks.UNITS` for which the rule means something."""
        return self.rule.units

    @property
    def target(self) -> float | None:
        """None: thresholds are fitted on outputs, not for a wanted loss."""
        return None

    def of_block(self, block: BlockView) -> MaskedBlock:
        """Return the mask of the rule; raises UsageError if its threshold was not fitted for this block."""
        thresholds = block.tuning.thresholds
        threshold = thresholds.get(block.name)
        if threshold is None and ".experts." in block.name:
            # The experts of a layer share one.
            threshold = thresholds.get(block.name.rpartition(".")[0])
        if self.rule.is_fitted and threshold is None:
            raise UsageError(
                f"--select {self}", found=f"no threshold for {block.name}",
                expected="one that was fitted on another text than this one",
                remedy=f"run `ripple-place reorder MODEL --select {self} --tune-text FILE`, and simulate its output",
            )  # fmt: skip
        rule = self.rule.of_block(block.name, is_gated=block.is_gated)
        return MaskedBlock(lambda outputs, gate: rule.active(outputs, gate, threshold))

    def __str__(self) -> str:
        """Write the rule as it is parsed."""
        is_default = self.knowledge.sees == ("gate" if self.uses_gate else "predictor")
        return f"{self.rule}" + ("" if is_default else f",sees={self.knowledge.sees}")
