"""The linear form: an overhead for each request, and its bytes at a bandwidth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ripple_place.flash.device.checks import number_problems, rate_problems
from ripple_place.flash.device.forms.form import Form, least_request_us
from ripple_place.flash.device.latency import LatencyLine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.arrays import Float64Array


@dataclass(frozen=True)
class LinearForm(Form):
    """`overhead_us` plus bytes at `bandwidth_bytes_per_s`.

    Parameters
    ----------
    overhead_us : float
        0 or more.
    bandwidth_bytes_per_s : float
    max_iops : float, optional
    """

    name: ClassVar[str] = "linear"

    overhead_us: float
    bandwidth_bytes_per_s: float
    max_iops: float | None = None

    def problems(self) -> Iterator[str]:
        """Name each number that is missing or out of range."""
        yield from number_problems("overhead_us", self.overhead_us, "time")
        yield from rate_problems("bandwidth_bytes_per_s", self.bandwidth_bytes_per_s)
        yield from rate_problems("max_iops", self.max_iops, is_optional=True)

    def request_us(self, size_bytes: Float64Array, extra_us: Float64Array | float) -> Float64Array:
        """Return the time of single requests that each take `extra_us` in addition."""
        return np.maximum(self._line.request_us(size_bytes) + extra_us, least_request_us(self.max_iops))

    def own_line(self) -> LatencyLine | None:
        """Return the line of overhead and bandwidth, unless `max_iops` bends it."""
        return self._line if self.max_iops is None else None

    @property
    def _line(self) -> LatencyLine:
        return LatencyLine(self.overhead_us, self.bandwidth_bytes_per_s)
