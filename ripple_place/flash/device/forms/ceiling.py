"""The ceiling form: many requests together take the larger of their number over IOPS and their bytes over bandwidth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ripple_place.flash.device.checks import rate_problems
from ripple_place.flash.device.forms.form import Form, least_request_us

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.arrays import Float64Array


@dataclass(frozen=True)
class CeilingForm(Form):
    """All requests of a token and block together take the larger of two times.

    Their number over `max_iops`, and their bytes over `bandwidth_bytes_per_s`: see
    `ripple_place.flash.device.latency.Ceiling`.

    Parameters
    ----------
    max_iops : float
    bandwidth_bytes_per_s : float
    """

    name: ClassVar[str] = "ceiling"
    times_add_up: ClassVar[bool] = False

    max_iops: float
    bandwidth_bytes_per_s: float

    def problems(self) -> Iterator[str]:
        """Name each number that is missing or out of range."""
        yield from rate_problems("bandwidth_bytes_per_s", self.bandwidth_bytes_per_s)
        yield from rate_problems("max_iops", self.max_iops)

    def request_us(self, size_bytes: Float64Array, extra_us: Float64Array | float) -> Float64Array:
        """Return the time of each request as if it were alone; many together take less than the sum of these."""
        operation_us = least_request_us(self.max_iops) + extra_us
        return np.maximum(operation_us, size_bytes * (1e6 / self.bandwidth_bytes_per_s))

    def shortest_bytes(self, page_bytes: int) -> int:
        """Return 0: a request takes its share of IOPS however short it is, and even a page might be bound by bytes."""
        return 0
