"""Checks that the parts of a device profile share: of sizes, rates, lists that ascend, and sources."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ripple_place.errors import DeviceConfigError
from ripple_place.flash.device.ranges import RANGES, is_in_range, text_of

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


def number_problems(key: str, value: Any, kind: str) -> Iterator[str]:
    """Name a value that is no number in the range of its key; `kind` is what such a number is."""
    if not is_in_range(key, value):
        yield f"{key} = {text_of(value)} is no {kind} ({RANGES[key]})"


def rate_problems(key: str, value: Any, *, is_optional: bool = False) -> Iterator[str]:
    """Name a value that is no rate, nor left out where it may be."""
    if not (is_optional and value is None):
        yield from number_problems(key, value, "rate")


def ascend(key: str, sizes: Sequence[Any]) -> bool:
    """Tell whether all are integers in the range of their key, each larger than the one before.

    >>> [ascend("size_bytes", sizes) for sizes in ((4096, 8192), (4096, 4096), (0, 4096), ())]
    [True, False, False, True]
    """
    return all(is_int(size) and is_in_range(key, size) for size in sizes) and all(a < b for a, b in pairwise(sizes))


def are_in_range(key: str, values: Sequence[Any]) -> bool:
    """Tell whether all are numbers in the range of their key."""
    return all(is_in_range(key, value) for value in values)


def is_int(value: Any) -> bool:
    """Tell whether a value is an integer; a boolean is none."""
    return isinstance(value, int) and not isinstance(value, bool)
