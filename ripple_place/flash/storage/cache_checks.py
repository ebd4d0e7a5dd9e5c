"""Whether reads that should come from storage came from memory instead."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.storage.direct_file import aligned_buffer, read_into

if TYPE_CHECKING:
    from ripple_place.arrays import BoolArray
    from ripple_place.flash.storage.direct_file import DirectFile
    from ripple_place.flash.storage.queue_reader import QueueReader

PROBE_BYTES = 1 << 20
"""Range that is read to see whether it turns up in the page cache."""
PROBE_READS = 64
FASTEST_FLASH_US = 4.0
"""No flash answers a lone 4 KiB read in less: Optane, faster than any flash, takes 5 us (remembered: datasheet of the
P5800X)."""
REREAD_RATIO = 1.5
"""Re-reads faster than this are a cache's: the spread of medians on a quiet device is far below."""


def cache_warnings(file: DirectFile, reader: QueueReader, rng: np.random.Generator) -> list[str]:
    """Return how caches falsify reads of `file`; empty if none is found to.

    Parameters
    ----------
    file : DirectFile
    reader : QueueReader
        Of that file, at depth 1.
    rng : Generator
        Chooses where to read.
    """
    warnings = []
    if not file.is_direct:
        warnings.append("the file system knows no O_DIRECT: reads came through the page cache, and times are of memory")
    elif (share := page_cache_fill(file)) > 0.5:
        warnings.append(
            f"O_DIRECT is not honoured: {100 * share:.0f} % of what was read was in the page cache afterwards. Times "
            "are partly of memory"
        )
    length_bytes = min(4096, file.size_bytes)
    length_bytes -= length_bytes % file.alignment_bytes
    n_places = file.size_bytes // length_bytes
    offsets = rng.permutation(n_places)[:PROBE_READS] * length_bytes
    lengths = np.full(offsets.size, length_bytes)
    first_us, again_us = (float(np.median(reader.read(offsets, lengths).latency_us)) for _ in range(2))
    if again_us < FASTEST_FLASH_US:
        warnings.append(
            f"a read of {length_bytes} bytes takes {again_us:.1f} us, less than any flash needs: memory serves it"
        )
    elif first_us > REREAD_RATIO * again_us:
        warnings.append(
            f"reading the same {offsets.size} places again took 1/{first_us / again_us:.1f} of the time: a cache below "
            "the file system serves re-reads, and a small working set looks faster than flash is"
        )
    return warnings


def page_cache_fill(file: DirectFile) -> float:
    """Return the share of a range that reading it put into the page cache: 0 where O_DIRECT is honoured.

    0 as well where files cannot be mapped, as on some FUSE file systems, and so cannot be asked after.
    """
    length_bytes = min(PROBE_BYTES, file.size_bytes)
    os.posix_fadvise(file.descriptor, 0, length_bytes, os.POSIX_FADV_DONTNEED)
    try:
        before = np.count_nonzero(resident_pages(file.descriptor, length_bytes))
    except OSError as cause:
        if cause.errno in (errno.ENODEV, errno.EACCES, errno.EPERM):  # no mappings there: nobody to ask
            return 0.0
        raise
    read_into(file.descriptor, aligned_buffer(length_bytes), 0)
    resident = resident_pages(file.descriptor, length_bytes)
    return float(np.count_nonzero(resident) - before) / resident.size


def resident_pages(descriptor: int, length_bytes: int) -> BoolArray:
    """Return which pages of the first bytes of a file are in the page cache (mincore(2)).

    Linux says so only of files that one owns or may write; of others it calls every page resident.
    """
    with closing(mmap.mmap(descriptor, length_bytes, mmap.MAP_SHARED, mmap.PROT_READ)) as mapping:
        view = np.frombuffer(mapping, np.uint8)
        resident = np.zeros(-(-length_bytes // mmap.PAGESIZE), np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.mincore(
            ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(length_bytes), ctypes.c_void_p(resident.ctypes.data)
        )
        del view  # or the mapping could not be closed
    if failed:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "mincore")
    return (resident & 1).astype(bool)
