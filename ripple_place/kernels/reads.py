"""Read planning: from the slots that a token misses to reads, to requests that the device sees, to flash time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.kernels.bits import trailing_zeros
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    from ripple_place.kernels.read_state import PagedExtent, ReadCharges, RequestTimes, RowReads, SlotAccesses

# Entries of `ReadCharges.totals`, by name.
READS, NEURONS_READ, REQUESTS, PAGES = range(4)
N_TOTALS = 4
# Entries of `ReadCharges.other_us`.
LINE, CEILING = range(2)
N_FORMS = 2


@compiled
def slots_in_order(words: Any, slot_of: Any, slot_words: Any, slots: Any, row_starts: Any) -> None:
    """List the active slots of each row in ascending order; caller allocates.

    Parameters
    ----------
    words : ndarray of shape (n_rows, n_words), uint64
        Bit j of word w is neuron ``64 w + j``.
    slot_of : ndarray of shape (n_neurons,), int32
    slot_words : ndarray of shape (n_words,), uint64
        Scratch: all 0, and 0 again afterwards.
    slots : ndarray of shape (n_rows * n_neurons,) or what fits, int32
        Written: row t's slots stand in ``slots[row_starts[t] : row_starts[t + 1]]``.
    row_starts : ndarray of shape (n_rows + 1,), int64
        Written.
    """
    one, six_bits = np.uint64(1), 63
    n_listed = 0
    for row in range(words.shape[0]):
        row_starts[row] = n_listed
        for w in range(words.shape[1]):
            word = words[row, w]
            while word != 0:
                slot = slot_of[64 * w + trailing_zeros(word)]
                slot_words[slot >> 6] |= one << np.uint64(slot & six_bits)
                word &= word - one
        # A bitmap of slots sorts them at the price of one pass over its words.
        for w in range(words.shape[1]):
            word = slot_words[w]
            slot_words[w] = 0
            while word != 0:
                slots[n_listed] = 64 * w + trailing_zeros(word)
                n_listed += 1
                word &= word - one
    row_starts[words.shape[0]] = n_listed


@compiled
def plan_reads(slots: Any, gap: int, first_slot: Any, last_slot: Any) -> int:
    """Return the number of reads that fetch ascending `slots`; caller allocates what they are written to.

    Parameters
    ----------
    slots : ndarray of shape (n_slots,), int32
        Ascending.
    gap : int
        Up to so many unwanted slots between two wanted ones are read through.
    first_slot, last_slot : ndarray of shape (n_slots,) or more, int32
        Written: read r takes slots ``first_slot[r]`` to ``last_slot[r]``, both included.
    """
    n_reads = 0
    for slot in slots:
        if n_reads > 0 and slot - last_slot[n_reads - 1] - 1 <= gap:
            last_slot[n_reads - 1] = slot
        else:
            first_slot[n_reads] = slot
            last_slot[n_reads] = slot
            n_reads += 1
    return n_reads


@compiled
def plan_row(
    slots: Any, start: int, end: int, is_hit: Any, gap: int, n_reads: int, first_slot: Any, last_slot: Any
) -> tuple[int, int]:
    """Plan the reads of one row's misses behind the `n_reads` before it; return reads by now, and the row's misses.

    The row's accesses are those from `start` to before `end`; other parameters are fields of those of `plan_rows`.
    """
    last = np.int64(-2 - gap)
    n_wanted = 0
    for access in range(start, end):
        if is_hit[access]:
            continue
        slot = np.int64(slots[access])
        # Without a branch: the processor cannot guess which slots begin a read. Others are overwritten by the next.
        first_slot[n_reads] = slot
        n_reads += int(slot - last - 1 > gap)
        last_slot[n_reads - 1] = slot
        last = slot
        n_wanted += 1
    return n_reads, n_wanted


@compiled
def plan_rows(accesses: SlotAccesses, gap: int, reads: RowReads) -> None:
    """Plan the reads of each row's misses with one gap; caller allocates what they are written to.

    Parameters
    ----------
    accesses : SlotAccesses
    gap : int
        Up to so many unwanted slots between two wanted ones are read through.
    reads : RowReads
        Written.
    """
    # In local variables, here and below: a field that is read in a loop has its references counted there.
    slots, row_starts, is_hit = accesses
    first_slot, last_slot, read_starts = reads
    n_reads = 0
    for row in range(row_starts.size - 1):
        read_starts[row] = n_reads
        n_reads, _ = plan_row(slots, row_starts[row], row_starts[row + 1], is_hit, gap, n_reads, first_slot, last_slot)
    read_starts[row_starts.size - 1] = n_reads


@compiled
def pages_of_read(
    first_slot: int, last_slot: int, bundle_bytes: int, stride_bytes: int, base_offset_bytes: int, page_bytes: int
) -> int:
    """Return the pages that a read touches: from its first byte, rounded down, to its last, rounded up."""
    start = base_offset_bytes + np.int64(first_slot) * stride_bytes
    end = base_offset_bytes + np.int64(last_slot) * stride_bytes + bundle_bytes
    return (end + page_bytes - 1) // page_bytes - start // page_bytes  # type: ignore[return-value]


@compiled
def charge_reads(reads: RowReads, extent: PagedExtent, times: RequestTimes, charges: ReadCharges) -> None:
    """Add up what the reads of each row cost; in place, caller allocates.

    Parameters
    ----------
    reads : RowReads
        As from `plan_rows`.
    extent : PagedExtent
    times : RequestTimes
    charges : ReadCharges
        Added to, and its `row_us` written.
    """
    first_slot, last_slot, read_starts = reads
    bundle_bytes, stride_bytes, base_offset_bytes, second_base_offset_bytes, page_bytes = extent
    form_us, line_us, ceiling = times
    totals, length_counts, row_us, other_us = charges
    max_pages, n_neurons = form_us.size - 1, length_counts.size - 1
    for row in range(read_starts.size - 1):
        time_us = 0.0
        time_line_us = 0.0
        row_requests, row_pages = 0, 0
        for read in range(read_starts[row], read_starts[row + 1]):
            length = last_slot[read] - first_slot[read] + 1
            n_pages = pages_of_read(
                first_slot[read], last_slot[read], bundle_bytes, stride_bytes,
                base_offset_bytes if first_slot[read] < n_neurons else second_base_offset_bytes, page_bytes,
            )  # fmt: skip
            length_counts[length] += 1
            totals[NEURONS_READ] += length
            row_pages += n_pages
            while n_pages > max_pages:
                row_requests += 1
                time_us += form_us[max_pages]
                time_line_us += line_us[max_pages]
                n_pages -= max_pages
            row_requests += 1
            time_us += form_us[n_pages]
            time_line_us += line_us[n_pages]
        time_ceiling_us = max(row_requests * ceiling.request_us, row_pages * ceiling.page_us)
        totals[READS] += read_starts[row + 1] - read_starts[row]
        totals[REQUESTS] += row_requests
        totals[PAGES] += row_pages
        row_us[row] = time_ceiling_us if ceiling.is_own_form else time_us
        other_us[LINE] += time_line_us
        other_us[CEILING] += time_ceiling_us
