"""Reads from two copies: by hand, against a plain twin, and between the best division and one copy alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.kernels.read_state import RowReads, SlotAccesses
from ripple_place.kernels.two_copies import (
    LONGEST,
    MAX_PASSES,
    TwoCopies,
    mark_short_reads,
    plan_rows_of_two,
    share_of,
)
from tests.reference import read_plan
from tests.reference import two_copies as reference

N_SLOTS = 40


def planned(
    rows: list[list[int]],
    second_slot: list[int],
    gap: int,
    break_even_gap: float,
    *,
    hits: list[int] | None = None,
    max_passes: int = MAX_PASSES,
) -> tuple[list[list[tuple[int, int]]], list[list[bool]]]:
    """Return by row the reads, and for each access whether it is read from the second copy."""
    n = len(second_slot)
    slots = np.array([slot for row in rows for slot in row], np.int32)
    is_hit = np.array(hits if hits is not None else [0] * slots.size, np.uint8)
    row_starts = np.cumsum([0, *map(len, rows)])
    first, last = np.empty((2, slots.size), np.int32)
    starts, from_second = np.empty(len(rows) + 1, np.int64), np.full(slots.size, 7, np.uint8)
    copies = TwoCopies.allocate(n)
    plan_rows_of_two(
        SlotAccesses(slots, row_starts, is_hit), np.array(second_slot, np.int32), gap, break_even_gap, max_passes,
        copies, RowReads(first, last, starts), from_second,
    )  # fmt: skip
    assert (copies.place_at == -1).all()
    reads = [list(zip(first[a:b].tolist(), last[a:b].tolist(), strict=True)) for a, b in pairwise(starts.tolist())]
    return reads, [(from_second[a:b] == 1).tolist() for a, b in pairwise(row_starts.tolist())]


@pytest.mark.parametrize(
    ("row", "second_slot", "reads"),
    [
        ([], [0, 1, 2, 3], []),
        ([2], [3, 2, 1, 0], [(2, 2)]),
        # Far apart in the first copy, adjacent in the second: slots there count on from 10.
        ([0, 5], [4, 0, 1, 2, 3, 5, 6, 7, 8, 9], [(14, 15)]),
        # A run that is good stays; the two loners behind it are together in the second copy.
        ([0, 1, 4, 8], [0, 9, 1, 2, 5, 3, 4, 7, 6, 8], [(0, 1), (15, 16)]),
        # One neuron covers its neighbour's gap in the first copy: nothing to save.
        ([0, 2], [0, 5, 9, 1, 2, 3, 4, 6, 7, 8], [(0, 2)]),
    ],
)
def test_by_hand(row: list[int], second_slot: list[int], reads: list[tuple[int, int]]) -> None:
    """Lambda 2, gap 2."""
    assert planned([row], second_slot, 2, 2.0)[0] == [reads]


def test_what_dram_holds_is_not_read() -> None:
    """Of 0, 5 and 9 the first is in DRAM: the others, together in the second copy only, are read there."""
    reads, from_second = planned([[0, 5, 9]], [0, 2, 3, 4, 5, 8, 6, 7, 1, 9], 2, 2.0, hits=[1, 0, 0])
    assert (reads, from_second) == ([[(18, 19)]], [[False, True, True]])


@given(st.randoms(use_true_random=False), st.integers(0, 9), st.sampled_from([0.0, 0.5, 1.0, 3.0, 6.5]))
@settings(deadline=None, max_examples=60)
def test_between_the_optimum_and_one_copy(random, n_wanted: int, break_even_gap: float) -> None:
    """Every neuron is read, by reads of its copy; the cost is no less than any division's, no more than one copy's."""
    gap = int(break_even_gap)
    second_slot = random.sample(range(N_SLOTS), N_SLOTS)
    row = sorted(random.sample(range(N_SLOTS), n_wanted))
    (reads,), (from_second,) = planned([row], second_slot, gap, break_even_gap)
    wanted = [N_SLOTS + second_slot[slot] if second else slot for slot, second in zip(row, from_second, strict=True)]
    first = [slot for slot in wanted if slot < N_SLOTS]
    assert reads == read_plan.plan(first, gap) + read_plan.plan([slot for slot in wanted if slot >= N_SLOTS], gap)
    cost = sum(break_even_gap + last - first + 1 for first, last in reads)
    pairs = [(slot, second_slot[slot]) for slot in row]
    assert cost >= reference.least_cost(pairs, gap, break_even_gap) - 1e-9
    assert cost <= reference.cost(row, gap, break_even_gap) + 1e-9


def test_near_the_optimum_on_average() -> None:
    """A heuristic that found only a part of what two copies can save would pass the bounds: it finds nearly all."""
    rng = np.random.default_rng(0)
    found = least = alone = 0.0
    for _ in range(40):
        second_slot = rng.permutation(N_SLOTS).tolist()
        row = np.sort(rng.permutation(N_SLOTS)[:10]).tolist()
        (reads,), _ = planned([row], second_slot, 3, 3.0)
        found += sum(3.0 + last - first + 1 for first, last in reads)
        least += reference.least_cost([(slot, second_slot[slot]) for slot in row], 3, 3.0)
        alone += reference.cost(row, 3, 3.0)
    assert alone - found >= 0.9 * (alone - least)


@given(st.randoms(use_true_random=False), st.integers(0, 30), st.sampled_from([(0, 2.5), (2, 2.5), (5, 5.0), (9, 3.0)]))
@settings(deadline=None, max_examples=40)
def test_the_plain_twin(random, n_wanted: int, setting: tuple[int, float]) -> None:
    """The same division as by trying the same moves with every cost computed anew, also with gaps not lambda's own."""
    gap, break_even_gap = setting
    second_slot = random.sample(range(N_SLOTS), N_SLOTS)
    rows = [sorted(random.sample(range(N_SLOTS), n_wanted)) for _ in range(2)]
    _, divisions = planned(rows, second_slot, gap, break_even_gap)
    for row, division in zip(rows, divisions, strict=True):
        pairs = [(slot, second_slot[slot]) for slot in row]
        assert division == reference.divide(pairs, gap, break_even_gap, MAX_PASSES, LONGEST)


def test_a_neurons_share() -> None:
    """What reading it adds to the cost of those that are read, whether it is itself among them or not."""
    rng = np.random.default_rng(1)
    slots = np.sort(rng.permutation(60)[:20]).astype(np.int32)
    for gap, break_even_gap in ((0, 0.0), (0, 4.0), (3, 3.5), (6, 2.0)):
        is_read = (rng.random(20) < 0.6).astype(np.uint8)
        for place in range(20):
            others = [int(slot) for at, slot in enumerate(slots) if is_read[at] and at != place]
            expected = reference.cost([*others, int(slots[place])], gap, break_even_gap)
            expected -= reference.cost(others, gap, break_even_gap)
            found = share_of(slots, is_read, 20, place, gap + 1, break_even_gap + 1)
            assert found == pytest.approx(expected)


def test_short_reads() -> None:
    """Reads of at most so many wanted neurons, gaps not counted; rows do not merge."""
    slots = np.array([0, 1, 2, 9, 12, 30, 1, 4, 7], np.int32)
    is_short = np.full(9, 7, np.uint8)
    mark_short_reads(slots, np.array([0, 6, 6, 9]), 2, 2, is_short)
    assert is_short.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]
