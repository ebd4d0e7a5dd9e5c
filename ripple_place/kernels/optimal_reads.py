"""The cheapest reads of each token, by dynamic programming over its runs of adjacent missed slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    from ripple_place.kernels.read_state import PagedExtent, RowReads, SlotAccesses

_NONE = -1


class RequestCosts(NamedTuple):
    """What reads take, and where merging them surely does not pay.

    Attributes
    ----------
    read_us : ndarray of shape (pages of the block + 2,) or more, float64
        Time of a read by its pages, never falling, with ``read_us[p + max_pages] == read_us[p] + read_us[max_pages]``.
    max_pages : int
        Of a request.
    cut_pages : int
        No gap of so many whole unwanted pages, or more, is worth reading through
        (`ripple_place.flash.planners.optimal.least_cut_pages`).
    """

    read_us: Any
    max_pages: int
    cut_pages: int


class RunScratch(NamedTuple):
    """Scratch of the search, for the runs of adjacent missed slots of one row.

    Attributes
    ----------
    runs : ndarray of shape (2, n_neurons), int32
        First and last slot of each run.
    pages : ndarray of shape (2, n_neurons), int64
        Its first page, and the page after its last.
    best_us : ndarray of shape (n_neurons + 1,), float64
        Least time of the runs before each.
    best_begin : ndarray of shape (n_neurons,), int32
        The run that the last read of that plan begins with.
    open_run : ndarray of shape (max_pages,), int32
        By residue of its first page, the run that a read may begin with; all -1, and -1 again afterwards.
    open_list : ndarray of shape (max_pages,), int32
        The residues that have one.
    """

    runs: Any
    pages: Any
    best_us: Any
    best_begin: Any
    open_run: Any
    open_list: Any

    @classmethod
    def allocate(cls, n_neurons: int, max_pages: int) -> RunScratch:
        """Return room for a token of a block."""
        runs, pages = np.empty((2, n_neurons), np.int32), np.empty((2, n_neurons), np.int64)
        best_us, best_begin = np.empty(n_neurons + 1), np.empty(n_neurons, np.int32)
        open_run, open_list = np.full(max_pages, _NONE, np.int32), np.empty(max_pages, np.int32)
        return cls(runs, pages, best_us, best_begin, open_run, open_list)


@compiled
def plan_rows_optimal(
    accesses: SlotAccesses, extent: PagedExtent, costs: RequestCosts, scratch: RunScratch, reads: RowReads
) -> None:
    """Plan the reads of each row's misses that take the least time; caller allocates.

    Parameters
    ----------
    accesses : SlotAccesses
    extent : PagedExtent
        Of one copy.
    costs : RequestCosts
    scratch : RunScratch
    reads : RowReads
        Written.

    Notes
    -----
    A read takes one or more whole runs, so that ``best[j + 1] = min over i <= j of best[i] + read_us[pages(i..j)]``.
    Two facts bound the i that need be looked at, and neither loses the optimum:

    - *Cuts.* Where `cut_pages` or more unwanted pages lie between two runs, a read across them is split there at no
      loss, by definition of `cut_pages`; what lies before and after is solved apart.
    - *Residues.* Let reads that begin with runs i < k start in pages that differ by m whole maximum requests. For
      every later end, ``read_us`` of the first is that of the second plus m full requests, so that whichever of
      ``best[i] + m * read_us[max_pages]`` and ``best[k]`` is smaller stays ahead for good: one open run for each of
      the `max_pages` residues suffices.

    Time is of the order of runs x min(runs between cuts, max_pages). Of equal plans, the one whose last read begins
    latest is taken.
    """
    slots, row_starts, is_hit = accesses
    bundle_bytes, stride_bytes, base_offset_bytes, _, page_bytes = extent
    read_us, max_pages, cut_pages = costs
    runs, pages, best_us, best_begin, open_run, open_list = scratch
    first_slot, last_slot, read_starts = reads
    n_reads = 0
    for row in range(row_starts.size - 1):
        read_starts[row] = n_reads
        n_runs, last = 0, np.int64(-2)
        for access in range(row_starts[row], row_starts[row + 1]):
            if is_hit[access]:
                continue
            slot = np.int64(slots[access])
            if slot != last + 1:
                runs[0, n_runs] = slot
                pages[0, n_runs] = (base_offset_bytes + slot * stride_bytes) // page_bytes
                n_runs += 1
            runs[1, n_runs - 1] = slot
            end = base_offset_bytes + slot * stride_bytes + bundle_bytes
            pages[1, n_runs - 1] = (end + page_bytes - 1) // page_bytes
            last = slot
        begin = 0
        while begin < n_runs:
            n_open = 0
            best_us[begin] = 0.0
            stop = begin
            while stop < n_runs and (stop == begin or pages[0, stop] - pages[1, stop - 1] < cut_pages):
                residue = pages[0, stop] % max_pages
                rival = open_run[residue]
                if rival == _NONE:
                    open_list[n_open] = residue
                    n_open += 1
                    open_run[residue] = stop
                elif best_us[stop] <= best_us[rival] + read_us[pages[0, stop] - pages[0, rival]]:
                    open_run[residue] = stop
                least_us, least_begin = np.inf, _NONE
                for place in range(n_open):
                    run = open_run[open_list[place]]
                    time_us = best_us[run] + read_us[pages[1, stop] - pages[0, run]]
                    if time_us < least_us or (time_us == least_us and run > least_begin):
                        least_us, least_begin = time_us, run
                best_us[stop + 1] = least_us
                best_begin[stop] = least_begin
                stop += 1
            for place in range(n_open):
                open_run[open_list[place]] = _NONE
            # Reads are found from the last to the first; count them, then write them in their order.
            run, n_found = stop - 1, 0
            while run >= begin:
                n_found += 1
                run = best_begin[run] - 1
            run, read = stop - 1, n_reads + n_found - 1
            while run >= begin:
                first_slot[read] = runs[0, best_begin[run]]
                last_slot[read] = runs[1, run]
                run = best_begin[run] - 1
                read -= 1
            n_reads += n_found
            begin = stop
    read_starts[row_starts.size - 1] = n_reads
