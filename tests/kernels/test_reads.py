"""The read kernels against their plain twin, and by hand on four neurons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.kernels.read_state import Ceiling, PagedExtent, ReadCharges, RequestTimes, RowReads, SlotAccesses
from ripple_place.kernels.reads import (
    N_FORMS,
    N_TOTALS,
    charge_reads,
    pages_of_read,
    plan_reads,
    plan_rows,
    slots_in_order,
)
from tests.reference import read_plan


def planned(slots: list[int], gap: int) -> list[tuple[int, int]]:
    """Return the kernel's plan as pairs."""
    array = np.array(slots, np.int32)
    first, last = np.empty_like(array), np.empty_like(array)
    n_reads = plan_reads(array, gap, first, last)
    return list(zip(first[:n_reads].tolist(), last[:n_reads].tolist(), strict=True))


@pytest.mark.parametrize(
    ("slots", "gap", "reads"),
    [
        ([], 3, []),
        ([2], 0, [(2, 2)]),
        ([0, 1, 3], 0, [(0, 1), (3, 3)]),
        ([0, 1, 3], 1, [(0, 3)]),
        ([0, 3], 1, [(0, 0), (3, 3)]),
        ([0, 3], 2, [(0, 3)]),
        ([0, 3], 99, [(0, 3)]),
    ],
)
def test_plans_of_four_neurons(slots: list[int], gap: int, reads: list[tuple[int, int]]) -> None:
    """A gap of exactly `gap` merges, one more does not: the definition, worked out by hand."""
    assert planned(slots, gap) == reads == read_plan.plan(slots, gap)


slot_sets = st.sets(st.integers(0, 300), max_size=40).map(sorted)


@given(slot_sets, st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_plan_equals_its_twin_and_loses_nothing(slots: list[int], gap: int) -> None:
    """Every wanted slot is in exactly one read, and a larger gap never makes more reads: coalescing only merges."""
    reads = planned(slots, gap)
    assert reads == read_plan.plan(slots, gap)
    assert all(sum(first <= slot <= last for first, last in reads) == 1 for slot in slots)
    assert len(planned(slots, gap + 1)) <= len(reads) <= len(planned(slots, 0)) <= len(slots)


@given(
    st.integers(0, 5),
    st.integers(0, 4),
    st.sampled_from([96, 4096, 6912, 8192]),
    st.sampled_from([0, 32, 1300]),
    st.sampled_from([0, 512, 4096, 4100]),
)
@settings(max_examples=40, deadline=None)
def test_pages_equal_the_twin(first: int, length: int, bundle: int, padding: int, base: int) -> None:
    """The closed form counts the pages that hold any byte of the read, aligned or not."""
    stride = bundle + padding
    last = first + length
    assert pages_of_read(first, last, bundle, stride, base, 4096) == len(
        read_plan.pages(first, last, bundle, stride, base, 4096)
    )


@pytest.mark.parametrize("n_neurons", [1, 63, 64, 65, 130])
def test_slots_are_listed_in_ascending_order(n_neurons: int) -> None:
    """Bits by neuron become slots by row, sorted, also where the last word is partly filled; scratch ends empty."""
    rng = np.random.default_rng(n_neurons)
    active = rng.random((5, n_neurons)) < 0.3
    active[1], active[2] = False, True
    order = rng.permutation(n_neurons).astype(np.int32)
    n_words = -(-n_neurons // 64)
    packed = np.zeros((5, 8 * n_words), np.uint8)
    bits = np.packbits(active, axis=1, bitorder="little")
    packed[:, : bits.shape[1]] = bits
    slots, row_starts = np.empty(5 * n_neurons, np.int32), np.empty(6, np.int64)
    slot_words = np.zeros(n_words, np.uint64)
    slot_of = np.argsort(order).astype(np.int32)
    slots_in_order(packed.view("<u8"), slot_of, slot_words, slots, row_starts)
    for row in range(5):
        expected = np.flatnonzero(active[row][order])
        assert slots[row_starts[row] : row_starts[row + 1]].tolist() == expected.tolist()
    assert not slot_words.any()


@given(st.lists(slot_sets, max_size=4), st.integers(0, 8), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_rows_are_planned_apart_and_without_hits(rows: list[list[int]], gap: int, seed: int) -> None:
    """Each row's plan is that of its misses alone: reads of two tokens never merge."""
    rng = np.random.default_rng(seed)
    hits = [rng.random(len(slots)) < 0.3 for slots in rows]
    slots = np.array([slot for row in rows for slot in row], np.int32)
    row_starts = np.cumsum([0, *map(len, rows)])
    accesses = SlotAccesses(slots, row_starts, np.concatenate([*hits, []]).astype(np.uint8))
    first, last, read_starts = np.empty_like(slots), np.empty_like(slots), np.empty(len(rows) + 1, np.int64)
    plan_rows(accesses, gap, RowReads(first, last, read_starts))
    for row, (wanted, is_hit) in enumerate(zip(rows, hits, strict=True)):
        reads = slice(read_starts[row], read_starts[row + 1])
        missed = [slot for slot, hit in zip(wanted, is_hit, strict=True) if not hit]
        assert list(zip(first[reads].tolist(), last[reads].tolist(), strict=True)) == read_plan.plan(missed, gap)


@given(slot_sets, st.integers(0, 8), st.sampled_from([4096, 6912]), st.sampled_from([4096, 8192, 12288]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_charges_equal_the_twin(slots: list[int], gap: int, bundle: int, max_request: int, is_ceiling: bool) -> None:
    """Reads, requests, pages, lengths and the three times of one row equal those of the obvious code."""
    n_neurons, page = 301, 4096
    form_us = np.arange(max_request // page + 1) * 1.5 + 7
    times = RequestTimes(form_us, form_us * 2, Ceiling(8.0, 3.0, is_ceiling))
    totals, counts = np.zeros(N_TOTALS, np.int64), np.zeros(n_neurons + 1, np.int64)
    row_us, other_us = np.zeros(1), np.zeros(N_FORMS)
    reads = read_plan.plan(slots, gap)
    first, last = (np.array([read[side] for read in reads], np.int32) for side in (0, 1))
    charge_reads(
        RowReads(first, last, np.array([0, len(reads)])), PagedExtent(bundle, bundle, 0, 0, page), times,
        ReadCharges(totals, counts, row_us, other_us),
    )  # fmt: skip
    requests = [
        size for first, last in reads for size in read_plan.requests(first, last, bundle, bundle, 0, page, max_request)
    ]
    lengths = [last - first + 1 for first, last in reads]
    assert totals.tolist() == [len(reads), sum(lengths), len(requests), sum(requests) // page]
    assert np.repeat(np.arange(n_neurons + 1), counts).tolist() == sorted(lengths)
    time_us = sum(form_us[size // page] for size in requests)
    ceiling_us = max(8.0 * len(requests), 3.0 * sum(requests) // page)
    assert row_us[0] == pytest.approx(ceiling_us if is_ceiling else time_us)
    assert other_us.tolist() == pytest.approx([2 * time_us, ceiling_us])
