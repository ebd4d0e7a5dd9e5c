"""The grammar of rules: ``NAME[=VALUE][,KEY=VALUE]...``, one for activity rules and for selection rules.

Imports nothing heavy: the command line imports it to print its help.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_NUMBER = re.compile(r"([0-9]*\.?[0-9]+(?:[eE]-?[0-9]{1,3})?)(%?)")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True)
class RuleText:
    """A rule as written.

    Attributes
    ----------
    name : str
    value : str or None
        What follows the name's equals sign.
    options : mapping of str to str
        The keys after the first comma.
    """

    name: str
    value: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> RuleText | None:
        """Read a rule; None if it does not follow the grammar.

        >>> RuleText.parse("flash-aware=0.001,sees=gate")
        RuleText(name='flash-aware', value='0.001', options={'sees': 'gate'})
        """
        head, *rest = text.strip().split(",")
        name, has_value, value = head.partition("=")
        options: dict[str, str] = {}
        for part in rest:
            key, has_option, option = part.partition("=")
            if not (has_option and option and _NAME.fullmatch(key)) or key in options:
                return None
            options[key] = option
        if not _NAME.fullmatch(name) or (has_value and not value):
            return None
        return cls(name, value if has_value else None, options)

    def __str__(self) -> str:
        """Write the rule as it is parsed."""
        head = self.name if self.value is None else f"{self.name}={self.value}"
        return ",".join([head, *(f"{key}={value}" for key, value in self.options.items())])

    def check_options(self, known: Collection[str]) -> None:
        """Refuse options that the rule does not have.

        Raises
        ------
        UsageError
            At the first.
        """
        for key in self.options:
            if key not in known:
                raise UsageError(
                    f"rule {self}", found=f"the option {key}",
                    expected=f"of {', '.join(known)}" if known else "no options", remedy=f"leave {key} out",
                )  # fmt: skip


@dataclass(frozen=True)
class Amount:
    """A number, or a percentage."""

    number: float
    is_percent: bool = False

    @classmethod
    def parse(cls, text: str) -> Amount | None:
        """Read ``12``, ``0.5``, ``1e-3`` or ``20%``; None if it is neither.

        >>> Amount.parse("20%"), Amount.parse("many")
        (Amount(number=20.0, is_percent=True), None)
        """
        match = _NUMBER.fullmatch(text)
        return None if match is None else cls(float(match[1]), match[2] == "%")
