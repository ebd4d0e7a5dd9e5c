"""The numbers of a device profile beside those of its form: its sizes, and what it knows of conditions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from ripple_place.flash.device.checks import are_in_range, ascend, is_int, number_problems
from ripple_place.flash.device.part import ProfilePart
from ripple_place.flash.device.ranges import MAX_PAGES, RANGES, is_in_range, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class SizeNumbers(ProfilePart):
    """The sizes of what a device reads at once; see `ripple_place.flash.device.profile.DeviceProfile`."""

    page_bytes: int
    max_request_bytes: int
    read_ahead_bytes: int | None = None

    def problems(self) -> Iterator[str]:
        """Name each size that is none, or no whole number of pages."""
        if not (is_int(self.page_bytes) and is_in_range("page_bytes", self.page_bytes)):
            yield f"page_bytes = {text_of(self.page_bytes)} is no size ({RANGES['page_bytes']})"
            return
        sizes = {"max_request_bytes": self.max_request_bytes}
        if self.read_ahead_bytes is not None:
            sizes["read_ahead_bytes"] = self.read_ahead_bytes
        for name, value in sizes.items():
            if not (is_int(value) and is_in_range(name, value) and value % self.page_bytes == 0):
                yield f"{name} = {text_of(value)} is no multiple of page_bytes ({RANGES[name]})"
            elif value > MAX_PAGES * self.page_bytes:
                yield f"{name} = {value} is more than {MAX_PAGES} times page_bytes"


@dataclass(frozen=True)
class ConditionNumbers(ProfilePart):
    """What a profile knows of conditions; see `ripple_place.flash.device.profile.DeviceProfile`."""

    sourced_with_another: ClassVar[frozenset[str]] = frozenset(
        {"range_bytes", "cores", "queue_depths", "large_queue_bytes"}
    )

    range_bytes: tuple[int, ...] = ()
    range_factor: tuple[float, ...] = ()
    cores: tuple[str, ...] = ()
    core_factor: tuple[float, ...] = ()
    queue_depths: tuple[int, ...] = ()
    queue_factor: tuple[float, ...] = ()
    large_queue_bytes: int | None = None
    large_queue_factor: tuple[float, ...] = ()
    warm_bandwidth_factor: float | None = None

    def problems(self) -> Iterator[str]:
        """Name each list that does not fit its factors, and each factor that cannot be."""
        for names, factors_name in (
            ("range_bytes", "range_factor"), ("cores", "core_factor"), ("queue_depths", "queue_factor"),
            *([("queue_depths", "large_queue_factor")] if self._has_large_queue else []),
        ):  # fmt: skip
            keys, factors = getattr(self, names), getattr(self, factors_name)
            if len(keys) != len(factors):
                yield f"{len(keys)} {names} and {len(factors)} {factors_name}"
            # Only a smaller range than the form's can make reads faster than the form.
            if not are_in_range(factors_name, factors):
                above = " or above 1" if names != "range_bytes" else ""
                yield f"{factors_name} are not positive{above} ({RANGES[factors_name]})"
        for names in ("range_bytes", "queue_depths"):
            if not ascend(names, getattr(self, names)):
                yield f"{names} do not ascend ({RANGES[names]})"
        if not all(isinstance(core, str) and core for core in self.cores) or len(set(self.cores)) < len(self.cores):
            yield "cores are not different names"
        for factors_name in ("range_factor", "queue_factor", "large_queue_factor"):
            factors = getattr(self, factors_name)
            falls = factors_name == "range_factor"
            if are_in_range(factors_name, factors) and any(a < b if falls else a > b for a, b in pairwise(factors)):
                yield f"{factors_name} {'rise with the range' if falls else 'fall with the depth'}"
        for factors_name in ("queue_factor", "large_queue_factor"):
            if (factors := getattr(self, factors_name)) and factors[-1] != 1:
                yield f"{factors_name} does not end with 1, at saturation"
        size_bytes = self.large_queue_bytes
        if self._has_large_queue and not (is_int(size_bytes) and is_in_range("large_queue_bytes", size_bytes)):
            yield f"large_queue_bytes = {text_of(size_bytes)} is no size ({RANGES['large_queue_bytes']})"
        if self.warm_bandwidth_factor is not None:
            yield from number_problems("warm_bandwidth_factor", self.warm_bandwidth_factor, "share")

    @property
    def _has_large_queue(self) -> bool:
        """Whether depth has numbers of its own for large requests."""
        return self.large_queue_bytes is not None or bool(self.large_queue_factor)
