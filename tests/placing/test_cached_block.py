"""A block behind its cache: what is held out, and what is known beforehand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ripple_place.placing.cached_block import CachedBlock, held_out_row, held_out_token
from ripple_place.trace.activation_trace import ActivationTrace
from tests.trace_builders import block_of, random_activity, unpack


@pytest.mark.parametrize(
    ("n_tokens", "starts", "first"),
    [(80, [0], 70), (80, [0, 10, 50], 50), (80, list(range(0, 80, 5)), 70), (1, [0], 1), (2, [0], 2)],
)
def test_the_last_segments_are_held_out(n_tokens: int, starts: list[int], first: int) -> None:
    """An eighth of the segments; of a single one, of its tokens; nothing where there are too few."""
    active = np.ones((n_tokens, 3), bool)
    trace = ActivationTrace({"layers.0": block_of(active)}, n_tokens, np.array(starts))
    assert (held_out_token(trace), held_out_row(trace, "layers.0")) == (first, first)


def test_rows_of_an_expert() -> None:
    """Rows are held out by their tokens; an expert that saw none of the others is searched as a whole."""
    for tokens, row in (([0, 5, 69, 70, 79], 3), ([71, 75], 2), ([0, 1], 2)):
        block = block_of(np.ones((len(tokens), 3), bool), token_index=tokens)
        assert held_out_row(ActivationTrace({"layers.0": block}, 80, np.array([0])), "layers.0") == row


def test_means_of_both_parts() -> None:
    """Rows searched and held out are charged apart, the cache running on; frequencies come from the former alone."""
    active = random_activity(np.random.default_rng(0), 40, 30, 0.3)
    block = CachedBlock.of("layers.0", block_of(active), 30, 2.0)
    np.testing.assert_array_equal(block.frequency, active[:30].sum(0))
    order = np.arange(30, dtype=np.int32)
    served = block.with_cache("lru", 10).serve(order)
    assert served.searched == served.misses.row_cost[:30].mean()
    assert served.judged == served.held_out == served.misses.row_cost[30:].mean()
    assert (served.searched_total, served.judged_total) == (
        served.misses.row_cost[:30].sum(), served.misses.row_cost[30:].sum(),
    )  # fmt: skip
    assert block.n_judged == 10
    cold = CachedBlock.of("layers.0", block_of(active[30:]), 10, 2.0).with_cache("lru", 10).serve(order)
    assert cold.misses.row_cost[0] > served.misses.row_cost[30]
    whole = CachedBlock.of("layers.0", block_of(active), 40, 2.0)
    assert math.isnan(whole.serve(order).held_out)
    assert whole.serve(order).judged == whole.serve(order).searched
    assert whole.n_judged == 40


def test_shortened() -> None:
    """The last rows searched, all that are held out, and what was known of the neurons."""
    active = random_activity(np.random.default_rng(1), 40, 30, 0.3)
    block = CachedBlock.of("layers.0", block_of(active), 30, 2.0)
    short = block.shortened(12)
    np.testing.assert_array_equal(unpack(short.trace), active[18:])
    assert (short.n_searched, short.n_judged) == (12, 10)
    np.testing.assert_array_equal(short.frequency, block.frequency)
    np.testing.assert_array_equal(unpack(block.shortened(99).trace), active)
    order = np.arange(30, dtype=np.int32)
    assert short.serve(order).held_out == block.serve(order).held_out
