"""From the reads of one row of a trace to requests, and from what they fetched to the bundles that were wanted."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ripple_place.kernels.compiled import compiled
from ripple_place.kernels.reads import pages_of_read
from ripple_place.kernels.storage import external_c_function

if TYPE_CHECKING:
    from ripple_place.kernels.read_queue import Batch
    from ripple_place.kernels.read_state import PagedExtent


# A loop over bytes takes four times as long.
memcpy = external_c_function("memcpy", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class ReadList(NamedTuple):
    """The reads of one row.

    Attributes
    ----------
    first_slot, last_slot : ndarray of shape (n_reads,), int32
        Both included; ascending. Slots of a second copy count on from those of the first.
    """

    first_slot: Any
    last_slot: Any


@compiled
def list_requests(
    reads: ReadList, n_neurons: int, extent: PagedExtent, max_request_bytes: int, file_bytes: int, first_target: int,
    first_request: int, batch: Batch, read_at_bytes: Any,
) -> tuple[int, int]:  # fmt: skip
    """Write the requests of some reads behind those that are there; return the number by now, and the memory's end.

    Parameters
    ----------
    reads : ReadList
    n_neurons : int
        Slots from here on are the second copy's.
    extent : PagedExtent
    max_request_bytes : int
        Where longer reads are split; whole pages.
    file_bytes : int
        Length of the file: the last page may be cut short there.
    first_target : int
        Where in memory the first read is put, a multiple of the page.
    first_request : int
        Requests that are there.
    batch : Batch
        Written as far as it has room; the number that is returned may be larger.
    read_at_bytes : ndarray of shape (n_reads,), int64
        Written: where in memory the first bundle of each read begins.
    """
    first_slot, last_slot = reads
    bundle_bytes, stride_bytes, base_offset_bytes, second_base_offset_bytes, page_bytes = extent
    offsets, lengths, targets, least, _ = batch
    n_requests, target = first_request, first_target
    for read in range(first_slot.size):
        base = base_offset_bytes if first_slot[read] < n_neurons else second_base_offset_bytes
        begin = base + np.int64(first_slot[read]) * stride_bytes
        offset = begin // page_bytes * page_bytes
        left = page_bytes * pages_of_read(
            first_slot[read], last_slot[read], bundle_bytes, stride_bytes, base, page_bytes
        )  # fmt: skip
        read_at_bytes[read] = target + begin - offset
        while left > 0:
            length = min(left, max_request_bytes)
            if n_requests < offsets.size:
                offsets[n_requests] = offset
                lengths[n_requests] = length
                targets[n_requests] = target
                least[n_requests] = min(length, file_bytes - offset)
            n_requests += 1
            offset += length
            target += length
            left -= length
    return n_requests, target


@compiled
def copy_fetched(
    slots: Any, is_hit: Any, second_slot: Any, reads: ReadList, read_at_bytes: Any, stride_bytes: int, n_bytes: int,
    memory: Any, rows: Any, row_at_bytes: int,
) -> None:  # fmt: skip
    """Copy what was read of each slot that was not in DRAM to its row; in place.

    Parameters
    ----------
    slots : ndarray of shape (n,), int32
        Ascending.
    is_hit : ndarray of shape (n,), uint8
        1 where nothing was read.
    second_slot : ndarray of shape (n_neurons,) or (0,), int32
        By slot of the first copy, that of the second; empty where there is none.
    reads : ReadList
        They have every slot that was not in DRAM, in either copy.
    read_at_bytes : ndarray of shape (n_reads,), int64
        Where in memory the first bundle of each read begins.
    stride_bytes, n_bytes : int
        From bundle to bundle, and of one.
    memory : ndarray of shape (memory_bytes,), uint8
    rows : ndarray of shape (n, row_bytes), uint8
        C-contiguous. Written: bytes from `row_at_bytes` on.
    row_at_bytes : int
    """
    first_slot, last_slot = reads
    for row in range(slots.size):
        if is_hit[row]:
            continue
        slot = slots[row]
        read = np.searchsorted(first_slot, slot, side="right") - 1
        if read < 0 or last_slot[read] < slot:
            slot = second_slot.size + second_slot[slot]
            read = np.searchsorted(first_slot, slot, side="right") - 1
        begin = read_at_bytes[read] + np.int64(slot - first_slot[read]) * stride_bytes
        memcpy(
            rows.ctypes.data + np.int64(row) * rows.shape[1] + row_at_bytes, memory.ctypes.data + begin, n_bytes
        )  # fmt: skip


@compiled
def copy_kept(units: Any, is_hit: Any, place_of: Any, kept: Any, rows: Any) -> int:
    """Copy the rows of units that were in DRAM; return how many of them are not where they should be.

    Parameters
    ----------
    units : ndarray of shape (n,), int32
    is_hit : ndarray of shape (n,), uint8
    place_of : ndarray of shape (n_units,), int32
        -1 where a unit is not kept.
    kept : ndarray of shape (n_places, row_bytes), uint8
    rows : ndarray of shape (n, row_bytes), uint8
        Written. Both are C-contiguous.
    """
    n_missing = 0
    for row in range(units.size):
        if is_hit[row]:
            place = place_of[units[row]]
            if place < 0:
                n_missing += 1
            else:
                n_bytes = rows.shape[1]
                memcpy(rows.ctypes.data + row * n_bytes, kept.ctypes.data + np.int64(place) * n_bytes, n_bytes)
    return n_missing
