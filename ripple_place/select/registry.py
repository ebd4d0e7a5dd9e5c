"""The selection rules by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.select.by_activity import ByActivity
from ripple_place.select.exact import Exact
from ripple_place.select.fisher import FisherThreshold
from ripple_place.select.flash_aware import FlashAware
from ripple_place.trace.rule_text import RuleText

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.select.rule import Rule

RULES: dict[str, Callable[[RuleText], Rule]] = {
    "exact": Exact.from_text,
    "threshold": ByActivity.from_text,
    "top-k": ByActivity.from_text,
    "cats": ByActivity.from_text,
    "teal": ByActivity.from_text,
    FisherThreshold.name: FisherThreshold.from_text,
    FlashAware.name: FlashAware.from_text,
}
"""How each is read from its text."""
EXAMPLES = (
    "exact", "threshold=0.1", "top-k=20%", "cats=70%", "teal=50%", "fisher=0.001", "flash-aware=0.001",
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
