"""Read planning: from the slots that a token misses to reads, to requests that the device sees, to flash time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ripple_place.kernels.bits import trailing_zeros

# Rows of the totals that `charge_tokens` adds to, by name; int64.
READS, NEURONS_READ, REQUESTS, PAGES = range(4)
N_TOTALS = 4


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def pages_of_read(
    first_slot: int, last_slot: int, bundle_bytes: int, stride_bytes: int, base_offset_bytes: int, page_bytes: int
) -> int:
    """Return the pages that a read touches: from its first byte, rounded down, to its last, rounded up."""
    start = base_offset_bytes + np.int64(first_slot) * stride_bytes
    end = base_offset_bytes + np.int64(last_slot) * stride_bytes + bundle_bytes
    return (end + page_bytes - 1) // page_bytes - start // page_bytes  # type: ignore[return-value]


@njit(cache=True, nogil=True)
def charge_tokens(
    slots: Any, row_starts: Any, is_hit: Any, gap: int, extent: Any, page_bytes: int, form_us: Any, line_us: Any,
    wanted: Any, first_slot: Any, last_slot: Any, totals: Any, length_counts: Any, row_us: Any, line_total_us: Any,
) -> None:  # fmt: skip
    """Plan the reads of each row's misses and add up what they cost; in place, caller allocates.

    Parameters
    ----------
    slots, row_starts
        As from `slots_in_order`.
    is_hit : ndarray of uint8, as long as `slots`
        1 where the neuron in the slot was in DRAM.
    gap : int
    extent : ndarray of shape (3,), int64
        bundle_bytes, stride_bytes, base_offset_bytes.
    page_bytes : int
    form_us, line_us : ndarray of shape (max_request_pages + 1,), float64
        Time of a request by its pages, in the device's own form and on its line.
    wanted, first_slot, last_slot : ndarray of shape (n_neurons,), int32
        Scratch.
    totals : ndarray of shape (N_TOTALS,), int64
        Added to.
    length_counts : ndarray of shape (n_neurons + 1,), int64
        Added to: reads by length in neurons.
    row_us : ndarray of shape (n_rows,), float64
        Written: each row's flash time in the device's own form.
    line_total_us : ndarray of shape (1,), float64
        Added to: the flash time of all rows on the line.
    """
    bundle_bytes, stride_bytes, base_offset_bytes = extent[0], extent[1], extent[2]
    max_pages = form_us.size - 1
    for row in range(row_starts.size - 1):
        n_wanted = 0
        for access in range(row_starts[row], row_starts[row + 1]):
            if not is_hit[access]:
                wanted[n_wanted] = slots[access]
                n_wanted += 1
        n_reads = plan_reads(wanted[:n_wanted], gap, first_slot, last_slot)
        time_us = 0.0
        time_line_us = 0.0
        for read in range(n_reads):
            length = last_slot[read] - first_slot[read] + 1
            n_pages = pages_of_read(
                first_slot[read], last_slot[read], bundle_bytes, stride_bytes, base_offset_bytes, page_bytes
            )
            length_counts[length] += 1
            totals[NEURONS_READ] += length
            totals[PAGES] += n_pages
            while n_pages > max_pages:
                totals[REQUESTS] += 1
                time_us += form_us[max_pages]
                time_line_us += line_us[max_pages]
                n_pages -= max_pages
            totals[REQUESTS] += 1
            time_us += form_us[n_pages]
            time_line_us += line_us[n_pages]
        totals[READS] += n_reads
        row_us[row] = time_us
        line_total_us[0] += time_line_us
