"""What to pin: by frequency as a start, then what saves most."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.flash.read_cost import ReadCost
from ripple_place.placing.cached_block import CachedBlock
from ripple_place.placing.dram.pinning import hottest_pinned, improve_pinned, pins
from ripple_place.trace.split_block import SplitBlock
from tests.trace_builders import block_of, planted_clusters


def test_a_lone_neuron_is_worth_more_than_a_hotter_one_in_a_run() -> None:
    """Neurons 0 to 9 fire together in half of the rows, 30 alone in a third: pinning that saves whole reads."""
    active = np.zeros((60, 40), bool)
    active[::2, :10] = True
    active[::3, 30] = True
    block = CachedBlock.of_rows("layers.0", SplitBlock(block_of(active), 60), ReadCost.by_line(5.0)).with_cache(
        "pinned", 1
    )
    order = np.arange(40, dtype=np.int32)
    hottest = hottest_pinned(block)
    assert hottest.tolist() == [0]
    better = improve_pinned(block, order, hottest)
    assert better.tolist() == [30]
    assert block.serve(order, better).searched < block.serve(order, hottest).searched


@pytest.mark.parametrize("policy", ["pinned", "pinned+lru"])
@pytest.mark.parametrize("seed", range(3))
def test_never_worse_and_never_larger(policy: str, seed: int) -> None:
    """Whatever the order and the rest of the policy: the same number of neurons, at no higher cost."""
    rng = np.random.default_rng(seed)
    active = planted_clusters(rng, n_clusters=6, cluster_size=10, n_rows=120)[0]
    block = CachedBlock.of_rows("layers.0", SplitBlock(block_of(active), 100), ReadCost.by_line(4.0)).with_cache(
        policy, 12
    )
    order = rng.permutation(60).astype(np.int32)
    start = hottest_pinned(block)
    better = improve_pinned(block, order, start)
    assert better.size == start.size == (12 if policy == "pinned" else 6)
    assert (np.diff(better) > 0).all()
    assert block.serve(order, better).searched <= block.serve(order, start).searched
    assert pins(policy)
    assert not pins("lru")


@pytest.mark.parametrize("capacity", [0, 9])
def test_none_or_all(capacity: int) -> None:
    """There is nothing to exchange."""
    block = CachedBlock.of_rows(
        "layers.0", SplitBlock(block_of(np.ones((4, 9), bool)), 4), ReadCost.by_line(2.0)
    ).with_cache("pinned", capacity)
    start = hottest_pinned(block)
    assert improve_pinned(block, np.arange(9, dtype=np.int32), start).tolist() == start.tolist()
