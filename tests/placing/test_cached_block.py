"""A block behind its cache: what is held out, and what is known beforehand."""

from __future__ import annotations

import math

import numpy as np

from ripple_place.flash.read_cost import ReadCost
from ripple_place.placing.cached_block import CachedBlock
from ripple_place.trace.split_block import SplitBlock
from tests.trace_builders import block_of, random_activity, unpack


def test_means_of_both_parts() -> None:
    """Rows searched and held out are charged apart, the cache running on; frequencies come from the former alone."""
    active = random_activity(np.random.default_rng(0), 40, 30, 0.3)
    block = CachedBlock.of_rows("layers.0", SplitBlock(block_of(active), 30), ReadCost.by_line(2.0))
    np.testing.assert_array_equal(block.frequency, active[:30].sum(0))
    order = np.arange(30, dtype=np.int32)
    served = block.with_cache("lru", 10).serve(order)
    assert served.searched == served.misses.row_cost[:30].mean()
    assert served.judged == served.held_out == served.misses.row_cost[30:].mean()
    assert (served.searched_total, served.judged_total) == (
        served.misses.row_cost[:30].sum(), served.misses.row_cost[30:].sum(),
    )  # fmt: skip
    assert block.rows.n_judging == 10
    cold = (
        CachedBlock.of_rows("layers.0", SplitBlock(block_of(active[30:]), 10), ReadCost.by_line(2.0))
        .with_cache("lru", 10)
        .serve(order)
    )
    assert cold.misses.row_cost[0] > served.misses.row_cost[30]
    whole = CachedBlock.of_rows("layers.0", SplitBlock(block_of(active), 40), ReadCost.by_line(2.0))
    assert math.isnan(whole.serve(order).held_out)
    assert whole.serve(order).judged == whole.serve(order).searched
    assert whole.rows.n_judging == 40


def test_shortened() -> None:
    """The last rows searched, all that are held out, and what was known of the neurons."""
    active = random_activity(np.random.default_rng(1), 40, 30, 0.3)
    block = CachedBlock.of_rows("layers.0", SplitBlock(block_of(active), 30), ReadCost.by_line(2.0))
    short = block.shortened(12)
    np.testing.assert_array_equal(unpack(short.trace), active[18:])
    assert (short.rows.n_searched, short.rows.n_judging) == (12, 10)
    np.testing.assert_array_equal(short.frequency, block.frequency)
    np.testing.assert_array_equal(unpack(block.shortened(99).trace), active)
    order = np.arange(30, dtype=np.int32)
    assert short.serve(order).held_out == block.serve(order).held_out
