"""What must be known of a token before a rule can choose, and what reading that costs.

A reader that chooses by what neurons put out must know it first. Either a predictor in DRAM says it, or a part of every
neuron's weights is read for it, and charged: the gate rows, or gate and up rows. The rest of a neuron's weights is then
what the choice is about.
"""

from __future__ import annotations

from dataclasses import dataclass

from ripple_place.blocks import COLUMN
from ripple_place.errors import UsageError

SEES = ("predictor", "gate", "output")


@dataclass(frozen=True)
class Knowledge:
    """What a rule must know, and from where.

    Parameters
    ----------
    of : str
        ``nothing``, ``activity``, ``gate``, ``up`` or ``magnitude``.
    sees : str
        One of `SEES`: a predictor that lies in DRAM, the gate's weights, or all weights but those of the down
        projection.

    Raises
    ------
    UsageError
        If `sees` is unknown, or the gate is to tell magnitudes.
    """

    of: str
    sees: str = "predictor"

    def __post_init__(self) -> None:
        if self.sees not in SEES:
            raise UsageError(
                f"sees={self.sees}", found=repr(self.sees), expected=f"one of {', '.join(SEES)}",
                remedy="name one of them",
            )  # fmt: skip
        if self.of == "magnitude" and self.sees == "gate":
            raise UsageError(
                "sees=gate", found="a rule that looks at |h|, of which the gate is only a factor",
                expected="what tells |h|", remedy="write sees=output, or sees=predictor",
            )  # fmt: skip

    def on(self, unit: str) -> Knowledge:
        """Return what must be known where the unit is another one: of columns nothing, see `ripple_place.blocks`.

        Inputs of the FFN are known before its input columns are read, and outputs of neurons before down columns are.
        """
        return Knowledge("nothing") if unit == COLUMN else self

    @property
    def sentence(self) -> str:
        """Who could run the rule."""
        if self.of == "nothing":
            return "any reader"
        what = {"activity": "which neurons fire", "gate": "the gate", "up": "up", "magnitude": "|h|"}[self.of]
        if self.sees == "predictor":
            return f"a predictor of {what}"
        read = (
            "all weights but the down ones"
            if self.sees == "output"
            else f"{'up' if self.of == 'up' else 'gate'} weights"
        )
        return f"{what}, from {read} of every neuron"

    def parts_read(self, n_parts: int) -> int:
        """Return how many of a neuron's parts (gate, up, down) are read of every neuron.

        Parameters
        ----------
        n_parts : int
            3 with a gate, 2 without.

        Raises
        ------
        UsageError
            If there is no gate to read.
        """
        if self.of == "nothing" or self.sees == "predictor":
            return 0
        if self.sees == "gate" and n_parts < 3:
            raise UsageError(
                "sees=gate", found="neurons without a gate", expected="a gated FFN",
                remedy="write sees=output, or sees=predictor",
            )  # fmt: skip
        return 1 if self.sees == "gate" else n_parts - 1
