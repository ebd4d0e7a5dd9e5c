"""The selection rules by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.blocks import COLUMN
from ripple_place.errors import UsageError
from ripple_place.select.by_activity import ByActivity
from ripple_place.select.chunk import Chunk
from ripple_place.select.dip_ca import DipCacheAware
from ripple_place.select.exact import Exact
from ripple_place.select.fisher import FisherThreshold
from ripple_place.select.flash_aware import FlashAware
from ripple_place.select.knowledge import Knowledge
from ripple_place.select.partial_glu import PartialGlu
from ripple_place.trace.rule_text import RuleText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ripple_place.select.rule import Rule

RULES: dict[str, Callable[[RuleText], Rule]] = {
    "exact": Exact.from_text,
    "threshold": ByActivity.from_text,
    "top-k": ByActivity.from_text,
    "cats": ByActivity.from_text,
    "teal": ByActivity.from_text,
    "dip": ByActivity.from_text,
    DipCacheAware.name: DipCacheAware.from_text,
    "glu-pruning": ByActivity.from_text,
    PartialGlu.name: PartialGlu.from_text,
    Chunk.name: Chunk.from_text,
    FisherThreshold.name: FisherThreshold.from_text,
    FlashAware.name: FlashAware.from_text,
}
"""How each is read from its text."""
EXAMPLES = (
    "exact", "threshold=0.1", "top-k=20%", "cats=70%", "teal=50%", "dip=0.5", "dip-ca=0.5,gamma=0.2", "glu-pruning=0.3",
    "partial-glu=0.3", "chunk=0.5", "fisher=0.001", "flash-aware=0.001",
)  # fmt: skip
"""As they are written, in the order of `RULES`."""


def parse_rule(text: str) -> Rule:
    """Return the rule that a text names.

    Raises
    ------
    UsageError
        If there is none by that name, or value and options do not fit it.
    """
    written = RuleText.parse(text)
    if written is None or written.name not in RULES:
        raise UsageError(
            f"--select {text}", found=repr(text), expected=f"a rule such as {', '.join(EXAMPLES)}",
            remedy="write one of them (docs/selection.md)",
        )  # fmt: skip
    return RULES[written.name](written)


def check_units(rules: Iterable[Rule], unit: str) -> None:
    """Refuse rules that mean nothing for a unit, one of `ripple_place.blocks.UNITS`.

    Raises
    ------
    UsageError
        At the first.
    """
    for rule in rules:
        if unit not in rule.units:
            raise UsageError(
                f"--select {rule}", found=f"a rule of {rule.units[0]}s, and blocks of {unit}s",
                expected="a rule of the blocks' units", remedy=f"use --unit {rule.units[0]}, or traces and layouts of "
                f"{rule.units[0]}s, or another rule",
            )  # fmt: skip
        if unit == COLUMN and rule.knowledge.sees != Knowledge.sees:
            raise UsageError(
                f"--select {rule}", found=f"sees={rule.knowledge.sees}, and blocks of columns",
                expected="no sees: inputs are known before their columns are read", remedy="leave sees out",
            )  # fmt: skip
