"""Ordering what a cache leaves: never worse than what there was, and better where the cache leaves something else."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.flash.read_cost import ReadCost
from ripple_place.ordering.activity import Activity
from ripple_place.ordering.registry import ORDERINGS, plain_orderings
from ripple_place.placing.cached_block import CachedBlock
from ripple_place.placing.dram.misses import order_behind_cache, put_back, silent_last
from ripple_place.placing.orderer import BlockOrderer
from ripple_place.placing.search_clock import SearchClock
from ripple_place.trace.split_block import SplitBlock
from tests.trace_builders import block_of, planted_clusters


def search_misses(break_even_gap: float, effort: int = 4):
    """Return what orders misses by search, as `reorder` does."""
    return orderer(break_even_gap, effort).misses_by(ORDERINGS["flash-time"])


def orderer(break_even_gap: float, effort: int = 4) -> BlockOrderer:
    """Return what makes the orders of a block, with time without end."""
    return BlockOrderer(ReadCost.by_line(break_even_gap), effort, (0, 0), SearchClock(1))


def hot_neurons_between(rng: np.random.Generator, n_rows: int) -> np.ndarray:
    """Return activity of six clusters of six, and of twelve neurons that fire half of the time, scattered."""
    active = planted_clusters(rng, n_clusters=8, cluster_size=6, n_rows=n_rows)[0]
    hot = rng.permutation(48)[:12]
    active[:, hot] |= rng.random((n_rows, 12)) < 0.5
    return active


@pytest.mark.parametrize("policy", ["lru", "s3fifo", "greedydual", "pinned", "pinned+lru"])
def test_never_worse_than_the_plain_orders_behind_the_same_cache(policy: str) -> None:
    """On the tokens held out, whatever the policy; and what is returned is what was measured."""
    rng = np.random.default_rng(3)
    block = CachedBlock.of_rows(
        "layers.0", SplitBlock(block_of(hot_neurons_between(rng, 600)), 480), ReadCost.by_line(4.0)
    ).with_cache(policy, 20)
    plain = orderer(4.0).plain(Activity.of_rows(block.rows))
    best, tried = order_behind_cache(block, plain, search_misses(4.0))
    *first, next_tried = [candidate.name for candidate in tried][: len(plain_orderings()) + 1]
    assert first == plain_orderings()
    if policy.startswith("pinned"):
        assert next_tried in [f"{name}, pinned by worth" for name in first]
    else:
        assert next_tried == "misses 1"
    assert best.served.held_out == min(candidate.served.held_out for candidate in tried)
    assert best.served.held_out == block.serve(best.order, best.pinned).held_out
    assert sorted(best.order) == list(range(48))
    assert best.name.startswith("misses") or not policy.startswith("pinned")
    assert (best.pinned is None) == (not policy.startswith("pinned"))


def test_pinned_neurons_lie_out_of_the_way() -> None:
    """No read goes through them: they are behind all that is read."""
    rng = np.random.default_rng(4)
    block = CachedBlock.of_rows(
        "layers.0", SplitBlock(block_of(hot_neurons_between(rng, 600)), 480), ReadCost.by_line(4.0)
    ).with_cache("pinned", 12)
    plain = {"original": np.arange(48, dtype=np.int32)}
    best, _ = order_behind_cache(block, plain, search_misses(4.0))
    assert best.name.startswith("misses")
    assert best.pinned is not None
    assert set(best.order[-12:]) == set(best.pinned)


def test_without_a_way_to_order_misses_the_best_plain_order_stays() -> None:
    """Random and original orders do not look at activations."""
    block = CachedBlock.of_rows(
        "layers.0", SplitBlock(block_of(hot_neurons_between(np.random.default_rng(5), 100)), 80), ReadCost.by_line(4.0)
    )
    order = np.arange(48, dtype=np.int32)
    best, tried = order_behind_cache(block.with_cache("lru", 5), {"original": order}, None)
    assert (best.name, len(tried)) == ("original", 1)
    pinned, tried = order_behind_cache(block.with_cache("pinned", 5), {"original": order}, None)
    assert [candidate.name for candidate in tried] == ["original", "original, pinned by worth"]
    assert pinned.order.tolist() == order.tolist()


def test_greedy_on_the_misses() -> None:
    """Any ordering of activations orders misses as well, without search."""
    rng = np.random.default_rng(6)
    block = CachedBlock.of_rows(
        "layers.0", SplitBlock(block_of(hot_neurons_between(rng, 800)), 640), ReadCost.by_line(4.0)
    ).with_cache("pinned", 12)
    greedy = orderer(4.0).make(ORDERINGS["greedy"], Activity.of_rows(block.rows)).order
    best, tried = order_behind_cache(block, {"greedy": greedy}, orderer(4.0).misses_by(ORDERINGS["greedy"]))
    assert best.served.held_out < tried[0].served.held_out


@pytest.mark.parametrize(
    ("active", "capacity"),
    [
        (np.zeros((10, 6), bool), 2),
        (np.ones((10, 6), bool), 6),
        (np.ones((10, 6), bool), 0),
        (np.ones((1, 6), bool), 2),
        (np.ones((0, 6), bool), 2),
        (np.ones((10, 1), bool), 1),
    ],
    ids=["none fires", "all in DRAM", "no DRAM", "one token", "no token", "one neuron"],
)
@pytest.mark.parametrize("policy", ["lru", "pinned", "s3fifo", "greedydual", "pinned+lru"])
def test_degenerate_blocks(active: np.ndarray, capacity: int, policy: str) -> None:
    """A valid placement comes out of each, with everything searched or a row held out."""
    n_rows, n_neurons = active.shape
    plain = {"original": np.arange(n_neurons, dtype=np.int32)}
    for n_searched in {n_rows, max(0, n_rows - 1)}:
        block = CachedBlock.of_rows(
            "layers.0", SplitBlock(block_of(active), n_searched), ReadCost.by_line(3.0)
        ).with_cache(policy, capacity)
        best, _ = order_behind_cache(block, plain, search_misses(3.0))
        assert sorted(best.order) == list(range(n_neurons))


def test_silent_neurons_last_never_costs() -> None:
    """Distances between those that are read only shrink; back among them, each lies behind its old predecessor."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        order, pinned = rng.permutation(15).astype(np.int32), np.flatnonzero(rng.random(15) < 0.4)
        is_read = np.ones(15, bool)
        is_read[pinned] = False
        moved = silent_last(order, is_read)
        assert sorted(moved) == list(range(15))
        assert [n for n in moved if is_read[n]] == [n for n in order if is_read[n]]
        assert put_back(moved, pinned, order).tolist() == order.tolist()
