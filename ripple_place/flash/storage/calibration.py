"""From timed reads to a device profile: the depth that saturates, and the latency table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.device.profile import DeviceProfile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.flash.storage.sweep import Cell

PAGE_BYTES = 4096
"""Smallest page of a measured profile: what file systems allocate and devices read at least, even where reads of 512
bytes are accepted."""
SATURATED_SHARE = 0.95
"""The saturating depth is the smallest that reaches this share of the best throughput."""
NOISY_SPREAD = 0.1
"""Repeats whose middle half is wider than this share of their median are called noisy."""


def sweep_sizes(page_bytes: int, max_bytes: int) -> list[int]:
    """Return the sizes to time: powers of two of a page and the points halfway between.

    >>> [size // 4096 for size in sweep_sizes(4096, 65536)]
    [1, 2, 3, 4, 6, 8, 12, 16]
    """
    powers = [page_bytes << power for power in range(max_bytes.bit_length())]
    sizes = {max_bytes, page_bytes} | {size for power in powers for size in (power, 3 * power // 2)}
    return sorted(size for size in sizes if size <= max_bytes and size % page_bytes == 0)


def saturating_depth(cells: Sequence[Cell]) -> int:
    """Return the smallest depth with `SATURATED_SHARE` of the best throughput: the geometric mean over sizes."""
    depths = sorted({cell.depth for cell in cells})
    speed = {
        depth: float(np.exp(-np.mean([np.log(cell.read_us) for cell in cells if cell.depth == depth])))
        for depth in depths
    }
    return next(depth for depth in depths if speed[depth] >= SATURATED_SHARE * max(speed.values()))


def fit_table(sizes_bytes: Sequence[int], times_us: Sequence[float]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return a latency table that never falls and rises at its end, as device profiles must.

    Times out of order are pooled (isotonic regression by adjacent violators: the least-squares fit among tables that do
    not fall), each size counting the same. Where the end is flat, the sizes before the last are left out.

    Parameters
    ----------
    sizes_bytes : sequence of int
        Ascending.
    times_us : sequence of float

    Examples
    --------
    >>> fit_table([4096, 8192, 16384], [12.0, 10.0, 20.0])
    ((4096, 8192, 16384), (11.0, 11.0, 20.0))
    >>> fit_table([4096, 8192, 16384], [10.0, 21.0, 19.0])
    ((4096, 16384), (10.0, 20.0))
    """
    pools: list[tuple[float, int]] = []
    for time_us in times_us:
        total, count = float(time_us), 1
        while pools and pools[-1][0] * count > total * pools[-1][1]:
            total, count = total + pools[-1][0], count + pools[-1][1]
            pools.pop()
        pools.append((total, count))
    fitted = [float(f"{total / count:.4g}") for total, count in pools for _ in range(count)]
    table = list(zip(sizes_bytes, fitted, strict=True))
    while len(table) > 1 and table[-2][1] == table[-1][1]:
        del table[-2]
    sizes, latencies = zip(*table, strict=True)
    return sizes, latencies


def noise_warning(cells: Sequence[Cell]) -> str | None:
    """Return what is to be said of the spread of repeats; None if they agree."""
    noisy = [cell for cell in cells if cell.spread > NOISY_SPREAD]
    if not noisy:
        return None
    worst = max(noisy, key=lambda cell: cell.spread)
    return (
        f"repeats disagree at {len(noisy)} of {len(cells)} sizes (the middle half of those at {worst.size_bytes} bytes "
        f"is {100 * worst.spread:.0f} % wide): something else uses this storage or processor. Measure again when it is "
        "quiet, or with more --repeats"
    )


LARGE_BYTES = 1 << 20
"""Reads whose throughput by depth a profile has beside that of the smallest, where they were timed."""


def queue_factors(
    survey: Sequence[Cell], depth: int, size_bytes: int | None = None
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return depths up to `depth`, and throughput of reads of a size at each relative to `depth`: never falling.

    Without a size, of the smallest reads.
    """
    size = min(cell.size_bytes for cell in survey) if size_bytes is None else size_bytes
    read_us = {cell.depth: cell.read_us for cell in survey if cell.size_bytes == size and cell.depth <= depth}
    depths = sorted(read_us)
    # What is nearer saturation cannot be slower: a dip is noise.
    ceilings = np.minimum.accumulate([min(1.0, read_us[depth] / read_us[each]) for each in reversed(depths)])
    return tuple(depths), tuple(float(f"{share:.3g}") for share in ceilings[::-1])


def build_profile(
    cells: Sequence[Cell], survey: Sequence[Cell], *, name: str, where: str, alignment_bytes: int, size_bytes: int,
    n_repeats: int,
) -> DeviceProfile:  # fmt: skip
    """Return the profile of cells that were timed at one depth.

    Parameters
    ----------
    cells : sequence of Cell
        Ascending sizes at one depth.
    survey : sequence of Cell
        All sizes at all depths, that one among them.
    name : str
    where : str
        The storage in words (``ext4 on /dev/sda1``).
    alignment_bytes : int
        What O_DIRECT accepted.
    size_bytes : int
        Of the file that was read.
    n_repeats : int
    """
    sizes, latencies = fit_table([cell.size_bytes for cell in cells], [cell.read_us for cell in cells])
    depth, page_bytes = cells[0].depth, max(PAGE_BYTES, alignment_bytes)
    queue_depths, queue_factor = queue_factors(survey, depth)
    has_large = any(cell.size_bytes == LARGE_BYTES for cell in survey)
    large_queue_factor = queue_factors(survey, depth, LARGE_BYTES)[1] if has_large else ()
    return DeviceProfile(
        name=name,
        description=f"{where}, random direct reads at depth {depth}, measured by ripple-place calibrate",
        form="table",
        page_bytes=page_bytes,
        max_request_bytes=cells[-1].size_bytes,
        size_bytes=sizes,
        latency_us=latencies,
        queue_depths=queue_depths,
        queue_factor=queue_factor,
        large_queue_bytes=LARGE_BYTES if has_large else None,
        large_queue_factor=large_queue_factor,
        sources={
            "page_bytes": f"measured: O_DIRECT accepts multiples of {alignment_bytes} bytes; at least {PAGE_BYTES}, "
            "the page of file systems",
            "max_request_bytes": "chosen: the largest size that was timed",
            "latency_us": f"measured: O_DIRECT reads at random places of a file of {size_bytes >> 20} MiB by {depth} "
            f"threads, elapsed time over number of reads with the queue full, medians of {n_repeats} interleaved "
            "repeats, made to rise with size",
            "queue_factor": f"measured: reads of {cells[0].size_bytes} bytes at each depth, relative to {depth}",
            **({"large_queue_factor": f"measured: the same of {LARGE_BYTES} bytes"} if has_large else {}),
        },
    )
