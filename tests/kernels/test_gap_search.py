"""The local search: what it knows at every boundary is true, and what it says it gains it gains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.flash.read_cost import ReadCost
from ripple_place.kernels import gap_search, gap_state
from ripple_place.ordering.flash_cost import FlashCost
from ripple_place.ordering.flash_time import search_moves, search_state
from ripple_place.ordering.neighbors import nearest_by_cosine
from tests.reference import gap_cost as reference
from tests.trace_builders import block_of, planted_clusters, random_activity

LAMBDAS = [0.0, 0.5, 1.0, 2.75, 5.0, 40.0]


class Search:
    """A search whose state can be looked at between moves."""

    def __init__(self, active: np.ndarray, break_even_gap: float, order: np.ndarray, max_length: int = 3) -> None:
        self.active = active
        self.line = FlashCost(block_of(active), ReadCost.by_line(break_even_gap))
        self.neighbors = nearest_by_cosine(self.line.bits, 6)
        self.max_length = min(max_length, order.size - 1)
        self.state = search_state(order.astype(np.int32), self.line, break_even_gap)
        self.moves = search_moves(order.size, 8)

    def cost_units(self) -> float:
        """Return what the order costs over all tokens."""
        return self.line(self.state.order) * self.line.n_rows * gap_state.SCALE

    def improve(self, n_steps: int = 1 << 30) -> int:
        """Return what so many steps say they gain."""
        return int(gap_search.improve(self.state, self.moves, self.neighbors, self.max_length, n_steps))

    def kick(self, kicks: np.ndarray) -> int:
        """Return what kicks say they gain."""
        return int(gap_search.kick(self.state, self.moves, self.neighbors, self.max_length, kicks))

    def check(self) -> None:
        """Compare all that is known with what the order says."""
        state, n_neurons = self.state, self.state.order.size
        assert sorted(state.order) == list(range(n_neurons))
        assert state.order[state.slot_of].tolist() == list(range(n_neurons))
        assert sorted(state.edge_at) == list(range(n_neurons + 1))
        for position in range(n_neurons + 1):
            left, right = reference.distances(self.active.tolist(), state.order.tolist(), position - 1)
            for row, expected in ((gap_state.left_row, left), (gap_state.right_row, right)):
                found = row(state, position)
                assert found[: len(expected)].tolist() == [
                    state.cap if far is None else min(far, state.cap) for far in expected
                ]
                assert (found[len(expected) :] == state.cap).all()
            edge = state.edge_at[position]
            if state.is_known[edge]:
                known = state.saving[edge].copy()
                state.is_known[edge] = 0
                assert gap_state.junction_saved(state, position).tolist() == known.tolist()


@pytest.mark.parametrize("break_even_gap", LAMBDAS)
@pytest.mark.parametrize("seed", range(4))
def test_every_step_gains_what_it_says(break_even_gap: float, seed: int) -> None:
    """The gain is exact, rows stay true, and the order stays a permutation, whatever moves were made."""
    rng = np.random.default_rng(seed)
    active = planted_clusters(rng, n_clusters=4, cluster_size=5, n_rows=70)[0]
    search = Search(active, break_even_gap, rng.permutation(20))
    before = search.cost_units()
    while search.moves.span[0] < search.moves.span[1]:
        gain = search.improve(5)
        after = search.cost_units()
        assert gain >= 0
        assert before - after == pytest.approx(gain)
        search.check()
        before = after


@pytest.mark.parametrize("break_even_gap", LAMBDAS)
@pytest.mark.parametrize("seed", range(3))
def test_kicks_gain_what_they_say_and_are_taken_back_if_they_do_not(break_even_gap: float, seed: int) -> None:
    """Each kick either lowers the cost by what it says or leaves the order as it was, rows included."""
    rng = np.random.default_rng(seed)
    active = planted_clusters(rng, n_clusters=4, cluster_size=6, n_rows=70)[0]
    search = Search(active, break_even_gap, rng.permutation(24))
    search.improve()
    gains = []
    for _ in range(25):
        order, before = search.state.order.copy(), search.cost_units()
        kick = np.array([[rng.integers(24), rng.integers(1, 9), rng.integers(1, 9)]])
        gains.append(search.kick(kick))
        assert before - search.cost_units() == pytest.approx(gains[-1], abs=1e-6)
        if gains[-1] < 0 or kick.sum() > 24:
            assert (search.state.order == order).all()
        search.check()
    assert min(gains) >= 0


@given(st.integers(0, 2**32 - 1), st.sampled_from(LAMBDAS))
@settings(max_examples=40, deadline=None)
def test_moves_can_be_undone(seed: int, break_even_gap: float) -> None:
    """Moving a segment there and back, and reversing a stretch twice, restores order and rows."""
    rng = np.random.default_rng(seed)
    search = Search(random_activity(rng, 20, 13, 0.3), break_even_gap, rng.permutation(13))
    state, order = search.state, search.state.order.copy()
    start = int(rng.integers(0, 12))
    end = int(rng.integers(start + 1, min(start + 4, 13) + 1))
    position = int(rng.choice([*range(start), *range(end + 1, 14)] or [-1]))
    if position >= 0:
        is_reversed = bool(rng.integers(2))
        new_start = gap_state.move_segment(state, start, end, position, is_reversed, search.moves.scratch)
        gap_state.refresh(state, new_start, new_start + end - start)
        old = start if position > end else end
        gap_state.refresh(state, old, old)
        search.check()
        moved = order[start:end][::-1] if is_reversed else order[start:end]
        assert state.order[new_start : new_start + end - start].tolist() == moved.tolist()
        back = start if position > end else end
        gap_state.move_segment(state, new_start, new_start + end - start, back, is_reversed, search.moves.scratch)
        gap_state.refresh(state, start, end)
        gap_state.refresh(state, position, position)
        assert (state.order == order).all()
        search.check()
    first, last = sorted(rng.integers(0, 14, 2).tolist())
    for _ in range(2):
        gap_state.reverse_stretch(state, first, last)
        gap_state.refresh(state, first, first)
        gap_state.refresh(state, last, last)
        search.check()
    assert (state.order == order).all()


def test_clusters_come_together() -> None:
    """Neurons of a planted cluster that lie scattered end up side by side: nearly one read for each active cluster."""
    rng = np.random.default_rng(1)
    active = np.repeat(rng.random((300, 6)) < 0.3, 4, axis=1)
    search = Search(active, 2.0, rng.permutation(24), max_length=4)
    search.improve()
    best = reference.gap_cost(active.tolist(), list(range(24)), 2.0)
    assert search.line(search.state.order) <= 1.02 * best
