"""Reads of an order by length, against reads written down one by one."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.flash.read_cost import ReadCost
from ripple_place.ordering.flash_cost import FlashCost
from tests.reference.gap_cost import reads_of
from tests.trace_builders import block_of, random_activity


@pytest.mark.parametrize("gap", [0, 1, 3, 30])
def test_reads_by_length(gap: int) -> None:
    """Every read of every token is counted once, under its length."""
    rng = np.random.default_rng(gap)
    active = random_activity(rng, 40, 25, 0.25)
    order = rng.permutation(25).astype(np.int32)
    counts = np.zeros(26, np.int64)
    for row in active.tolist():
        for first, last in reads_of(row, order.tolist(), gap):
            counts[last - first + 1] += 1
    cost = FlashCost(block_of(active), ReadCost(0.0, gap))
    assert cost.read_lengths(order).tolist() == counts.tolist()


def test_list_tokens() -> None:
    """Tokens are listed by neuron, ascending, also in the last bit of a word and past the first word."""
    active = np.zeros((130, 3), bool)
    active[[0, 63, 64, 129], 1] = True
    active[5, 2] = True
    cost = FlashCost(block_of(active), ReadCost.by_line(1.0))
    assert cost.indptr.tolist() == [0, 0, 4, 5]
    assert cost.tokens.tolist() == [0, 63, 64, 129, 5]
