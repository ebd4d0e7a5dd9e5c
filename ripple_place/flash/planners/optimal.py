"""The planner that finds the reads of least time, as the yardstick for the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.device.forms.registry import additive_forms
from ripple_place.kernels.optimal_reads import RequestCosts, RunScratch, plan_rows_optimal

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import BlockLayout
    from ripple_place.flash.replay import Chunk
    from ripple_place.kernels.read_state import RowReads


class OptimalPlanner:
    """Covers the missed neurons of a token by the contiguous reads that take the least time.

    Runs of adjacent missed neurons are not split; no fixed gap and no adaptive one is ever faster. Exact under page
    rounding, the maximum request and any latency that does not fall with size. It needs the device's latency, which an
    engine knows only after measuring it, and more work per token than a comparison with a gap.

    Raises
    ------
    UsageError
        If the device's form is one where the time of a token is no sum over its reads.
    """

    name = "optimal"

    def __init__(self, layout: BlockLayout, device: DeviceProfile, gap: int) -> None:
        if not device.times_add_up:
            raise UsageError(
                "--collapse optimal", found=f"device {device.name} of form {device.form}",
                expected=f"a device whose times add up over reads, of form {' or '.join(additive_forms())}",
                remedy="use --collapse auto, or another device",
            )  # fmt: skip
        self.gap: int | None = None
        n_neurons, max_pages = layout.n_neurons, device.max_request_bytes // device.page_bytes
        self._extent = layout.paged_extent(device.page_bytes)
        read_us = device.read_us_by_pages(-(-n_neurons * layout.extent.stride_bytes // device.page_bytes) + 2)
        self._costs = RequestCosts(read_us, max_pages, least_cut_pages(device))
        self._scratch = RunScratch.allocate(n_neurons, max_pages)

    def plan(self, chunk: Chunk, reads: RowReads) -> None:
        """Plan the reads of the chunk's rows; see `ripple_place.kernels.optimal_reads`."""
        plan_rows_optimal(chunk.accesses, self._extent, self._costs, self._scratch, reads)


def least_cut_pages(device: DeviceProfile) -> int:
    """Return the least gap, in whole unwanted pages, that is never worth reading through.

    Notes
    -----
    That is the least g with ``c(p + g + q) >= c(p) + c(q)`` for all p, q >= 1, where c is the time of a read by its
    pages. It holds for all p and q once it holds up to the maximum request M, since ``c(p + M) = c(p) + c(M)``; it
    stays true as g grows, since c does not fall, which a bisection uses; and M itself is such a g: with p and q below
    M, ``c(p + q + M) = c(p + q) + c(M)``, of which the first is at least the larger and the second at least the
    smaller of c(p) and c(q). Time is of the order of M^2 log M.
    """
    max_pages = device.max_request_bytes // device.page_bytes
    read_us = device.read_us_by_pages(3 * max_pages)
    pages = np.arange(1, max_pages + 1)
    both_us = read_us[pages][:, None] + read_us[pages]
    pages_of_both = pages[:, None] + pages
    low, high = 0, max_pages
    while low < high:
        gap = (low + high) // 2
        if (read_us[pages_of_both + gap] >= both_us * (1 - 1e-12)).all():
            high = gap
        else:
            low = gap + 1
    return low
