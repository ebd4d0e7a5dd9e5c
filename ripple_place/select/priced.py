"""Rules at a price: a neuron is used where its worth, the loss by dropping it, exceeds what using it costs.

Worth is ``c_i h_i^2``: Fisher importance c_i of the neuron, and its output h_i. With ``sensitive=yes`` it is multiplied
by the sensitivity s(x) of the token, which pays only without compensation (docs/selection.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ripple_place.blocks import WEIGHT_UNITS, is_input_block
from ripple_place.errors import UsageError
from ripple_place.select.knowledge import Knowledge
from ripple_place.select.rule import PricedBlock
from ripple_place.trace.rule_text import Amount

if TYPE_CHECKING:
    from ripple_place.select.rule import BlockView
    from ripple_place.trace.rule_text import RuleText

MAX_TARGET = 10.0
"""Nats a token: more than any use of a model survives."""


@dataclass(frozen=True)
class PricedRule:
    """What rules at a price have in common.

    Parameters
    ----------
    target : float or None
        Wanted rise of the loss, in nats a token, for which the price is tuned.
    price : float or None
        The price itself, in nats per microsecond of flash time; None takes the tuned one.
    knowledge : Knowledge
    is_sensitive : bool
        Whether worth is multiplied by the token's sensitivity.
    """

    name: ClassVar[str]
    changes_output: ClassVar[bool] = True
    uses_gate: ClassVar[bool] = False
    units: ClassVar[tuple[str, ...]] = WEIGHT_UNITS
    target: float | None
    price: float | None = None
    knowledge: Knowledge = field(default_factory=lambda: Knowledge("magnitude"))
    is_sensitive: bool = False

    @classmethod
    def from_text(cls, written: RuleText) -> Self:
        """Return the rule that a text names.

        Raises
        ------
        UsageError
            If it names neither a wanted rise nor a price, or both.
        """
        written.check_options(("price", "sees", "sensitive"))
        sensitive = written.options.get("sensitive", "no")
        if sensitive not in ("yes", "no"):
            raise UsageError(
                f"rule {written}", found=f"sensitive={sensitive}", expected="yes or no", remedy="write one of them"
            )
        texts = [text for text in (written.value, written.options.get("price")) if text is not None]
        amounts = [Amount.parse(text) for text in texts]
        if (
            len(amounts) != 1 or amounts[0] is None or amounts[0].is_percent or amounts[0].number > MAX_TARGET
            or (written.value is not None and amounts[0].number == 0)
        ):  # fmt: skip
            raise UsageError(
                f"rule {written}",
                found=" and ".join(texts) if texts else "no wanted rise of the loss, and no price",
                expected=f"{cls.name}=NATS, a rise above 0 and of at most {MAX_TARGET:g} nats a token, or "
                f"{cls.name},price=NATS, of a microsecond of flash time",
                remedy=f"write, for instance, {cls.name}=0.001",
            )  # fmt: skip
        number = amounts[0].number
        knowledge = Knowledge("magnitude", written.options.get("sees", "predictor"))
        if written.value is None:
            return cls(None, number, knowledge, sensitive == "yes")
        return cls(number, None, knowledge, sensitive == "yes")

    def price_for(self, block: BlockView) -> float:
        """Return the price that was given, or tuned."""
        price = block.tuning.price if self.price is None else self.price
        if price is None:
            raise UsageError(
                f"--select {self}", found="a layout for which the rule was not tuned",
                expected="a tuned price of flash time",
                remedy=f"run `ripple-place reorder MODEL --select {self} --tune-text FILE` and simulate its output, or "
                f"write {self.name},price=NATS",
            )  # fmt: skip
        return price

    def priced(self, block: BlockView, choose: Any, arguments: Any) -> PricedBlock:
        """Return a block's kernel with the values of its neurons; raises UsageError if they are unknown."""
        importance = block.tuning.importance.get(block.name)
        if importance is None:
            raise UsageError(
                f"--select {self}", found=f"no importance of the neurons of {block.name}",
                expected="what dropping a neuron costs",
                remedy="profile the model with --importance and name that --profile, or name an output of `reorder "
                "--select`",
            )  # fmt: skip
        if importance.size != block.n_neurons:
            raise UsageError(
                f"--select {self}", found=f"the importance of {importance.size} neurons of {block.name}",
                expected=f"that of {block.n_neurons} neurons", remedy="name the --profile of this model",
            )  # fmt: skip
        sensitivity = block.tuning.sensitivity.get(block.name) if self.is_sensitive else None
        if self.is_sensitive and sensitivity is None:
            raise UsageError(
                f"--select {self}", found=f"no sensitivity of tokens in {block.name}",
                expected="how what dropping costs differs from token to token",
                remedy="write sensitive=no" if is_input_block(block.name)
                else "profile the model with --sensitivity, or write sensitive=no",
            )  # fmt: skip
        return PricedBlock(choose, arguments, np.ascontiguousarray(importance, np.float32), sensitivity=sensitivity)

    def __str__(self) -> str:
        """Write the rule as it is parsed."""
        head = f"{self.name}={self.target:g}" if self.price is None else f"{self.name},price={self.price:g}"
        sees = "" if self.knowledge.sees == "predictor" else f",sees={self.knowledge.sees}"
        return head + sees + (",sensitive=yes" if self.is_sensitive else "")
