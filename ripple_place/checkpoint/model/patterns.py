"""Patterns of tensor names, as family files have them.

``{layer}``, ``{expert}`` and ``{use}`` stand for a number, ``*`` for anything.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_NUMBER_NAMES = ("layer", "expert", "use")
FIRST = {"layer": 0, "expert": 0}
"""The numbers of the first layer and expert."""
PLACEHOLDERS = tuple(f"{{{name}}}" for name in _NUMBER_NAMES)


def fill(pattern: str, numbers: Mapping[str, object]) -> str:
    """Return a pattern with its placeholders replaced by numbers; those that are not given stay.

    >>> fill("layers.{layer}.experts.{expert}", {"layer": 3})
    'layers.3.experts.{expert}'
    """
    for name, number in numbers.items():
        pattern = pattern.replace(f"{{{name}}}", str(number))
    return pattern


@lru_cache(maxsize=4096)
def name_regex(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a tensor name pattern.

    >>> name_regex("layers.{layer}.fc*").fullmatch("layers.10.fc1.weight")["layer"]
    '10'
    """
    text = re.escape(pattern).replace(r"\*", ".*")
    for name, placeholder in zip(_NUMBER_NAMES, PLACEHOLDERS, strict=True):
        text = text.replace(re.escape(placeholder), rf"(?P<{name}>0|[1-9]\d*)")
    return re.compile(text)


def matching(pattern: str, names: Iterable[str]) -> Iterator[re.Match[str]]:
    """Yield the matches of a pattern with some names."""
    regex, start = name_regex(pattern), re.split(r"[{*]", pattern, maxsplit=1)[0]
    for name in names:
        # Most of many thousand names differ at once, which a regular expression takes longer to see.
        if name.startswith(start) and (match := regex.fullmatch(name)):
            yield match


def matches_any(patterns: Iterable[str], name: str) -> bool:
    """Tell whether a tensor name follows one of some patterns."""
    return any(name_regex(pattern).fullmatch(name) for pattern in patterns)
