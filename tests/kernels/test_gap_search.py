"""The local search: what it knows at every boundary is true, and what it says it gains it gains."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.kernels import gap_search as kernels
from ripple_place.ordering.flash_time import GapCost
from ripple_place.ordering.neighbors import nearest_by_cosine
from tests.reference import gap_cost as reference
from tests.trace_builders import block_of, planted_clusters, random_activity

LAMBDAS = [0.0, 0.5, 1.0, 2.75, 5.0, 40.0]


class Search:
    """A search whose state can be looked at between sweeps."""

    def __init__(self, active: np.ndarray, break_even_gap: float, order: np.ndarray, max_length: int = 3) -> None:
        self.active, self.order = active, order.astype(np.int32)
        self.cost = GapCost(block_of(active), break_even_gap)
        n_neurons, n_rows = order.size, active.shape[0]
        self.slot_of = np.argsort(self.order).astype(np.int32)
        self.neighbors = nearest_by_cosine(self.cost.bits, 6)
        self.max_length = min(max_length, n_neurons - 1)
        steps = np.arange(2 * (self.cost.cap + self.max_length)) * kernels.SCALE
        self.step_cost = np.minimum(steps, self.cost.limit).astype(np.int64)
        self.left, self.right = np.empty((2, n_neurons + 1, n_rows), np.uint8)
        self.stretch = np.zeros((n_neurons + 1, self.max_length + 1), np.int64)
        self.is_known, self.is_open = np.zeros(n_neurons + 1, np.uint8), np.ones(n_neurons, np.uint8)
        kernels.refresh_boundaries(
            self.order, -1, n_neurons, self.cost.cap, self.cost.indptr, self.cost.tokens,
            self.left, self.right, self.is_known,
        )  # fmt: skip

    def sweep(self) -> tuple[int, int]:
        """Return moves and gain of one sweep."""
        moves, gain = kernels.search_sweep(
            self.order, self.slot_of, self.is_open, self.neighbors, self.cost.indptr, self.cost.tokens, self.cost.cap,
            self.max_length, self.step_cost, self.left, self.right, self.stretch, self.is_known,
        )  # fmt: skip
        return int(moves), int(gain)

    def check_boundaries(self) -> None:
        """Compare the distances at every boundary with those counted directly."""
        cap = self.cost.cap
        for slot in range(-1, self.order.size):
            boundary = self.order.size if slot < 0 else self.order[slot]
            for found, expected in zip(
                (self.left[boundary], self.right[boundary]),
                reference.distances(self.active.tolist(), self.order.tolist(), slot),
                strict=True,
            ):
                assert found.tolist() == [cap if far is None else min(far, cap) for far in expected]


@pytest.mark.parametrize("break_even_gap", LAMBDAS)
def test_the_cost_is_that_of_the_reads(break_even_gap: float) -> None:
    """Steps between consecutive active slots add up to what reads, gaps and neurons cost."""
    rng = np.random.default_rng(0)
    active = random_activity(rng, 30, 23, 0.3)
    order = rng.permutation(23).astype(np.int32)
    cost = GapCost(block_of(active), break_even_gap)
    assert cost(order) == pytest.approx(reference.gap_cost(active.tolist(), order.tolist(), break_even_gap))


@pytest.mark.parametrize("break_even_gap", LAMBDAS)
@pytest.mark.parametrize("seed", range(4))
def test_every_sweep_gains_what_it_says(break_even_gap: float, seed: int) -> None:
    """The gain is exact, boundaries stay true, and the order stays a permutation, whatever moves were made."""
    rng = np.random.default_rng(seed)
    active = planted_clusters(rng, n_clusters=4, cluster_size=5, n_rows=60)[0]
    search = Search(active, break_even_gap, rng.permutation(20))
    before = search.cost(search.order)
    for _ in range(8):
        moves, gain = search.sweep()
        after = search.cost(search.order)
        assert before - after == pytest.approx(gain / kernels.SCALE / active.shape[0])
        assert gain >= 0
        assert (gain > 0) == (moves > 0)
        assert sorted(search.order) == list(range(20))
        assert search.order[search.slot_of].tolist() == list(range(20))
        search.check_boundaries()
        before = after
        if moves == 0:
            break
    else:
        pytest.fail("a search of twenty neurons ends within eight sweeps")


def test_clusters_come_together() -> None:
    """Neurons of a planted cluster that lie scattered end up side by side: nearly one read for each active cluster."""
    rng = np.random.default_rng(1)
    active = np.repeat(rng.random((300, 6)) < 0.3, 4, axis=1)
    search = Search(active, 2.0, rng.permutation(24), max_length=4)
    while search.sweep()[0]:
        pass
    best = reference.gap_cost(active.tolist(), list(range(24)), 2.0)
    assert search.cost(search.order) <= 1.02 * best


def test_list_tokens() -> None:
    """Tokens are listed by neuron, ascending, also in the last bit of a word and past the first word."""
    active = np.zeros((130, 3), bool)
    active[[0, 63, 64, 129], 1] = True
    active[5, 2] = True
    cost = GapCost(block_of(active), 1.0)
    assert cost.indptr.tolist() == [0, 0, 4, 5]
    assert cost.tokens.tolist() == [0, 63, 64, 129, 5]
