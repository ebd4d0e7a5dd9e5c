"""The very requests that a reader of a layout sends to storage: offset and length of each, token by token."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.planners.plan import ReadPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import Int64Array
    from ripple_place.flash.block_reader import ChunkReads
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.trace.activation_trace import ActivationTrace


BASE_ALIGNMENT_BYTES = 4096
"""Blocks that do not say where they lie start on multiples of this, as in every file that we write."""


@dataclass(frozen=True, eq=False)
class RequestList:
    """The requests of some tokens, in the order in which a reader sends them: token by token, block by block.

    Attributes
    ----------
    layout : str
        Its name.
    tokens : ndarray of shape (n_tokens,), int64
        Which tokens of the trace, ascending.
    offset_bytes, length_bytes : ndarray of shape (n_requests,), int64
        Rounded out to pages and split at the device's maximum request.
    batch_starts : ndarray of shape (n_batches + 1,), int64
        Where the requests of each token and block start; batches are not empty.
    predicted_us : float
        What the simulator charges for them, all together.
    """

    layout: str
    tokens: Int64Array
    offset_bytes: Int64Array
    length_bytes: Int64Array
    batch_starts: Int64Array
    predicted_us: float

    @property
    def n_requests(self) -> int:
        """Number of requests."""
        return self.offset_bytes.size

    @property
    def end_bytes(self) -> int:
        """Length of the shortest file that has all that is read."""
        return int((self.offset_bytes + self.length_bytes).max()) if self.n_requests else 0


def sample_tokens(n_tokens: int, n_sampled: int) -> Int64Array:
    """Return token numbers spread evenly over a trace: from the middle of as many equal parts.

    >>> sample_tokens(100, 4).tolist(), sample_tokens(3, 10).tolist()
    ([12, 37, 62, 87], [0, 1, 2])
    """
    n_sampled = min(n_tokens, n_sampled)
    return (2 * np.arange(n_sampled, dtype=np.int64) + 1) * n_tokens // (2 * n_sampled)


def list_requests(
    trace: ActivationTrace, layout: Layout, device: DeviceProfile, params: SimulationParams, tokens: Int64Array
) -> RequestList:
    """Return the requests of `tokens` as the simulator counts them: after cache, planning, rounding and splitting.

    Parameters
    ----------
    trace : ActivationTrace
        All of it passes through the caches; a token finds them as the tokens before left them.
    layout : Layout
        Has each of the trace's blocks.
    device : DeviceProfile
    params : SimulationParams
    tokens : ndarray of int64
        Ascending.

    Raises
    ------
    UsageError
        If files are memory-mapped: then the kernel decides what is read; or if gates are read first, or lie apart.

    Notes
    -----
    Blocks lie where the layout's file has them. Where extents overlap, as those of placements without a file do, they
    are laid one after the other.
    """
    if device.is_mapped:
        raise UsageError(
            "--access mmap", found="reads that the kernel decides on", expected="reads by request",
            remedy="measure with --access direct",
        )  # fmt: skip
    if any(layout.blocks[name].is_apart for name in trace.blocks) or params.gate_first is not None:
        raise UsageError(
            f"requests of layout {layout.name}", found="gates that are read first, or lie apart",
            expected="bundles that are read whole", remedy="replay a layout that was written without --gates apart",
        )  # fmt: skip
    extents = {name: layout.blocks[name].extent for name in trace.blocks}
    bases = block_bases(extents, {name: layout.blocks[name].span_bytes for name in trace.blocks}, device.page_bytes)
    parts: dict[tuple[int, int], tuple[Int64Array, Int64Array]] = {}
    predicted_us = 0.0
    places = {name: place for place, name in enumerate(trace.blocks)}
    rows_of = {
        name: tokens if block.token_index is None else np.flatnonzero(np.isin(block.token_index, tokens))
        for name, block in trace.blocks.items()
    }
    readers = {name: params.reader_of(name, layout.blocks[name], device) for name in trace.blocks}
    for name, chunk in params.replay_blocks(trace, layout, device, list(trace.blocks)):
        index_of, rows = trace.blocks[name].token_index, rows_of[name]
        shift_bytes = bases[name] - extents[name].base_offset_bytes
        reads = readers[name].read(chunk)
        first, stop = np.searchsorted(rows, (chunk.first_row, chunk.first_row + chunk.n_rows))
        for row in rows[first:stop].tolist():
            token = row if index_of is None else int(index_of[row])
            index = row - chunk.first_row
            offset_bytes, length_bytes = _requests_of_row(reads, index, layout.blocks[name], device)
            parts[token, places[name]] = (offset_bytes + shift_bytes, length_bytes)
            predicted_us += float(reads.row_us[index])
    batches = [parts[key] for key in sorted(parts) if parts[key][0].size]
    sizes = [offsets.size for offsets, _ in batches]
    return RequestList(
        layout.name,
        tokens,
        np.concatenate([np.empty(0, np.int64), *(offsets for offsets, _ in batches)]),
        np.concatenate([np.empty(0, np.int64), *(lengths for _, lengths in batches)]),
        np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64),
        predicted_us,
    )


def _requests_of_row(
    reads: ChunkReads, row: int, layout: BlockLayout, device: DeviceProfile
) -> tuple[Int64Array, Int64Array]:
    """Return offset and length of the requests of one of a chunk's rows: to the first copy, then to a second."""
    start, stop = reads.read_starts[row : row + 2].tolist()
    middle = start + int(np.searchsorted(reads.first_slot[start:stop], layout.n_neurons))
    plans = [
        ReadPlan.of_reads(reads.first_slot[begin:end], reads.last_slot[begin:end], extent, device)
        for begin, end, extent in ((start, middle, layout.extent), (middle, stop, layout.second_extent))
    ]
    return (
        np.concatenate([plan.offset_bytes for plan in plans]),
        np.concatenate([plan.length_bytes for plan in plans]),
    )


def block_bases(extents: Mapping[str, BlockExtent], span_bytes: Mapping[str, int], page_bytes: int) -> dict[str, int]:
    """Return where the first slot of each block lies: as its extent says, or one after the other if they overlap.

    Parameters
    ----------
    extents : mapping of str to BlockExtent
    span_bytes : mapping of str to int
        From the first slot of each block to the end of its last.
    page_bytes : int

    >>> from ripple_place.flash.layout import BlockExtent
    >>> packed = BlockExtent.packed(3000)
    >>> block_bases({"layers.0": packed, "layers.1": packed}, {"layers.0": 12000, "layers.1": 12000}, 4096)
    {'layers.0': 0, 'layers.1': 12288}
    """
    ordered = sorted(extents, key=lambda name: extents[name].base_offset_bytes)
    apart = all(
        extents[name].base_offset_bytes + span_bytes[name] <= extents[after].base_offset_bytes
        for name, after in pairwise(ordered)
    )
    if apart:
        return {name: extent.base_offset_bytes for name, extent in extents.items()}
    step = int(np.lcm(page_bytes, BASE_ALIGNMENT_BYTES))
    bases: dict[str, int] = {}
    end = 0
    for name, extent in extents.items():
        # An extent that starts inside a page goes on doing so: rounding must stay what was charged.
        bases[name] = -(-end // step) * step + extent.base_offset_bytes % step
        end = bases[name] + span_bytes[name]
    return bases
