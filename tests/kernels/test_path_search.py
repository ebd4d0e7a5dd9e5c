"""Lin-Kernighan chains: what they say they gain they gain, and what is taken back is as it was."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.kernels import path_search as kernels
from tests.kernels.test_one_tree import symmetric
from tests.trace_builders import bits_of, random_activity

NO_COUNTS = np.empty((0, 0), np.int32)


def length_of(tour: np.ndarray, counts: np.ndarray, penalty: np.ndarray, scale: int) -> int:
    """Return a tour's length; the last node is the one that never fires."""
    n = len(counts)
    padded = np.zeros((n + 1, n + 1), int)
    padded[:n, :n] = counts
    return sum(
        int(penalty[i] + penalty[j] - scale * padded[i, j]) for i, j in zip(tour, np.roll(tour, -1), strict=True)
    )


class Tour:
    """A search on a random tour, whose state can be looked at."""

    def __init__(self, counts: np.ndarray, n_candidates: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.counts, n = counts, len(counts)
        self.tour = self.rng.permutation(n + 1).astype(np.int32)
        self.slot_of = np.argsort(self.tour).astype(np.int32)
        self.penalty = np.append(self.rng.integers(-20, 20, n), 0)
        self.candidates = np.array(
            [self.rng.permutation(np.delete(np.arange(n + 1), i))[:n_candidates] for i in range(n + 1)], np.int32
        )
        self.journal = np.empty((kernels.JOURNAL_SIZE, 2), np.int32)
        self.bits = np.empty((0, 0), np.uint64)
        self.table = counts

    def arguments(self) -> tuple[kernels.Tour, kernels.Edges]:
        """Return what both kernels take."""
        tour = kernels.Tour(self.tour, self.slot_of, self.journal)
        return tour, kernels.Edges(self.candidates, self.table, self.bits, self.penalty, 3)

    def length(self) -> int:
        """Return the tour's length, after checking that it is one."""
        assert sorted(self.tour) == list(range(self.tour.size))
        assert self.tour[self.slot_of].tolist() == list(range(self.tour.size))
        return length_of(self.tour, self.counts, self.penalty, 3)

    def kick(self, n_kicks: int) -> int:
        """Perturb at random places; return the gain."""
        size = self.tour.size
        draws = np.empty((n_kicks, 4), np.int64)
        draws[:, 0] = self.rng.integers(0, size, n_kicks)
        draws[:, 1:] = self.rng.integers(1, (size - 1) // 3 + 1, (n_kicks, 3))
        return int(kernels.perturb(draws, *self.arguments()))


@pytest.mark.parametrize(("n", "n_candidates"), [(3, 3), (4, 2), (7, 5), (25, 6), (60, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_the_gain_is_true(n: int, n_candidates: int, seed: int) -> None:
    """Settling and perturbing shorten the tour by what they return, never lengthen it, and leave a tour."""
    tour = Tour(symmetric(np.random.default_rng(seed), n, 30), n_candidates, seed)
    before = tour.length()
    gain = kernels.settle_all(*tour.arguments())
    settled = tour.length()
    assert before - settled == gain >= 0
    for _ in range(3):
        gain = tour.kick(5)
        after = tour.length()
        assert settled - after == gain >= 0
        settled = after


def test_a_kick_that_does_not_help_is_taken_back() -> None:
    """On a chain that is already the best tour every double bridge is undone: the tour is the same, up to direction."""
    n = 30
    counts = np.zeros((n, n), np.int32)
    for i in range(n - 1):
        counts[i, i + 1] = counts[i + 1, i] = 10 + i
    tour = Tour(counts, 4, 0)
    tour.tour[:] = np.arange(n + 1)
    tour.slot_of[:] = np.arange(n + 1)
    tour.penalty[:] = 0
    assert tour.kick(40) == 0
    way = np.roll(tour.tour, -tour.slot_of[0])
    assert way.tolist() in (list(range(n + 1)), [0, *range(n, 0, -1)])


def test_a_full_journal_ends_the_search_but_not_the_tour() -> None:
    """Where no flip more can be written down, none is made."""
    tour = Tour(symmetric(np.random.default_rng(5), 40, 50), 8, 5)
    tour.journal = np.empty((kernels.MAX_DEPTH + 6, 2), np.int32)
    before = tour.length()
    gain = tour.kick(10)
    assert before - tour.length() == gain >= 0


def test_pairs_counted_as_needed() -> None:
    """Without a table the bits are counted: the same tour."""
    active = random_activity(np.random.default_rng(1), 90, 30, 0.3)
    counts = active.T.astype(np.int32) @ active.astype(np.int32)
    np.fill_diagonal(counts, 0)
    tours = []
    for with_table in (True, False):
        tour = Tour(counts, 6, 2)
        if not with_table:
            tour.table, tour.bits = NO_COUNTS, bits_of(active).words
        kernels.settle_all(*tour.arguments())
        tour.kick(10)
        tours.append(tour.tour.tolist())
    assert tours[0] == tours[1]
