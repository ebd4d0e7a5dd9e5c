"""Reading in two phases: which candidates fire, and what is left to read of pages that the first phase fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.kernels.compiled import compiled
from ripple_place.kernels.reads import CEILING, LINE, NEURONS_READ, PAGES, READS, REQUESTS

if TYPE_CHECKING:
    from ripple_place.kernels.read_state import PagedExtent, ReadCharges, RequestTimes, RowReads


@compiled
def note_firing(active: Any, neurons: Any, row_starts: Any, fires: Any) -> None:
    """Write which neurons that rows ask for fire there; caller allocates.

    Parameters
    ----------
    active : ndarray of shape (n_rows, n_bytes), uint8
        Neuron j of row t is bit ``j % 8`` of byte ``[t, j // 8]``.
    neurons : ndarray of shape (n_accesses,), int32
        Row by row.
    row_starts : ndarray of shape (n_rows + 1,), int64
    fires : ndarray of shape (n_accesses,), uint8
        Written.
    """
    for row in range(row_starts.size - 1):
        for access in range(row_starts[row], row_starts[row + 1]):
            neuron = neurons[access]
            fires[access] = (active[row, neuron >> 3] >> (neuron & 7)) & 1


@compiled
def page_of(slot: int, stride_bytes: int, offset_bytes: int, page_bytes: int) -> int:
    """Return the page that has byte `offset_bytes` of a slot, counted from slot 0's own."""
    return (offset_bytes + np.int64(slot) * stride_bytes) // page_bytes  # type: ignore[return-value]


@compiled
def charge_new_pages(
    reads: RowReads, extent: PagedExtent, fetched: RowReads, fetched_extent: PagedExtent, times: RequestTimes,
    charges: ReadCharges,
) -> None:  # fmt: skip
    """Add up what the reads of each row cost where pages that it has fetched before are not read again; in place.

    Parameters
    ----------
    reads, extent
        As for `ripple_place.kernels.reads.charge_reads`, of blocks with one copy.
    fetched, fetched_extent
        Reads of the same rows that came before.
    times : RequestTimes
    charges : ReadCharges
        Added to, and its `row_us` written. A read counts if any of its pages is new.
    """
    first_slot, last_slot, read_starts = reads
    bundle_bytes, stride_bytes, base_bytes, _, page_bytes = extent
    first_before, last_before, starts_before = fetched
    bytes_before, stride_before, base_before, _, _ = fetched_extent
    form_us, line_us, ceiling = times
    totals, length_counts, row_us, other_us = charges
    max_pages = form_us.size - 1
    for row in range(read_starts.size - 1):
        time_us, time_line_us = 0.0, 0.0
        row_requests, row_pages, n_reads = 0, 0, 0
        before, last_of_row = starts_before[row], starts_before[row + 1]
        for read in range(read_starts[row], read_starts[row + 1]):
            page = page_of(first_slot[read], stride_bytes, base_bytes, page_bytes)
            # The page behind the last: that of its last byte, and one more.
            end = page_of(last_slot[read], stride_bytes, base_bytes + bundle_bytes - 1, page_bytes) + 1
            is_new = False
            while page < end:
                # Reads ascend, so that what lies before this page is of no use to the next read either.
                start_before, end_before = end, end
                while before < last_of_row:
                    end_before = (
                        page_of(last_before[before], stride_before, base_before + bytes_before - 1, page_bytes) + 1
                    )
                    if end_before > page:
                        start_before = page_of(first_before[before], stride_before, base_before, page_bytes)
                        break
                    before += 1
                if before < last_of_row and start_before <= page:
                    page = end_before
                    continue
                n_pages = min(end, start_before) - page
                page += n_pages
                is_new = True
                row_pages += n_pages
                while n_pages > max_pages:
                    row_requests += 1
                    time_us += form_us[max_pages]
                    time_line_us += line_us[max_pages]
                    n_pages -= max_pages
                row_requests += 1
                time_us += form_us[n_pages]
                time_line_us += line_us[n_pages]
            if is_new:
                length = last_slot[read] - first_slot[read] + 1
                length_counts[length] += 1
                totals[NEURONS_READ] += length
                n_reads += 1
        time_ceiling_us = max(row_requests * ceiling.request_us, row_pages * ceiling.page_us)
        totals[READS] += n_reads
        totals[REQUESTS] += row_requests
        totals[PAGES] += row_pages
        row_us[row] = time_ceiling_us if ceiling.is_own_form else time_us
        other_us[LINE] += time_line_us
        other_us[CEILING] += time_ceiling_us
