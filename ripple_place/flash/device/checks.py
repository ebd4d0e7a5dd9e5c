"""Checks that the parts of a device profile share: of sizes, rates, lists that ascend, and sources."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ripple_place.errors import DeviceConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence, Set


def refuse(where: str, problems: Iterable[str], expected: str) -> None:
    """Refuse numbers with problems.

    Raises
    ------
    DeviceConfigError
        If there are any problems; it names them all.
    """
    if found := "; ".join(problems):
        raise DeviceConfigError(
            where, found=found, expected=expected, remedy="correct the profile; docs/devices.md describes each key"
        )


def check_sources(where: str, sources: Mapping[str, str], numbers: Set[str]) -> None:
    """Check that each number has a source, and each source a number.

    Raises
    ------
    DeviceConfigError
        If not.
    """
    given = {name for name, source in sources.items() if isinstance(source, str) and source.strip()}
    if given != numbers or len(given) != len(sources):
        raise DeviceConfigError(
            f"{where}: sources",
            found=f"sources of {', '.join(sorted(sources)) or 'nothing'}",
            expected=f"a sentence for each of {', '.join(sorted(numbers))}",
            remedy="say where each number comes from: a paper and its table, or how it was measured",
        )


def rate_problems(name: str, value: Any, *, is_optional: bool = False) -> Iterator[str]:
    """Name a value that is no rate: no positive number, nor left out where it may be."""
    if not (is_positive(value) or (is_optional and value is None)):
        yield f"{name} = {value!r} is no rate"


def ascend(sizes: Sequence[Any]) -> bool:
    """Tell whether all are positive integers, each larger than the one before.

    >>> ascend((4096, 8192)), ascend((4096, 4096)), ascend((0, 4096)), ascend(())
    (True, False, False, True)
    """
    return all(map(is_int, sizes)) and all(a < b for a, b in pairwise((0, *sizes)))


def are_positive(values: Sequence[Any]) -> bool:
    """Tell whether all are positive numbers."""
    return all(map(is_positive, values))


def is_int(value: Any) -> bool:
    """Tell whether a value is an integer; a boolean is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_positive(value: Any) -> bool:
    """Tell whether a value is a number above 0 and below infinity.

    >>> is_positive(0.5), is_positive(0), is_positive(float("inf")), is_positive(True), is_positive("1")
    (True, False, False, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
