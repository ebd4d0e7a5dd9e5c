"""Which numbers a device profile may have, by key: wide enough for any storage, narrow enough to compute with.

Beyond them lie slips of a unit, and numbers whose products are no numbers any more or tables larger than memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Range(NamedTuple):
    """The numbers that a key may have, both ends included."""

    lowest: float
    highest: float

    def __str__(self) -> str:
        """Write it as messages and documentation do.

        >>> str(RANGES["page_bytes"]), str(RANGES["bandwidth_bytes_per_s"])
        ('64 to 1048576', '1000 to 1e+13')
        """
        return f"{self.lowest:.10g} to {self.highest:.10g}"


_FACTOR, _SHARE = Range(0.001, 1000), Range(0.001, 1)
_COMPUTE_RATE = Range(1e6, 1e14)
RANGES = {
    "page_bytes": Range(64, 2**20),
    "max_request_bytes": Range(64, 2**26),
    "read_ahead_bytes": Range(64, 2**26),
    "size_bytes": Range(1, 2**30),
    "latency_us": Range(0.001, 1e9),
    "overhead_us": Range(0, 1e9),
    "bandwidth_bytes_per_s": Range(1000, 1e13),
    "max_iops": Range(0.001, 1e10),
    "range_bytes": Range(1, 1e18),
    "range_factor": _FACTOR,
    "core_factor": _SHARE,
    "queue_depths": Range(1, 2**16),
    "queue_factor": _SHARE,
    "large_queue_bytes": Range(64, 2**26),
    "large_queue_factor": _SHARE,
    "warm_bandwidth_factor": _SHARE,
    "sync_size_bytes": Range(1, 2**30),
    "sync_latency_us": Range(0.001, 1e9),
    "dram_bytes_per_s": _COMPUTE_RATE,
    "npu_bytes_per_s": _COMPUTE_RATE,
    "cpu_bytes_per_s": _COMPUTE_RATE,
    "cpu_sparse_bytes_per_s": _COMPUTE_RATE,
    "compute_threads": Range(1, 1024),
}
"""By key of a device file; of lists, each number."""
MAX_PAGES = 2**16
"""Of the largest request and of what is read ahead: times are tabulated by pages."""


def is_in_range(key: str, value: Any) -> bool:
    """Tell whether a value is a number that a key may have; a boolean is none, nor is NaN.

    >>> is_in_range("overhead_us", 0), is_in_range("overhead_us", 1e308), is_in_range("page_bytes", True)
    (True, False, False)
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and RANGES[key].lowest <= value <= RANGES[key].highest


def text_of(value: Any) -> str:
    """Write a value out of a file, however long it is.

    >>> text_of(7), text_of([1 << 100_000])
    ('7', 'a value of too many digits')
    """
    try:
        return repr(value)
    except ValueError:  # Python writes integers of at most 4300 digits.
        return "a value of too many digits"
