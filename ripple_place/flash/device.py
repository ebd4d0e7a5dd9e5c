"""Device profiles: what a flash read costs, by size, on a phone, laptop or server, and where the numbers come from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import nnls

from ripple_place.errors import DeviceConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Float64Array = npt.NDArray[np.float64]

LINE_BUNDLES = 16
"""The line of a table device is fitted over reads of 1 to 16 bundles: the lengths that placements reach on average
(mean read length 3-7 bundles, arXiv 2410.19274v3, table of results)."""


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


def whole_gap(break_even_gap: float) -> int:
    """Return the largest whole gap worth reading through: one of exactly lambda merges.

    A lambda that is whole but for rounding errors is that whole number.

    >>> whole_gap(4.98), whole_gap(5.0), whole_gap(4.999999999999), whole_gap(0.0)
    (4, 5, 5, 0)
    """
    return math.floor(break_even_gap * (1 + 1e-9) + 1e-9)


@dataclass(frozen=True)
class DeviceProfile:
    """What a flash device does with one request among many, at a queue depth that saturates it.

    Parameters
    ----------
    name, description : str
    page_bytes : int
        Reads are rounded out to pages of this size.
    max_request_bytes : int
        Longer reads are split; a multiple of `page_bytes`.
    form : {"table", "linear"}
        ``table``: `latency_us` at `size_bytes`, straight lines between, flat below the first size, and on along the
        last line above the last one (proportionally if there is a single size). ``linear``: `overhead_us` plus bytes
        at `bandwidth_bytes_per_s`.
    size_bytes : tuple of int
        Ascending; table form only.
    latency_us : tuple of float
        One a size, never falling, rising at the end.
    overhead_us, bandwidth_bytes_per_s : float, optional
        Linear form only.
    estimated : bool
        True where fewer than three sizes have a source of their own.
    sources : mapping of str to str
        Where each number comes from, by the name of its field: one entry for each that is set.

    Raises
    ------
    DeviceConfigError
        If a number is missing, out of range, of the other form, or without a source.

    Notes
    -----
    "Saturating depth" makes times additive: a token's flash time is the sum over its requests. The table form is the
    latency model of Neuron Chunking (arXiv 2511.18692, its sum over chunks of T[s]).
    """

    name: str
    description: str
    page_bytes: int
    max_request_bytes: int
    form: str
    size_bytes: tuple[int, ...] = ()
    latency_us: tuple[float, ...] = ()
    overhead_us: float | None = None
    bandwidth_bytes_per_s: float | None = None
    estimated: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_fields()
        self._check_sources()

    @property
    def warning(self) -> str | None:
        """How the numbers may mislead, None if nothing is known to."""
        if not self.estimated:
            return None
        return (
            f"Device {self.name} is an estimate: fewer than three of its request sizes have a source. Its times rank "
            "layouts; for times to plan with, measure the device with ripple-place calibrate."
        )

    def request_us(self, size_bytes: npt.ArrayLike) -> Float64Array:
        """Return the time of single requests of the given sizes (page rounding and splitting not applied)."""
        size = np.asarray(size_bytes, np.float64)
        if self.form == "linear":
            assert self.overhead_us is not None
            assert self.bandwidth_bytes_per_s is not None
            return LatencyLine(self.overhead_us, self.bandwidth_bytes_per_s).request_us(size)
        knots, latency_us = np.array(self.size_bytes, np.float64), np.array(self.latency_us)
        if knots.size == 1:
            return np.asarray(latency_us[0] * np.maximum(1.0, size / knots[0]))
        slope = (latency_us[-1] - latency_us[-2]) / (knots[-1] - knots[-2])
        return np.asarray(np.interp(size, knots, latency_us) + slope * np.maximum(0.0, size - knots[-1]))

    def request_table_us(self, line: LatencyLine | None = None) -> Float64Array:
        """Return the time of a request by its pages, up to the maximum request.

        Parameters
        ----------
        line : LatencyLine, optional
            Take times from this line instead of the device's own form.

        Returns
        -------
        ndarray of shape (max_request_bytes / page_bytes + 1,), float64
            Entry 0 is 0.
        """
        size_bytes = np.arange(self.max_request_bytes // self.page_bytes + 1) * self.page_bytes
        table_us = (line or self).request_us(size_bytes)
        table_us[0] = 0.0
        return table_us

    def run_cost_us(self, bundle_bytes: int, max_length: int) -> Float64Array:
        """Return the time of one read by its length in bundles, if it starts on a page.

        Rounded out to pages and split at the maximum request; entry 0 is 0.

        Parameters
        ----------
        bundle_bytes : int
        max_length : int
            Longest read, in bundles.

        Returns
        -------
        ndarray of shape (max_length + 1,), float64
        """
        n_pages = -(-np.arange(max_length + 1, dtype=np.int64) * bundle_bytes // self.page_bytes)
        table_us = self.request_table_us()
        n_full, n_rest = np.divmod(n_pages, table_us.size - 1)
        cost_us: Float64Array = n_full * table_us[-1] + table_us[n_rest]
        return cost_us

    def line(self, bundle_bytes: int) -> LatencyLine:
        """Return the device as overhead plus bandwidth, for bundles of this size.

        Parameters
        ----------
        bundle_bytes : int
            At least 1.

        Notes
        -----
        A linear device is its own line. For a table device: the least-squares line, with overhead and slope not
        negative, through `run_cost_us` over 1 to `LINE_BUNDLES` bundles, or over as many pages where bundles are
        shorter than a page: below that the time hardly rises, and a line through it says that gaps cost nothing.
        Twice as many for as long as the time does not rise over that range.
        """
        if self.form == "linear":
            assert self.overhead_us is not None
            assert self.bandwidth_bytes_per_s is not None
            return LatencyLine(self.overhead_us, self.bandwidth_bytes_per_s)
        n_bundles = max(LINE_BUNDLES, -(-LINE_BUNDLES * self.page_bytes // bundle_bytes))
        while True:
            lengths = np.arange(1, n_bundles + 1)
            cost_us = self.run_cost_us(bundle_bytes, n_bundles)[1:]
            (overhead_us, bundle_us), _ = nnls(np.column_stack([np.ones(n_bundles), lengths]), cost_us)
            if cost_us[-1] > cost_us[0] and bundle_us > 0:
                return LatencyLine(float(overhead_us), bundle_bytes / float(bundle_us) * 1e6)
            n_bundles *= 2

    def break_even_gap(self, bundle_bytes: int) -> float:
        """Return lambda of the device's line: unwanted bundles that cost as much as one more read."""
        return self.line(bundle_bytes).break_even_gap(bundle_bytes)

    def gap(self, bundle_bytes: int) -> int:
        """Return the largest whole gap, in bundles, worth reading through on this device."""
        return whole_gap(self.break_even_gap(bundle_bytes))

    def _check_fields(self) -> None:
        """Check every number, and report all that are wrong at once."""
        problems: list[str] = []

        def check(holds: bool, problem: str) -> None:
            if not holds:
                problems.append(problem)

        check(bool(self.name), "name is empty")
        check(_is_int(self.page_bytes) and self.page_bytes > 0, f"page_bytes = {self.page_bytes!r} is no size")
        if not problems:
            check(
                _is_int(self.max_request_bytes)
                and self.max_request_bytes > 0
                and self.max_request_bytes % self.page_bytes == 0,
                f"max_request_bytes = {self.max_request_bytes!r} is no multiple of page_bytes",
            )
        if self.form == "table":
            sizes, times = self.size_bytes, self.latency_us
            check(self.overhead_us is None, "overhead_us belongs to the linear form")
            check(self.bandwidth_bytes_per_s is None, "bandwidth_bytes_per_s belongs to the linear form")
            check(len(sizes) > 0 and len(sizes) == len(times), f"{len(sizes)} size_bytes and {len(times)} latency_us")
            check(
                all(map(_is_int, sizes)) and all(a < b for a, b in pairwise((0, *sizes))),
                "size_bytes do not ascend",
            )
            check(
                all(map(_is_time, times))
                and all(a <= b for a, b in pairwise(times))
                and (len(times) < 2 or times[-2] < times[-1]),
                "latency_us are not positive, fall, or do not rise at the end",
            )
        elif self.form == "linear":
            check(not self.size_bytes and not self.latency_us, "size_bytes and latency_us belong to the table form")
            check(self.overhead_us == 0 or _is_time(self.overhead_us), f"overhead_us = {self.overhead_us!r} is no time")
            check(
                _is_time(self.bandwidth_bytes_per_s),
                f"bandwidth_bytes_per_s = {self.bandwidth_bytes_per_s!r} is no rate",
            )
        else:
            problems.append(f"form = {self.form!r}")
        if problems:
            raise DeviceConfigError(
                f"device {self.name}",
                found="; ".join(problems),
                expected="positive sizes and times in form table (size_bytes, latency_us) or linear "
                "(overhead_us, bandwidth_bytes_per_s)",
                remedy="correct the profile; docs/devices.md describes each key",
            )

    def _check_sources(self) -> None:
        """Check that each number has a source, and each source a number."""
        numbers = {"page_bytes", "max_request_bytes"} | (
            {"latency_us"} if self.form == "table" else {"overhead_us", "bandwidth_bytes_per_s"}
        )
        given = {name for name, source in self.sources.items() if isinstance(source, str) and source.strip()}
        if given != numbers or len(given) != len(self.sources):
            raise DeviceConfigError(
                f"device {self.name}: sources",
                found=f"sources of {', '.join(sorted(self.sources)) or 'nothing'}",
                expected=f"a sentence for each of {', '.join(sorted(numbers))}",
                remedy="say where each number comes from: a paper and its table, or how it was measured",
            )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
