"""The parts of a device profile: each takes its own numbers from the profile, checks them, and names the sourced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from ripple_place.errors import DeviceConfigError
from ripple_place.flash.device.checks import refuse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self


@dataclass(frozen=True)
class ProfilePart(ABC):
    """Some of a profile's numbers; the fields bear the names that the numbers have in the profile.

    Raises
    ------
    DeviceConfigError
        If a number is missing or out of range; names all that are.

    Attributes
    ----------
    sourced_with_another : frozenset of str
        Numbers without a source of their own: that of the numbers beside them covers both.
    """

    sourced_with_another: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        names = ", ".join(entry.name for entry in fields(self))
        refuse(type(self).__name__, self.problems(), f"{names} in range")

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, Any]) -> Self:
        """Return the part of a profile that has these numbers, by name; others are left alone."""
        return cls(**{entry.name: numbers[entry.name] for entry in fields(cls)})

    @classmethod
    def problems_in(cls, numbers: Mapping[str, Any]) -> list[str]:
        """Return what keeps `from_numbers` from making the part; empty if nothing does."""
        try:
            cls.from_numbers(numbers)
        except DeviceConfigError as cause:
            return [cause.found]
        return []

    @abstractmethod
    def problems(self) -> Iterator[str]:
        """Name each number that is missing or out of range."""

    @property
    def sourced(self) -> frozenset[str]:
        """Names of the numbers that need a source: those that are set."""
        names = {entry.name for entry in fields(self) if getattr(self, entry.name) not in (None, ())}
        return frozenset(names - self.sourced_with_another)
