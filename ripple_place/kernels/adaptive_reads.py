"""Reads with a gap that adapts to the times that reads were seen to take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ripple_place.kernels.reads import pages_of_read, plan_row

# Entries of the state, by name. Whole numbers: the gap in force; rows, and wanted slots, since the gap was looked at;
# rows that are still to be read without collapse; of these, rows after which it is asked whether that pays; periods in
# which saturation is ignored; and how many those will be the next time that it does not pay.
GAP, ROWS, WANTED, OFF, TRIAL, IGNORE, BACKOFF = range(7)
N_COUNTS = 7
# Sums over rows, older ones fading: reads and pages, squared and multiplied, and times the row's time. Then time and
# pages since the gap was looked at, and the time of a wanted slot before collapse was turned off.
READS_READS, READS_PAGES, PAGES_PAGES, READS_TIME, PAGES_TIME, TIME, PAGES, COLLAPSED = range(8)
N_SUMS = 8
# Entries of the parameters.
PERIOD, HOLD, MEMORY, SATURATION, TRIAL_ROWS = range(5)
N_PARAMETERS = 5
# Reads and pages whose ratio is the same in every row tell nothing of their prices.
_LEAST_INDEPENDENCE = 1e-9
_LONGEST_BACKOFF = 1 << 20


@njit(cache=True, nogil=True)
def _forget_period(counts: Any, sums: Any) -> None:
    """Start a new period."""
    counts[ROWS] = counts[WANTED] = 0
    sums[TIME] = sums[PAGES] = 0.0


@njit(cache=True, nogil=True)
def plan_rows_adaptive(
    slots: Any, row_starts: Any, is_hit: Any, n_neurons: int, extent: Any, page_bytes: int, read_us: Any,
    ceiling_us: Any, is_ceiling: bool, fastest_page_us: float, parameters: Any, counts: Any, sums: Any,
    first_slot: Any, last_slot: Any, read_starts: Any,
) -> None:  # fmt: skip
    """Plan the reads of each row's misses with the gap in force, and adapt it; state in place, caller allocates.

    Parameters
    ----------
    slots, row_starts, is_hit, first_slot, last_slot, read_starts
        As for `ripple_place.kernels.reads.plan_rows`.
    n_neurons : int
        Of the block: no gap is longer.
    extent : ndarray of shape (3,), int64
        bundle_bytes, stride_bytes, base_offset_bytes.
    page_bytes : int
    read_us : ndarray of shape (pages of the block + 2,) or more, float64
        Time of a read by its pages: what a reader would see on its clock.
    ceiling_us, is_ceiling
        As for `ripple_place.kernels.reads.charge_reads`.
    fastest_page_us : float
        Time of a page at the most bandwidth that the device reaches.
    parameters : ndarray of shape (N_PARAMETERS,), float64
        See `ripple_place.flash.planners.plan.AdaptiveParams`.
    counts : ndarray of shape (N_COUNTS,), int64
    sums : ndarray of shape (N_SUMS,), float64
    """
    stride_pages = extent[1] / page_bytes
    # Rounding a read out to pages adds these on average, wherever its bundles lie; merging two reads saves it once.
    common_bytes, rest_bytes = page_bytes, extent[1]
    while rest_bytes > 0:
        common_bytes, rest_bytes = rest_bytes, common_bytes % rest_bytes
    rounding_pages = (page_bytes - common_bytes) / page_bytes
    n_reads = 0
    for row in range(row_starts.size - 1):
        read_starts[row] = n_reads
        gap = 0 if counts[OFF] > 0 else counts[GAP]
        n_reads, n_wanted = plan_row(
            slots, row_starts[row], row_starts[row + 1], is_hit, gap, n_reads, first_slot, last_slot
        )
        counts[WANTED] += n_wanted
        row_reads = n_reads - read_starts[row]
        if row_reads == 0:
            continue
        row_pages, time_us = 0, 0.0
        for read in range(read_starts[row], n_reads):
            n_pages = pages_of_read(first_slot[read], last_slot[read], extent[0], extent[1], extent[2], page_bytes)
            row_pages += n_pages
            time_us += read_us[n_pages]
        if is_ceiling:
            time_us = max(row_reads * ceiling_us[0], row_pages * ceiling_us[1])
        sums[READS_READS] += row_reads * row_reads
        sums[READS_PAGES] += row_reads * row_pages
        sums[PAGES_PAGES] += row_pages * row_pages
        sums[READS_TIME] += row_reads * time_us
        sums[PAGES_TIME] += row_pages * time_us
        sums[TIME] += time_us
        sums[PAGES] += row_pages
        counts[ROWS] += 1
        if counts[OFF] > 0:
            counts[OFF] -= 1
            counts[TRIAL] -= 1
            if counts[TRIAL] == 0 and sums[TIME] > sums[COLLAPSED] * counts[WANTED]:
                # Collapse had filled the bandwidth with bytes worth their time: go back to it, and ask less often.
                counts[OFF] = 0
                counts[IGNORE] = counts[BACKOFF]
                counts[BACKOFF] = min(2 * counts[BACKOFF], _LONGEST_BACKOFF)
                _forget_period(counts, sums)
                continue
        if counts[ROWS] < parameters[PERIOD]:
            continue
        if counts[OFF] == 0 and counts[IGNORE] > 0:
            counts[IGNORE] -= 1
        elif counts[OFF] == 0 and counts[GAP] > 0 and (
            sums[PAGES] * fastest_page_us >= parameters[SATURATION] * sums[TIME]
        ):  # fmt: skip
            counts[OFF] = np.int64(parameters[HOLD] * parameters[PERIOD])
            counts[TRIAL] = min(np.int64(parameters[TRIAL_ROWS]), counts[OFF])
            sums[COLLAPSED] = sums[TIME] / counts[WANTED]
        determinant = sums[READS_READS] * sums[PAGES_PAGES] - sums[READS_PAGES] ** 2
        if determinant > _LEAST_INDEPENDENCE * sums[READS_READS] * sums[PAGES_PAGES]:
            read_price_us = (sums[PAGES_PAGES] * sums[READS_TIME] - sums[READS_PAGES] * sums[PAGES_TIME]) / determinant
            page_price_us = (sums[READS_READS] * sums[PAGES_TIME] - sums[READS_PAGES] * sums[READS_TIME]) / determinant
            if page_price_us <= 0:
                counts[GAP] = 2 * counts[GAP] + 1  # pages that cost nothing: read on until they do
            else:
                gap_pages = max(0.0, read_price_us) / page_price_us + rounding_pages
                counts[GAP] = np.int64(gap_pages / stride_pages * (1 + 1e-9) + 1e-9)
            counts[GAP] = min(counts[GAP], n_neurons)
        for entry in range(TIME):
            sums[entry] *= parameters[MEMORY]
        _forget_period(counts, sums)
    read_starts[row_starts.size - 1] = n_reads
