"""What the read kernels share: the slots that tokens want, the reads that fetch them, and what those cost.

Each is one argument of a kernel. Arrays of the caller's are read or written in place, as each kernel says.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class SlotAccesses(NamedTuple):
    """The slots that consecutive rows of a trace want.

    Attributes
    ----------
    slots : ndarray of shape (n_accesses,), int32
        Row by row, ascending in each.
    row_starts : ndarray of shape (n_rows + 1,), int64
        Row t wants ``slots[row_starts[t] : row_starts[t + 1]]``.
    is_hit : ndarray of shape (n_accesses,), uint8
        1 where the neuron in the slot was in DRAM.
    """

    slots: Any
    row_starts: Any
    is_hit: Any


class RowReads(NamedTuple):
    """The reads of consecutive rows of a trace.

    Attributes
    ----------
    first_slot, last_slot : ndarray of shape (n_reads,) or longer, int32
        Read r takes slots ``first_slot[r]`` to ``last_slot[r]``, both included. There are never more reads than
        accesses.
    read_starts : ndarray of shape (n_rows + 1,), int64
        Row t has the reads from ``read_starts[t]`` to before ``read_starts[t + 1]``.
    """

    first_slot: Any
    last_slot: Any
    read_starts: Any


class PagedExtent(NamedTuple):
    """Where the bundles of a block lie, on a device that reads whole pages.

    Attributes
    ----------
    bundle_bytes : int
        Weights of one neuron.
    stride_bytes : int
        From one bundle to the next.
    base_offset_bytes : int
        Of slot 0, from the start of the file.
    second_base_offset_bytes : int
        The same for slots from `n_neurons` on, which are those of a second copy; unused where there is none.
    page_bytes : int
    """

    bundle_bytes: int
    stride_bytes: int
    base_offset_bytes: int
    second_base_offset_bytes: int
    page_bytes: int


class Ceiling(NamedTuple):
    """What a row's requests cost under the device's ceiling: the longer of the two sums.

    Attributes
    ----------
    request_us : float
        Time of a request.
    page_us : float
        Time of a page.
    is_own_form : bool
        Whether the ceiling is the form in which the device states its times.
    """

    request_us: float
    page_us: float
    is_own_form: bool


class RequestTimes(NamedTuple):
    """What requests cost, in each form of the device's times.

    Attributes
    ----------
    form_us, line_us : ndarray of shape (max_request_pages + 1,), float64
        Time of a request by its pages, in the device's own form and on its line.
    ceiling : Ceiling
    """

    form_us: Any
    line_us: Any
    ceiling: Ceiling


class ReadCharges(NamedTuple):
    """What the reads of rows cost; entries by the names in `ripple_place.kernels.reads`.

    Attributes
    ----------
    totals : ndarray of shape (N_TOTALS,), int64
        Added to.
    length_counts : ndarray of shape (n_neurons + 1,), int64
        Added to: reads by length in neurons.
    row_us : ndarray of shape (n_rows,), float64
        Written: each row's flash time in the device's own form.
    other_us : ndarray of shape (N_FORMS,), float64
        Added to: the flash time of all rows on the line and under the ceiling.
    """

    totals: Any
    length_counts: Any
    row_us: Any
    other_us: Any
