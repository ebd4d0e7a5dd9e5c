"""Reading experts: where the pieces of each lie, which reads and requests its misses make, and how long they take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.device.conditions import under

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import Float64Array, Int32Array, Int64Array
    from ripple_place.flash.device.conditions import ConditionedDevice

ORIGINAL, PACKED = "original", "packed"
PIECES = 3
"""Gate, up and down of an expert, which checkpoints and GGUF files keep in three tensors or places."""
SMALLEST_SPLIT = 128 << 10
"""Bytes of the shortest requests that long reads are split into: below it, no device that is known gains."""


@dataclass(frozen=True, eq=False)
class ExpertLayout:
    """Where experts lie on flash.

    Parameters
    ----------
    name : str
    n_pieces : int
        Places that an expert's bytes lie in, equally many in each: 3 in a checkpoint or GGUF file, 1 where packed.
    is_aligned : bool
        Whether each expert begins on a page of its own, as `reorder --unit expert` writes them. Otherwise a read begins
        and ends within a page.
    slot_of : mapping of str to ndarray of shape (n_experts,), int32
        Place of each expert among those of its layer; a layer that is not named has them by number.
    """

    name: str
    n_pieces: int
    is_aligned: bool
    slot_of: Mapping[str, Int32Array] = field(default_factory=dict)

    @classmethod
    def original(cls) -> ExpertLayout:
        """Return the layout of a checkpoint."""
        return cls(ORIGINAL, PIECES, is_aligned=False)

    @classmethod
    def packed(cls, name: str = PACKED, slot_of: Mapping[str, Int32Array] | None = None) -> ExpertLayout:
        """Return a layout in which all bytes of an expert lie together, from a page's start."""
        return cls(name, 1, is_aligned=True, slot_of=slot_of or {})


@dataclass(frozen=True, eq=False)
class ReadTotals:
    """What the reads of each group took.

    Attributes
    ----------
    time_us : ndarray of shape (n_groups,), float64
    n_reads, n_requests, bytes_read : ndarray of shape (n_groups,), int64
        Reads of adjacent experts count once; requests after splitting; bytes after rounding out to pages.
    """

    time_us: Float64Array
    n_reads: Int64Array
    n_requests: Int64Array
    bytes_read: Int64Array


def read_groups(
    layout: ExpertLayout, device: ConditionedDevice, groups: Int64Array, slots: Int64Array, unit_bytes: Int64Array,
    n_groups: int, request_bytes: int | None = None,
) -> ReadTotals:  # fmt: skip
    """Return what reading groups of experts takes: each the misses of one token in one layer, say.

    Parameters
    ----------
    layout : ExpertLayout
    device : ConditionedDevice
    groups : ndarray of shape (n_misses,), int64
        Group of each miss, below `n_groups`; a group's experts are of one layer.
    slots : ndarray of shape (n_misses,), int64
        Place of each in its layer.
    unit_bytes : ndarray of shape (n_misses,), int64
    n_groups : int
    request_bytes : int, optional
        Reads longer than this are split; a multiple of the page, at most the device's largest request, the default.

    Notes
    -----
    Experts of a group that lie side by side are read together, each read is rounded out to pages and split,
    and the requests of a group are in flight together. Fewer of them than saturate the device are
    charged at the depth that they reach, where the profile knows depths. Groups wait for each other. An expert that
    does not begin on a page touches one page more. Costs O(n log n) of the misses.
    """
    order = np.lexsort((slots, groups))
    groups, slots, unit_bytes = groups[order], slots[order], unit_bytes[order]
    begins = np.ones(groups.size, bool)
    begins[1:] = (groups[1:] != groups[:-1]) | (slots[1:] != slots[:-1] + 1)
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, groups.size))
    page_bytes = device.page_bytes
    piece_bytes = -(-unit_bytes[starts] // layout.n_pieces)
    if layout.is_aligned:
        n_pages = lengths * -(-piece_bytes // page_bytes)
    else:
        n_pages = -(-lengths * piece_bytes // page_bytes) + 1
    max_pages = (request_bytes or device.max_request_bytes) // page_bytes
    n_full, n_rest = np.divmod(n_pages, max_pages)
    n_requests = layout.n_pieces * (n_full + (n_rest > 0))

    def by_group(values: Int64Array | Float64Array) -> Float64Array:
        return np.asarray(np.bincount(groups[starts], values, n_groups), np.float64)

    requests = by_group(n_requests).astype(np.int64)
    bytes_read = by_group(layout.n_pieces * n_pages * page_bytes).astype(np.int64)
    n_reads = by_group(np.full(starts.size, layout.n_pieces, np.int64)).astype(np.int64)
    if not device.times_add_up:
        time_us = device.ceiling().time_us(requests, bytes_read)
    else:
        read_us = np.empty(starts.size)
        depth = depths_of(device, requests)[groups[starts]]
        for each in np.unique(depth).tolist():
            table_us = at_depth(device, each).request_table_us()[: max_pages + 1]
            here = depth == each
            read_us[here] = layout.n_pieces * (n_full[here] * table_us[-1] + table_us[n_rest[here]])
        time_us = by_group(read_us)
    return ReadTotals(time_us, n_reads, requests, bytes_read)


def depths_of(device: ConditionedDevice, n_requests: Int64Array) -> Int64Array:
    """Return at which depth groups of so many requests are read; 0: as the conditions say."""
    depths, asked = device.queue_depths, device.conditions.queue_depth
    if not depths or device.conditions.access != "direct":
        return np.zeros(n_requests.size, np.int64)
    most = depths[-1] if asked is None else min(asked, depths[-1])
    depth = np.clip(n_requests, depths[0], most)
    return np.asarray(np.where((depth == depths[-1]) & (asked is None), 0, depth), np.int64)


def at_depth(device: ConditionedDevice, depth: int) -> ConditionedDevice:
    """Return a device whose queue is so deep; 0 leaves it as it is."""
    if depth == 0:
        return device
    return under(device, replace(device.conditions, queue_depth=depth), device.span_bytes)


def split_sizes(device: ConditionedDevice) -> list[int]:
    """Return sizes to split reads at: the device's largest request, then halves of it down to `SMALLEST_SPLIT`.

    Few long reads do not fill a queue that many short ones do, so that an engine does well to split them.
    """
    sizes = [device.max_request_bytes]
    while (half := sizes[-1] // 2 // device.page_bytes * device.page_bytes) >= SMALLEST_SPLIT:
        sizes.append(half)
    return sizes
