"""Device profiles: what a flash read costs, by size, on a phone, laptop or server, and where the numbers come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

from ripple_place.flash.device.checks import check_sources, refuse
from ripple_place.flash.device.compute import ComputeRates
from ripple_place.flash.device.forms.registry import FORMS, describe_forms, form_problems
from ripple_place.flash.device.latency import Ceiling, LatencyLine
from ripple_place.flash.device.numbers import ConditionNumbers, SizeNumbers
from ripple_place.flash.device.synchronous import SyncNumbers
from ripple_place.kernels import read_state
from ripple_place.units import whole_gap

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from ripple_place.arrays import Float64Array, Int64Array
    from ripple_place.flash.device.forms.form import Form
    from ripple_place.flash.device.part import ProfilePart


__all__ = ["LINE_BUNDLES", "DeviceProfile", "LatencyLine"]

LINE_BUNDLES = 16
"""The line of a table device is fitted over reads of 1 to 16 bundles: the lengths that placements reach on average
(mean read length 3-7 bundles, arXiv 2410.19274v3, table of results)."""

LINE_DIGITS = 12
"""Significant digits of a fitted line."""
MAX_LINE_LENGTHS = 4096
"""Lengths that a line is fitted to: bundles of a few bytes make millions of them."""
_OPTIONAL_PARTS: tuple[type[ProfilePart], ...] = (ConditionNumbers, SyncNumbers, ComputeRates)
"""What a profile may lack altogether."""


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
    form : str
        How times follow from the numbers of the form: one of `ripple_place.flash.device.forms.registry.FORMS`.
    size_bytes, latency_us : tuple of int, tuple of float
    overhead_us, bandwidth_bytes_per_s : float, optional
        Numbers of the form, as its class describes them; a number that the form does not have is left out.
    max_iops : float, optional
        Requests a second that the device never exceeds, however short they are; required by the ceiling form.
    range_bytes, range_factor : tuple of int, tuple of float
        Throughput of one-page reads by the range of addresses that they are spread over, relative to that of the form.
    cores, core_factor : tuple of str, tuple of float
        Throughput of one-page reads issued from each kind of core, relative to that of the form.
    queue_depths, queue_factor : tuple of int, tuple of float
        Throughput of one-page reads by the number kept in flight, relative to saturation; the last is 1.
    large_queue_bytes : int, optional
    large_queue_factor : tuple of float
        The same throughput for requests of this size, one a depth. What depth costs goes along a straight line from
        that of one page to that of this size, and stays beyond. Without it, that of one page holds for all sizes.
    warm_bandwidth_factor : float, optional
        Bandwidth of the longest requests on a warm device, relative to a cold one.
    read_ahead_bytes : int, optional
        What the kernel fetches for a page fault in a memory-mapped file; without it there is no access mode ``mmap``.
    sync_size_bytes, sync_latency_us : tuple of int, tuple of float
        Time of a read that is issued alone, by its size (`ripple_place.flash.device.synchronous.SyncNumbers`).
    dram_bytes_per_s, npu_bytes_per_s, cpu_bytes_per_s, cpu_sparse_bytes_per_s, compute_threads : optional
        What computes beside the flash (`ripple_place.flash.device.compute.ComputeRates`).
    estimated : bool
        True where fewer than three sizes have a source of their own.
    sources : mapping of str to str
        Where each number comes from, by the name of its field: one entry for each that is set.

    Raises
    ------
    DeviceConfigError
        If a number is missing, out of range, of another form, or without a source.

    Notes
    -----
    "Saturating depth" makes times additive: a token's flash time is the sum over its requests. The profile itself is a
    reader under the conditions that its form was measured in; `ripple_place.flash.device.conditions.under` applies
    others.
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
    large_queue_bytes: int | None = None
    large_queue_factor: tuple[float, ...] = ()
    warm_bandwidth_factor: float | None = None
    read_ahead_bytes: int | None = None
    sync_size_bytes: tuple[int, ...] = ()
    sync_latency_us: tuple[float, ...] = ()
    dram_bytes_per_s: float | None = None
    npu_bytes_per_s: float | None = None
    cpu_bytes_per_s: float | None = None
    cpu_sparse_bytes_per_s: float | None = None
    compute_threads: int | None = None
    estimated: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = vars(self)
        problems = [
            *([] if self.name else ["name is empty"]),
            *SizeNumbers.problems_in(numbers),
            *form_problems(self.form, numbers),
            *(problem for part in _OPTIONAL_PARTS for problem in part.problems_in(numbers)),
        ]
        expected = f"positive sizes and times in form {describe_forms()}, and conditions in range"
        refuse(f"device {self.name}", problems, expected)
        parts: list[ProfilePart] = [self.queued_form, SizeNumbers.from_numbers(numbers)]
        parts += [part.from_numbers(numbers) for part in _OPTIONAL_PARTS]
        check_sources(f"device {self.name}", self.sources, {name for part in parts for name in part.sourced})

    @cached_property
    def queued_form(self) -> Form:
        """The form with its numbers: the times of requests at a full queue."""
        return FORMS[self.form].from_numbers(vars(self))

    @property
    def latency_form(self) -> Form:
        """The form that reads are charged by."""
        return self.queued_form

    @cached_property
    def sync_form(self) -> Form | None:
        """The times of reads that are issued one at a time; None where the profile has none."""
        return SyncNumbers.from_numbers(vars(self)).form()

    @cached_property
    def compute_rates(self) -> ComputeRates:
        """What computes beside the flash."""
        return ComputeRates.from_numbers(vars(self))

    @property
    def times_add_up(self) -> bool:
        """Whether the time of a token is the sum over its requests, not that of the ceiling over them all."""
        return self.latency_form.times_add_up

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
        return self.latency_form.request_us(np.asarray(size_bytes, np.float64), 0.0)

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
        return self._run_us(bundle_bytes, np.arange(max_length + 1, dtype=np.int64))

    def _run_us(self, bundle_bytes: int, lengths: Int64Array) -> Float64Array:
        """Return the time of reads of some lengths in bundles."""
        return self._read_us(-(-lengths * bundle_bytes // self.page_bytes))

    def read_us_by_pages(self, max_pages: int) -> Float64Array:
        """Return the time of one read by the pages that it touches, split at the maximum request; entry 0 is 0."""
        return self._read_us(np.arange(max_pages + 1))

    def _read_us(self, n_pages: Int64Array) -> Float64Array:
        """Return the time of reads of some numbers of pages."""
        table_us = self.request_table_us()
        n_full, n_rest = np.divmod(n_pages, table_us.size - 1)
        read_us: Float64Array = n_full * table_us[-1] + table_us[n_rest]
        return read_us

    def ceiling(self) -> Ceiling:
        """Return the device as a ceiling: requests a second of the shortest, bytes a second of the longest."""
        shortest_bytes = self.latency_form.shortest_bytes(self.page_bytes)
        return Ceiling(1e6 / float(self.request_us(shortest_bytes)), self.max_bandwidth_bytes_per_s)

    def charged_ceiling(self) -> read_state.Ceiling:
        """Return the ceiling as kernels charge it: by request and by page."""
        ceiling = self.ceiling()
        request_us, page_us = float(ceiling.time_us(1, 0)), float(ceiling.time_us(0, self.page_bytes))
        return read_state.Ceiling(request_us, page_us, not self.times_add_up)

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
        nothing. Twice as many for as long as the time does not rise over that range. Of more than `MAX_LINE_LENGTHS`
        lengths, as many as that, spread evenly.
        """
        if (own := self.own_line()) is not None:
            return own
        n_bundles = max(LINE_BUNDLES, -(-LINE_BUNDLES * self.page_bytes // bundle_bytes))
        while True:
            lengths = np.unique(np.linspace(1, n_bundles, min(n_bundles, MAX_LINE_LENGTHS)).astype(np.int64))
            cost_us = self._run_us(bundle_bytes, lengths)
            fitted, _ = nnls(np.column_stack([np.ones(lengths.size), lengths]), cost_us)
            # Processors differ in the last bits of a fit, and ties must not be decided by them.
            overhead_us, bundle_us = (float(f"{value:.{LINE_DIGITS}g}") for value in fitted)
            if cost_us[-1] > cost_us[0] and bundle_us > 0:
                return LatencyLine(overhead_us, bundle_bytes / bundle_us * 1e6)
            n_bundles *= 2

    def own_line(self) -> LatencyLine | None:
        """Return the line that the device is by definition, None if it is none."""
        return self.latency_form.own_line()

    def break_even_gap(self, bundle_bytes: int) -> float:
        """Return lambda of the device's line: unwanted bundles that cost as much as one more read."""
        return self.line(bundle_bytes).break_even_gap(bundle_bytes)

    def gap(self, bundle_bytes: int) -> int:
        """Return the largest whole gap, in bundles, worth reading through on this device."""
        return whole_gap(self.break_even_gap(bundle_bytes))
