"""Timing random reads by size and depth, interleaved so that a slow moment hits all cells alike."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.flash.storage.queue_reader import QueueReader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from ripple_place.arrays import Float64Array, Int64Array
    from ripple_place.flash.storage.direct_file import DirectFile

MAX_READS = 1 << 16
"""Reads of one cell in one repeat, at most: where a file system answers from memory, time would allow millions."""


@dataclass(frozen=True, eq=False)
class Cell:
    """What random reads of one size took at one depth.

    Attributes
    ----------
    size_bytes, depth : int
    repeats_us : ndarray of shape (n_repeats,), float64
        Time per read with the queue full, by repeat.
    latency_us : tuple of float
        Median and 99th percentile of single reads' times, over all repeats.
    """

    size_bytes: int
    depth: int
    repeats_us: Float64Array
    latency_us: tuple[float, float]

    @property
    def read_us(self) -> float:
        """Median time per read: elapsed time over number of reads."""
        return float(np.median(self.repeats_us))

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """Bytes a second."""
        return self.size_bytes * 1e6 / self.read_us

    @property
    def spread(self) -> float:
        """Width of the middle half of the repeats, as a share of the median."""
        low, high = np.percentile(self.repeats_us, (25, 75))
        return float((high - low) / self.read_us)


def sweep(
    file: DirectFile,
    sizes_bytes: Sequence[int],
    depths: Sequence[int],
    *,
    n_repeats: int,
    cell_us: float,
    rng: np.random.Generator,
    track: Callable[[Collection[Any], str], Iterable[Any]],
    what: str,
) -> list[Cell]:
    """Return what reads took, by size and depth in the order given.

    Parameters
    ----------
    file : DirectFile
        Places are drawn from all of it.
    sizes_bytes, depths : sequence of int
    n_repeats : int
    cell_us : float
        Time that one cell may take in one repeat.
    rng : Generator
        Draws places, and the order of the cells anew in each repeat.
    track : callable
        Receives progress updates under the name `what`.

    Notes
    -----
    A repeat that does not count comes first: it also tells how many reads a cell has time for. Reads start at
    multiples of 4 KiB or of their own size, whichever is smaller.
    """
    cells = list(product(sizes_bytes, depths))
    n_reads = {(size, depth): 8 * depth for size, depth in cells}
    times_us: Mapping[tuple[int, int], list[float]] = {cell: [] for cell in cells}
    latencies: Mapping[tuple[int, int], list[Float64Array]] = {cell: [] for cell in cells}
    turns: list[tuple[int, int, int]] = [
        (repeat, *cells[at]) for repeat in range(n_repeats + 1) for at in rng.permutation(len(cells)).tolist()
    ]
    with ExitStack() as stack:
        readers = {depth: stack.enter_context(QueueReader(file, depth, max(sizes_bytes))) for depth in depths}
        for repeat, size, depth in track(turns, what):
            cell = (size, depth)
            offsets = random_offsets(file, size, n_reads[cell], rng)
            times = readers[depth].read(offsets, np.full(offsets.size, size))
            if repeat:
                times_us[cell].append(times.steady_us)
                latencies[cell].append(times.latency_us)
            else:
                n_reads[cell] = int(np.clip(cell_us / times.steady_us, 8 * depth, MAX_READS))
    return [Cell(*cell, np.array(times_us[cell]), _percentiles(np.concatenate(latencies[cell]))) for cell in cells]


def random_offsets(file: DirectFile, length_bytes: int, n_reads: int, rng: np.random.Generator) -> Int64Array:
    """Return where to read: page starts drawn evenly from the whole file."""
    step = max(file.alignment_bytes, min(4096, length_bytes))
    return rng.integers(0, (file.size_bytes - length_bytes) // step + 1, n_reads) * step


def _percentiles(latency_us: Float64Array) -> tuple[float, float]:
    median, high = np.percentile(latency_us, (50, 99))
    return float(median), float(high)
