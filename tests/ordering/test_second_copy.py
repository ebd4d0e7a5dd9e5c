"""The second order: made for what the first leaves over, and what a reader of both copies then pays."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ripple_place.flash.read_cost import ReadCost
from ripple_place.ordering.flash_cost import FlashCost
from ripple_place.ordering.flash_time import FlashTimeParams
from ripple_place.ordering.second_copy import divide, second_order, short_reads
from ripple_place.trace.activation_trace import BlockTrace
from tests.reference import two_copies as reference
from tests.trace_builders import block_of, planted_chain, random_activity, unpack


def two_chains(rng: np.random.Generator, n_neurons: int, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return activity in which each token fires two pairs, one that follows in each of two hidden orders; the first."""
    first, order = planted_chain(rng, n_neurons, n_rows)
    second, _ = planted_chain(rng, n_neurons, n_rows)
    return first | second, order.astype(np.int32)


def test_the_cost_of_a_division() -> None:
    """Row by row what the plain twin pays, and never more than the first copy alone; what the second is read for."""
    rng = np.random.default_rng(0)
    active = random_activity(rng, 40, 30, 0.2)
    order, order_2 = (rng.permutation(30).astype(np.int32) for _ in range(2))
    block = block_of(active)
    division = divide(block, order, order_2, ReadCost.by_line(2.5))
    slot_of, slot_of_2 = np.argsort(order), np.argsort(order_2)
    total, n_second = 0.0, 0
    for row in active:
        pairs = sorted((int(slot_of[neuron]), int(slot_of_2[neuron])) for neuron in np.flatnonzero(row))
        from_second = reference.divide(pairs, 2, 2.5, 3, 8)
        total += reference.cost_of(from_second, pairs, 2, 2.5)
        n_second += sum(from_second)
    assert division.cost == pytest.approx(total / 40)
    assert division.cost < FlashCost(block, ReadCost.by_line(2.5))(order)
    assert division.reads < FlashCost(block, ReadCost.by_line(2.5)).reads(order)
    kept = unpack(division.from_second)
    assert kept.sum() == n_second > 0
    assert not (kept & ~active).any()
    # A second copy in the first one's order is worth nothing.
    assert divide(block, order, order, ReadCost.by_line(2.5)).cost == pytest.approx(
        FlashCost(block, ReadCost.by_line(2.5))(order)
    )


def test_what_short_reads_hold() -> None:
    """Reads of four wanted neurons or more are the first copy's, whatever their order; the others are left over."""
    block = block_of(np.array([[1, 1, 0, 1, 1, 0, 0, 0, 1, 0], [1, 1, 0, 1, 0, 0, 0, 0, 1, 1]]))
    left = unpack(short_reads(block, np.arange(10, dtype=np.int32), 1)).astype(int)
    assert left.tolist() == [[0, 0, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 0, 1, 0, 0, 0, 0, 1, 1]]
    turned = unpack(short_reads(block, np.arange(9, -1, -1, dtype=np.int32), 1)).astype(int)
    assert turned.tolist() == left.tolist()


def test_a_second_order_serves_what_the_first_cannot() -> None:
    """Pairs of two hidden orders: the first copy has the one, the second finds the other, on tokens not seen, too."""
    rng = np.random.default_rng(3)
    active, order = two_chains(rng, 40, 1200)
    seen, unseen = block_of(active[:800]), block_of(active[800:])
    order_2 = second_order(seen, order, FlashTimeParams(ReadCost.by_line(2.0), effort=3), np.random.default_rng(0))
    assert sorted(order_2) == list(range(40))
    one, two = (
        FlashCost(unseen, ReadCost.by_line(2.0))(order),
        divide(unseen, order, order_2, ReadCost.by_line(2.0)).cost,
    )
    best = 2 * (2.0 + 2)  # two reads of two neurons
    assert two - best < 0.5 * (one - best)


def test_the_same_bytes_again() -> None:
    """Nothing but the generator is drawn from."""
    active, order = two_chains(np.random.default_rng(4), 24, 300)
    found = [
        second_order(
            block_of(active), order, FlashTimeParams(ReadCost.by_line(3.0), effort=1), np.random.default_rng(9)
        )
        for _ in range(2)
    ]
    assert found[0].tobytes() == found[1].tobytes()
    assert found[0].dtype == np.int32


@pytest.mark.parametrize(
    "active",
    [np.zeros((0, 6)), np.zeros((5, 6)), np.ones((5, 6)), np.ones((3, 1)), np.array([[1, 0]]), np.eye(2)],
    ids=["no tokens", "never active", "always active", "one neuron", "one token", "two neurons"],
)
def test_degenerate_blocks(active: np.ndarray) -> None:
    """A permutation that costs no more than one copy, whatever there is to learn from."""
    n_neurons = active.shape[1]
    order, block = np.arange(n_neurons, dtype=np.int32), block_of(active)
    order_2 = second_order(block, order, FlashTimeParams(ReadCost.by_line(1.0), effort=1), np.random.default_rng(0))
    assert sorted(order_2) == list(range(n_neurons))
    one, two = FlashCost(block, ReadCost.by_line(1.0))(order), divide(block, order, order_2, ReadCost.by_line(1.0)).cost
    assert (math.isnan(one) and math.isnan(two)) or two <= one


def test_rows_are_taken_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing depends on how many rows are unpacked together."""
    rng = np.random.default_rng(6)
    block = block_of(random_activity(rng, 33, 70, 0.1))
    order, order_2 = (rng.permutation(70).astype(np.int32) for _ in range(2))
    whole = divide(block, order, order_2, ReadCost.by_line(4.0))
    monkeypatch.setattr("ripple_place.ordering.second_copy._CHUNK_BITS", 4 * 70)
    parts = divide(block, order, order_2, ReadCost.by_line(4.0))
    assert (parts.cost, parts.reads) == (whole.cost, whole.reads)
    np.testing.assert_array_equal(parts.from_second.active, whole.from_second.active)
    assert isinstance(parts.from_second, BlockTrace)
