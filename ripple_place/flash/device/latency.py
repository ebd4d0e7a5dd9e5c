"""Simple forms of a device: the additive line, and the ceiling of operations and bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from ripple_place.arrays import Float64Array


@dataclass(frozen=True)
class LatencyLine:
    """The additive cost of a read: ``overhead_us`` plus its bytes at ``bandwidth_bytes_per_s``."""

    overhead_us: float
    bandwidth_bytes_per_s: float

    def request_us(self, size_bytes: npt.ArrayLike) -> Float64Array:
        """Return the time of requests of the given sizes."""
        return self.overhead_us + np.asarray(size_bytes, np.float64) * (1e6 / self.bandwidth_bytes_per_s)

    def break_even_gap(self, bundle_bytes: int) -> float:
        """Return lambda: how many unwanted bundles cost as much as one more read.

        >>> LatencyLine(12.0, 1.7e9).break_even_gap(4096)
        4.98046875
        """
        return self.overhead_us * self.bandwidth_bytes_per_s / (1e6 * bundle_bytes)


@dataclass(frozen=True)
class Ceiling:
    """The time of many requests as the larger of their number over IOPS and their bytes over bandwidth.

    Ripple's reasoning on flash (arXiv 2410.19274, section 2: reads of a phone are bound by IOPS until they are long
    enough to be bound by bandwidth). It assumes that short requests hide under the bytes of long ones, and therefore
    never exceeds the sum over requests of the larger of the two.
    """

    iops: float
    bandwidth_bytes_per_s: float

    def time_us(self, n_requests: npt.ArrayLike, n_bytes: npt.ArrayLike) -> Float64Array:
        """Return the time of so many requests of so many bytes together.

        >>> float(Ceiling(100_000, 1e9).time_us(3, 16384)), float(Ceiling(100_000, 1e9).time_us(3, 65536))
        (30.0, 65.536)
        """
        operations_us = np.asarray(n_requests, np.float64) * (1e6 / self.iops)
        return np.maximum(operations_us, np.asarray(n_bytes, np.float64) * (1e6 / self.bandwidth_bytes_per_s))
