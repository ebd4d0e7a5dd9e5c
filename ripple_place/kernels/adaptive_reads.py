"""Reads with a gap that adapts to the times that reads were seen to take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ripple_place.kernels.compiled import compiled
from ripple_place.kernels.reads import pages_of_read, plan_row

if TYPE_CHECKING:
    from ripple_place.kernels.read_state import Ceiling, PagedExtent, RowReads, SlotAccesses

# Entries of `AdaptiveState.counts`: the gap in force; rows, and wanted slots, since the gap was looked at; rows that
# are still to be read without collapse; of these, rows after which it is asked whether that pays; periods in which
# saturation is ignored; and how many those will be the next time that it does not pay.
GAP, ROWS, WANTED, OFF, TRIAL, IGNORE, BACKOFF = range(7)
N_COUNTS = 7
# Entries of `AdaptiveState.sums`, over rows, older ones fading: reads and pages, squared and multiplied, and times the
# row's time. Then time and pages since the gap was looked at, and the time of a wanted slot before collapse was turned
# off.
READS_READS, READS_PAGES, PAGES_PAGES, READS_TIME, PAGES_TIME, TIME, PAGES, COLLAPSED = range(8)
N_SUMS = 8
# Reads and pages whose ratio is the same in every row tell nothing of their prices.
_LEAST_INDEPENDENCE = 1e-9
_LONGEST_BACKOFF = 1 << 20


class AdaptiveRule(NamedTuple):
    """How the gap adapts (`ripple_place.flash.planners.adaptive.AdaptiveParams`).

    Attributes
    ----------
    period_rows : int
        Rows that read anything from one look at the gap to the next.
    memory : float
        Weight that the sums keep from one look to the next.
    saturation : float
        Share of the device's greatest bandwidth that counts as having reached it.
    hold_periods : int
        Periods without collapse after that, if it pays.
    trial_rows : int
        Rows without collapse after which it is asked whether it does.
    longest_gap : int
        Neurons of the block.
    """

    period_rows: int
    memory: float
    saturation: float
    hold_periods: int
    trial_rows: int
    longest_gap: int


class AdaptiveState(NamedTuple):
    """What the planner remembers of the rows so far; the kernel changes it in place.

    Attributes
    ----------
    counts : ndarray of shape (N_COUNTS,), int64
        Entries by the names above; at first all 0 but `GAP` and `BACKOFF`.
    sums : ndarray of shape (N_SUMS,), float64
        Entries by the names above; at first all 0.
    """

    counts: Any
    sums: Any


class SeenTimes(NamedTuple):
    """The times that a reader would see on its clock.

    Attributes
    ----------
    read_us : ndarray of shape (pages of the block + 2,) or more, float64
        Time of a read by its pages.
    ceiling : Ceiling
        Takes the place of the sum over reads where it is the device's own form.
    fastest_page_us : float
        Time of a page at the most bandwidth that the device reaches.
    """

    read_us: Any
    ceiling: Ceiling
    fastest_page_us: float


@compiled
def _forget_period(counts: Any, sums: Any) -> None:
    """Start a new period."""
    counts[ROWS] = counts[WANTED] = 0
    sums[TIME] = sums[PAGES] = 0.0


@compiled
def _note_row(counts: Any, sums: Any, n_reads: int, n_pages: int, time_us: float) -> None:
    """Add a row to the sums."""
    sums[READS_READS] += n_reads * n_reads
    sums[READS_PAGES] += n_reads * n_pages
    sums[PAGES_PAGES] += n_pages * n_pages
    sums[READS_TIME] += n_reads * time_us
    sums[PAGES_TIME] += n_pages * time_us
    sums[TIME] += time_us
    sums[PAGES] += n_pages
    counts[ROWS] += 1


@compiled
def _ends_trial(counts: Any, sums: Any) -> bool:
    """Count a row without collapse; return True where that is the last of a trial that did not pay."""
    counts[OFF] -= 1
    counts[TRIAL] -= 1
    if counts[TRIAL] != 0 or sums[TIME] <= sums[COLLAPSED] * counts[WANTED]:
        return False
    # Collapse had filled the bandwidth with bytes worth their time: go back to it, and ask less often.
    counts[OFF] = 0
    counts[IGNORE] = counts[BACKOFF]
    counts[BACKOFF] = min(2 * counts[BACKOFF], _LONGEST_BACKOFF)
    return True


@compiled
def _heed_saturation(counts: Any, sums: Any, rule: AdaptiveRule, fastest_page_us: float) -> None:
    """Turn collapse off for some periods if this one reached the device's bandwidth."""
    if counts[OFF] > 0:
        return
    if counts[IGNORE] > 0:
        counts[IGNORE] -= 1
    elif counts[GAP] > 0 and sums[PAGES] * fastest_page_us >= rule.saturation * sums[TIME]:
        counts[OFF] = rule.hold_periods * rule.period_rows
        counts[TRIAL] = min(rule.trial_rows, counts[OFF])
        sums[COLLAPSED] = sums[TIME] / counts[WANTED]


@compiled
def _fit_gap(counts: Any, sums: Any, longest_gap: int, rounding_pages: float, stride_pages: float) -> None:
    """Set the gap to what the prices of reads and pages break even at, if the rows so far tell them apart."""
    determinant = sums[READS_READS] * sums[PAGES_PAGES] - sums[READS_PAGES] ** 2
    if determinant <= _LEAST_INDEPENDENCE * sums[READS_READS] * sums[PAGES_PAGES]:
        return
    read_price_us = (sums[PAGES_PAGES] * sums[READS_TIME] - sums[READS_PAGES] * sums[PAGES_TIME]) / determinant
    page_price_us = (sums[READS_READS] * sums[PAGES_TIME] - sums[READS_PAGES] * sums[READS_TIME]) / determinant
    if page_price_us <= 0:
        counts[GAP] = 2 * counts[GAP] + 1  # pages that cost nothing: read on until they do
    else:
        gap_pages = max(0.0, read_price_us) / page_price_us + rounding_pages
        counts[GAP] = np.int64(gap_pages / stride_pages * (1 + 1e-9) + 1e-9)
    counts[GAP] = min(counts[GAP], longest_gap)


@compiled
def plan_rows_adaptive(
    accesses: SlotAccesses, extent: PagedExtent, times: SeenTimes, rule: AdaptiveRule, state: AdaptiveState,
    reads: RowReads,
) -> None:  # fmt: skip
    """Plan the reads of each row's misses with the gap in force, and adapt it; in place, caller allocates.

    Parameters
    ----------
    accesses : SlotAccesses
    extent : PagedExtent
        Of one copy.
    times : SeenTimes
    rule : AdaptiveRule
    state : AdaptiveState
        Read and written.
    reads : RowReads
        Written.
    """
    slots, row_starts, is_hit = accesses
    read_us, ceiling, fastest_page_us = times
    counts, sums = state
    first_slot, last_slot, read_starts = reads
    bundle_bytes, stride_bytes, base_offset_bytes, _, page_bytes = extent
    stride_pages = extent.stride_bytes / extent.page_bytes
    # Rounding a read out to pages adds these on average, wherever its bundles lie; merging two reads saves it once.
    common_bytes, rest_bytes = extent.page_bytes, extent.stride_bytes
    while rest_bytes > 0:
        common_bytes, rest_bytes = rest_bytes, common_bytes % rest_bytes
    rounding_pages = (extent.page_bytes - common_bytes) / extent.page_bytes
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
            n_pages = pages_of_read(
                first_slot[read], last_slot[read], bundle_bytes, stride_bytes, base_offset_bytes, page_bytes
            )
            row_pages += n_pages
            time_us += read_us[n_pages]
        if ceiling.is_own_form:
            time_us = max(row_reads * ceiling.request_us, row_pages * ceiling.page_us)
        _note_row(counts, sums, row_reads, row_pages, time_us)
        if counts[OFF] > 0 and _ends_trial(counts, sums):
            _forget_period(counts, sums)
            continue
        if counts[ROWS] < rule.period_rows:
            continue
        _heed_saturation(counts, sums, rule, fastest_page_us)
        _fit_gap(counts, sums, rule.longest_gap, rounding_pages, stride_pages)
        for entry in range(TIME):
            sums[entry] *= rule.memory
        _forget_period(counts, sums)
    read_starts[row_starts.size - 1] = n_reads
