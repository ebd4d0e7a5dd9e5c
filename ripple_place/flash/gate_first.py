"""Gate first: a neuron's gate row is read before it is known whether its up row and down column are needed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ripple_place.errors import UsageError

PREDICTED, FULL_GATE, RESIDENT = MODES = ("predicted", "full-gate", "resident")
OVER_PREDICT = 1.25
"""Candidates per neuron that fires, where no predictor says: the gate of what PowerInfer-2's predictor names puts out
something 80 % of the time (arXiv 2406.06282, section on I/O)."""
MAX_OVER_PREDICT = 1000.0
_OPTION = "over-predict"


@dataclass(frozen=True)
class GateFirst:
    """How a reader finds out which neurons fire.

    Parameters
    ----------
    mode : {"predicted", "full-gate", "resident"}
        ``predicted``: it reads the gates of candidates, then the rest of those that fire. ``full-gate``: it reads all
        gates of a block for every token, in one read. ``resident``: it holds them in DRAM.
    over_predict : float, optional
        Candidates per neuron that fires, at least 1, drawn; only with ``predicted``. None takes the predictions of the
        trace, or `OVER_PREDICT` where it has none.

    Raises
    ------
    UsageError
        If the mode is unknown, or the number does not fit.
    """

    mode: str
    over_predict: float | None = None

    def __post_init__(self) -> None:
        number = self.over_predict
        if self.mode not in MODES:
            raise UsageError(
                f"--gate-first {self.mode}", found="no mode by that name", expected=f"one of {', '.join(MODES)}",
                remedy="name one of them",
            )  # fmt: skip
        if number is not None and not (self.mode == PREDICTED and 1 <= number <= MAX_OVER_PREDICT):
            raise UsageError(
                f"--gate-first {self.mode},{_OPTION}={number:g}", found=f"{number:g} candidates per neuron that fires",
                expected=f"1 to {MAX_OVER_PREDICT:g}, and mode {PREDICTED}",
                remedy=f"write, for instance, {PREDICTED},{_OPTION}={OVER_PREDICT}",
            )  # fmt: skip

    @classmethod
    def parse(cls, text: str) -> GateFirst:
        """Parse a mode, perhaps with how many candidates there are.

        >>> GateFirst.parse("predicted,over-predict=1.25")
        GateFirst(mode='predicted', over_predict=1.25)

        Raises
        ------
        UsageError
            If it is neither.
        """
        mode, has_option, option = text.partition(",")
        if not has_option:
            return cls(mode)
        key, _, value = option.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if key != _OPTION or not math.isfinite(number):
            raise UsageError(
                f"--gate-first {text}", found=repr(option), expected=f"{_OPTION}=NUMBER",
                remedy=f"write, for instance, {PREDICTED},{_OPTION}={OVER_PREDICT}",
            )  # fmt: skip
        return cls(mode, number)

    def __str__(self) -> str:
        """Write it as it is parsed."""
        return self.mode + ("" if self.over_predict is None else f",{_OPTION}={self.over_predict:g}")
