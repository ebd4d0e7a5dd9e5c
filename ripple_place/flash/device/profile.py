"""Device profiles: what a flash read costs, by size, on a phone, laptop or server, and where the numbers come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

from ripple_place.flash.device.checks import check_fields, check_sources
from ripple_place.flash.device.latency import Ceiling, LatencyLine
from ripple_place.units import whole_gap

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Float64Array = npt.NDArray[np.float64]

__all__ = ["LINE_BUNDLES", "DeviceProfile", "LatencyLine"]

LINE_BUNDLES = 16
"""The line of a table device is fitted over reads of 1 to 16 bundles: the lengths that placements reach on average
(mean read length 3-7 bundles, arXiv 2410.19274v3, table of results)."""


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
    form : {"table", "linear", "ceiling"}
        ``table``: `latency_us` at `size_bytes`, straight lines between, flat below the first size, and on along the
        last line above the last one (proportionally if there is a single size). ``linear``: `overhead_us` plus bytes
        at `bandwidth_bytes_per_s`. ``ceiling``: all requests of a token and block together take the larger of their
        number over `max_iops` and their bytes over `bandwidth_bytes_per_s`.
    size_bytes : tuple of int
        Ascending; table form only.
    latency_us : tuple of float
        One a size, never falling, rising at the end.
    overhead_us : float, optional
        Linear form only.
    bandwidth_bytes_per_s : float, optional
        Linear and ceiling form.
    max_iops : float, optional
        Requests a second that the device never exceeds, however short they are; required by the ceiling form.
    range_bytes, range_factor : tuple of int, tuple of float
        Throughput of one-page reads by the range of addresses that they are spread over, relative to that of the form.
    cores, core_factor : tuple of str, tuple of float
        Throughput of one-page reads issued from each kind of core, relative to that of the form.
    queue_depths, queue_factor : tuple of int, tuple of float
        Throughput of one-page reads by the number kept in flight, relative to saturation; the last is 1.
    warm_bandwidth_factor : float, optional
        Bandwidth of the longest requests on a warm device, relative to a cold one.
    read_ahead_bytes : int, optional
        What the kernel fetches for a page fault in a memory-mapped file; without it there is no access mode ``mmap``.
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
    latency model of Neuron Chunking (arXiv 2511.18692, its sum over chunks of T[s]). The profile itself is a reader
    under the conditions that its form was measured in; `ripple_place.flash.device.conditions.under` applies others.
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
    max_iops: float | None = None
    range_bytes: tuple[int, ...] = ()
    range_factor: tuple[float, ...] = ()
    cores: tuple[str, ...] = ()
    core_factor: tuple[float, ...] = ()
    queue_depths: tuple[int, ...] = ()
    queue_factor: tuple[float, ...] = ()
    warm_bandwidth_factor: float | None = None
    read_ahead_bytes: int | None = None
    estimated: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        check_sources(self)

    @property
    def warning(self) -> str | None:
        """How the numbers may mislead, None if nothing is known to."""
        if not self.estimated:
            return None
        return (
            f"Device {self.name} is an estimate: fewer than three of its request sizes have a source. Its times rank "
            "layouts; for times to plan with, measure the device with ripple-place calibrate."
        )

    @property
    def is_mapped(self) -> bool:
        """Whether reads are page faults in a memory-mapped file."""
        return False

    def describe(self) -> str:
        """Return the conditions as a phrase: how reads are issued."""
        return "by direct requests, at a queue depth that saturates the device"

    def request_us(self, size_bytes: npt.ArrayLike) -> Float64Array:
        """Return the time of single requests of the given sizes (page rounding and splitting not applied).

        In the ceiling form, of each request as if it were alone: the sum of these is more than the time of all.
        """
        return self._with_overhead(np.asarray(size_bytes, np.float64), 0.0)

    def _with_overhead(self, size: Float64Array, extra_us: float) -> Float64Array:
        """Return the time of requests that each take `extra_us` more than the form says, none of it for their bytes."""
        least_us = 0.0 if self.max_iops is None else 1e6 / self.max_iops
        if self.form == "ceiling":
            return np.maximum(least_us + extra_us, size * (1e6 / self._given_bandwidth))
        if self.form == "linear":
            assert self.overhead_us is not None
            form_us = LatencyLine(self.overhead_us, self._given_bandwidth).request_us(size)
        else:
            form_us = self._from_table(size)
        return np.maximum(form_us + extra_us, least_us)

    def _from_table(self, size: Float64Array) -> Float64Array:
        knots, latency_us = np.array(self.size_bytes, np.float64), np.array(self.latency_us)
        if knots.size == 1:
            return np.asarray(latency_us[0] * np.maximum(1.0, size / knots[0]))
        slope = (latency_us[-1] - latency_us[-2]) / (knots[-1] - knots[-2])
        return np.asarray(np.interp(size, knots, latency_us) + slope * np.maximum(0.0, size - knots[-1]))

    @property
    def _given_bandwidth(self) -> float:
        assert self.bandwidth_bytes_per_s is not None
        return self.bandwidth_bytes_per_s

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
        return self.read_us_by_pages(int(n_pages[-1]))[n_pages]

    def read_us_by_pages(self, max_pages: int) -> Float64Array:
        """Return the time of one read by the pages that it touches, split at the maximum request; entry 0 is 0."""
        table_us = self.request_table_us()
        n_full, n_rest = np.divmod(np.arange(max_pages + 1), table_us.size - 1)
        read_us: Float64Array = n_full * table_us[-1] + table_us[n_rest]
        return read_us

    def ceiling(self) -> Ceiling:
        """Return the device as a ceiling: requests a second at one page, bytes a second at the maximum request."""
        if self.form == "ceiling":
            return Ceiling(1e6 / float(self.request_us(0)), self.max_bandwidth_bytes_per_s)
        return Ceiling(1e6 / float(self.request_us(self.page_bytes)), self.max_bandwidth_bytes_per_s)

    @property
    def max_bandwidth_bytes_per_s(self) -> float:
        """Bandwidth of requests of maximum length: the most that the device reaches."""
        return self.max_request_bytes / float(self.request_us(self.max_request_bytes)) * 1e6

    def line(self, bundle_bytes: int) -> LatencyLine:
        """Return the device as overhead plus bandwidth, for bundles of this size.

        Parameters
        ----------
        bundle_bytes : int
            At least 1.

        Notes
        -----
        A linear device is its own line, unless `max_iops` bends it. For others: the least-squares line, with overhead
        and slope not negative, through `run_cost_us` over 1 to `LINE_BUNDLES` bundles, or over as many pages where
        bundles are shorter than a page: below that the time hardly rises, and a line through it says that gaps cost
        nothing. Twice as many for as long as the time does not rise over that range.
        """
        if (own := self.own_line()) is not None:
            return own
        n_bundles = max(LINE_BUNDLES, -(-LINE_BUNDLES * self.page_bytes // bundle_bytes))
        while True:
            lengths = np.arange(1, n_bundles + 1)
            cost_us = self.run_cost_us(bundle_bytes, n_bundles)[1:]
            (overhead_us, bundle_us), _ = nnls(np.column_stack([np.ones(n_bundles), lengths]), cost_us)
            if cost_us[-1] > cost_us[0] and bundle_us > 0:
                return LatencyLine(float(overhead_us), bundle_bytes / float(bundle_us) * 1e6)
            n_bundles *= 2

    def own_line(self) -> LatencyLine | None:
        """Return the line that the device is by definition, None if it is none."""
        if self.form != "linear" or self.max_iops is not None:
            return None
        assert self.overhead_us is not None
        return LatencyLine(self.overhead_us, self._given_bandwidth)

    def break_even_gap(self, bundle_bytes: int) -> float:
        """Return lambda of the device's line: unwanted bundles that cost as much as one more read."""
        return self.line(bundle_bytes).break_even_gap(bundle_bytes)

    def gap(self, bundle_bytes: int) -> int:
        """Return the largest whole gap, in bundles, worth reading through on this device."""
        return whole_gap(self.break_even_gap(bundle_bytes))
