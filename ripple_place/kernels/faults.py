"""Reads of a memory-mapped file: the page faults of each token, and what the kernel reads ahead for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.kernels.compiled import compiled
from ripple_place.kernels.reads import CEILING, LINE, NEURONS_READ, PAGES, READS, REQUESTS

if TYPE_CHECKING:
    from ripple_place.kernels.read_state import PagedExtent, ReadCharges, RequestTimes, RowReads, SlotAccesses


@compiled
def charge_faults(
    accesses: SlotAccesses, window_pages: int, extent: PagedExtent, times: RequestTimes, reads: RowReads,
    charges: ReadCharges,
) -> None:  # fmt: skip
    """Find the faults of each row's misses and add up what they cost; in place, caller allocates.

    Parameters
    ----------
    accesses : SlotAccesses
    window_pages : int
        What the kernel fetches for a fault.
    extent : PagedExtent
        Of one copy.
    times : RequestTimes
    reads : RowReads
        Written: a read is the missed slots from one that faults to the last before the next that does.
    charges : ReadCharges
        Added to, and its `row_us` written.

    Notes
    -----
    Slots are touched in ascending order. A fault on page p fetches, as Linux reads around a fault in a mapped file
    (mm/filemap.c, do_sync_mmap_readahead), `window_pages` pages from ``p - window_pages // 2`` or the start of the
    file on, without those that an earlier fault of the row has fetched. A bundle longer than what is left of a window
    faults again. Nothing is left of one row's pages when the next begins: the model is larger than DRAM.
    """
    slots, row_starts, is_hit = accesses
    bundle_bytes, stride_bytes, base_offset_bytes, _, page_bytes = extent
    form_us, line_us, ceiling = times
    first_slot, last_slot, read_starts = reads
    totals, length_counts, row_us, other_us = charges
    max_pages = form_us.size - 1
    n_reads = 0
    for row in range(row_starts.size - 1):
        read_starts[row] = n_reads
        time_us = 0.0
        time_line_us = 0.0
        row_requests, row_pages = 0, 0
        fetched_end: Any = np.int64(0)
        for access in range(row_starts[row], row_starts[row + 1]):
            if is_hit[access]:
                continue
            start = base_offset_bytes + np.int64(slots[access]) * stride_bytes
            end_page = (start + bundle_bytes + page_bytes - 1) // page_bytes
            page: Any = max(start // page_bytes, fetched_end)
            if page < end_page:
                first_slot[n_reads] = slots[access]
                n_reads += 1
            last_slot[n_reads - 1] = slots[access]
            while page < end_page:
                window_start = max(page - window_pages // 2, 0)
                n_pages = window_start + window_pages - max(window_start, fetched_end)
                fetched_end = window_start + window_pages
                page = fetched_end
                row_pages += n_pages
                while n_pages > 0:
                    request_pages = min(n_pages, max_pages)
                    row_requests += 1
                    time_us += form_us[request_pages]
                    time_line_us += line_us[request_pages]
                    n_pages -= request_pages
        read_starts[row + 1] = n_reads
        for read in range(read_starts[row], n_reads):
            length = last_slot[read] - first_slot[read] + 1
            length_counts[length] += 1
            totals[NEURONS_READ] += length
        time_ceiling_us = max(row_requests * ceiling.request_us, row_pages * ceiling.page_us)
        totals[READS] += n_reads - read_starts[row]
        totals[REQUESTS] += row_requests
        totals[PAGES] += row_pages
        row_us[row] = time_ceiling_us if ceiling.is_own_form else time_us
        other_us[LINE] += time_line_us
        other_us[CEILING] += time_ceiling_us
