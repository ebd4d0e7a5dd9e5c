"""The table form: times at some sizes, and straight lines between them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ripple_place.flash.device.checks import are_in_range, ascend, rate_problems
from ripple_place.flash.device.forms.form import Form, least_request_us
from ripple_place.flash.device.ranges import RANGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.arrays import Float64Array


@dataclass(frozen=True)
class TableForm(Form):
    """`latency_us` at `size_bytes`.

    Straight lines between, flat below the first size, and on along the last line above the last one (proportionally if
    there is a single size). The latency model of Neuron Chunking (arXiv 2511.18692, its sum over chunks of T[s]).

    Parameters
    ----------
    size_bytes : tuple of int
        Ascending.
    latency_us : tuple of float
        One a size, never falling, rising at the end: otherwise it would cost nothing to read more.
    max_iops : float, optional
    """

    name: ClassVar[str] = "table"
    sourced_with_another: ClassVar[frozenset[str]] = frozenset({"size_bytes"})

    size_bytes: tuple[int, ...]
    latency_us: tuple[float, ...]
    max_iops: float | None = None

    def problems(self) -> Iterator[str]:
        """Name each number that is missing or out of range."""
        yield from table_problems("", self.size_bytes, self.latency_us)
        yield from rate_problems("max_iops", self.max_iops, is_optional=True)

    def request_us(self, size_bytes: Float64Array, extra_us: Float64Array | float) -> Float64Array:
        """Return the time of single requests that each take `extra_us` in addition."""
        return np.maximum(self._interpolate(size_bytes) + extra_us, least_request_us(self.max_iops))

    def _interpolate(self, size_bytes: Float64Array) -> Float64Array:
        """Return the time that the table says."""
        knots, latency_us = np.array(self.size_bytes, np.float64), np.array(self.latency_us)
        if knots.size == 1:
            return np.asarray(latency_us[0] * np.maximum(1.0, size_bytes / knots[0]))
        slope = (latency_us[-1] - latency_us[-2]) / (knots[-1] - knots[-2])
        return np.asarray(np.interp(size_bytes, knots, latency_us) + slope * np.maximum(0.0, size_bytes - knots[-1]))


def table_problems(prefix: str, sizes: tuple[int, ...], times: tuple[float, ...]) -> Iterator[str]:
    """Name what keeps sizes and times from being a table, under the keys ``{prefix}size_bytes`` and its like."""
    size_key, time_key = f"{prefix}size_bytes", f"{prefix}latency_us"
    if not sizes or len(sizes) != len(times):
        yield f"{len(sizes)} {size_key} and {len(times)} {time_key}"
    if not ascend(size_key, sizes):
        yield f"{size_key} do not ascend ({RANGES[size_key]})"
    rises = are_in_range(time_key, times) and all(a <= b for a, b in pairwise(times))
    if not (rises and (len(times) < 2 or times[-2] < times[-1])):
        yield f"{time_key} are not positive, fall, or do not rise at the end ({RANGES[time_key]})"
