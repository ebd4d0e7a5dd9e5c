"""How text is generated from an output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from ripple_place.select.rule import Rule

ORACLE, PREDICTED, GATE, RULE, ALL = ACTIVITIES = ("oracle", "predicted", "gate", "rule", "all")
"""Who says which units a token uses (`ripple_place.generation.activities`)."""
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class GenerationParams:
    """How text is generated.

    Parameters
    ----------
    max_tokens : int
        Most that are generated.
    activity : str
        One of `ACTIVITIES`.
    rule : Rule, optional
        Chooses among the units that fire; needed by ``rule``, and by no other.
    sees : str
        What the rule looks at, ``oracle`` or ``predicted``.
    recall : float, optional
        Of predictors, one of those that thresholds were set for; None takes their default.
    check_recall : bool
        Whether an oracle counts what predictors miss. It takes the memory of all weights.
    dtype : str, optional
        What the model computes in, one of `DTYPES`; None takes the checkpoint's.
    prefill_rows : int
        Tokens of a prompt that are computed together, whose units are read at once.

    Raises
    ------
    UsageError
        If a number is out of range, or a word unknown.
    """

    max_tokens: int = 64
    activity: str = ORACLE
    rule: Rule | None = None
    sees: str = ORACLE
    recall: float | None = None
    check_recall: bool = False
    dtype: str | None = None
    prefill_rows: int = 32

    def __post_init__(self) -> None:
        for option, number in (("--max-tokens", self.max_tokens), ("--prefill-rows", self.prefill_rows)):
            if number < 1:
                raise UsageError(
                    option, found=f"{number}", expected="1 or more", remedy="write a positive number"
                )  # fmt: skip
        words = [("--activity", self.activity, ACTIVITIES), ("sees", self.sees, (ORACLE, PREDICTED))]
        if self.dtype is not None:
            words.append(("--dtype", self.dtype, DTYPES))
        for option, word, known in words:
            if word not in known:
                raise UsageError(
                    f"{option} {word}", found="no such word", expected=f"one of {', '.join(known)}",
                    remedy="write one of them",
                )  # fmt: skip
        if (self.rule is not None) != (self.activity == RULE):
            raise UsageError(
                f"--activity {self.activity}", found="no rule" if self.rule is None else f"--select {self.rule}",
                expected="a rule exactly where the activity is `rule`",
                remedy="name a rule and --activity rule, or neither",
            )  # fmt: skip
        if self.check_recall and self.activity != PREDICTED:
            raise UsageError(
                f"--activity {self.activity}", found="a recall to be checked, and no predictors at work",
                expected="--activity predicted", remedy="leave the check out, or take --activity predicted",
            )  # fmt: skip
