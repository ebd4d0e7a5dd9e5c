"""The flash-aware choice against all subsets, against its twin, and where reads cost nothing, all or anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.flash.read_cost import ReadCost
from ripple_place.select.fisher import choose as choose_fisher
from ripple_place.select.flash_aware import Price, choose
from tests.flash.builders import linear_device
from tests.reference import selection

if TYPE_CHECKING:
    from collections.abc import Sequence

N_SLOTS = 12

SHAPES = {
    "line": [0.0, *(3.0 + length for length in range(1, N_SLOTS + 1))],
    "bytes alone": [0.0, *(float(length) for length in range(1, N_SLOTS + 1))],
    "reads alone": [0.0, *([1.0] * N_SLOTS)],
    "concave": [0.0, *(4 * np.sqrt(np.arange(1, N_SLOTS + 1))).tolist()],
    "steps": [0.0, *(5.0 + 4 * (length // 3) for length in range(1, N_SLOTS + 1))],
    "falling": [0.0, *(9.0 - (length % 5) for length in range(1, N_SLOTS + 1))],
    "convex": [0.0, *(1.0 + length**2 for length in range(1, N_SLOTS + 1))],
}
"""Costs by the length of a read: those of devices are lines, tables and steps of a page."""

worths = st.one_of(st.floats(0, 20), st.sampled_from([0.0, 1.0, 4.0, 5.0, 1e-300, 1e9]))
tokens = st.dictionaries(st.integers(0, N_SLOTS - 1), st.tuples(worths, st.booleans()))
"""By active slot, its worth and whether it is in DRAM."""
prices = st.one_of(st.floats(0.01, 10), st.sampled_from([1e-12, 1.0, 1e12]))


def price_of(run_cost: Sequence[float], nats: float, gap: int, *, is_line: bool | None = None) -> Price:
    """Return the price of reads that cost so much by their length."""
    run_price, n_slots = nats * np.array(run_cost), len(run_cost) - 1
    if is_line is None:
        is_line = n_slots < 2 or bool(np.allclose(np.diff(run_price[1:]), run_price[-1] - run_price[-2], rtol=1e-12))
    return Price.of_reads(run_price, gap, is_line=is_line)


def chosen(token: dict[int, tuple[float, bool]], price: Price) -> list[int]:
    """Return the slots that the kernel uses of a token."""
    slots = np.array(sorted(token), np.int32)
    worth = np.array([token[slot][0] for slot in slots.tolist()])
    is_resident = np.array([token[slot][1] for slot in slots.tolist()], np.uint8)
    is_used = np.full(slots.size, 9, np.uint8)
    choose(slots, worth, is_resident, price, is_used)
    assert set(is_used.tolist()) <= {0, 1}
    return slots[is_used == 1].tolist()


def misses(token: dict[int, tuple[float, bool]]) -> dict[int, float]:
    """Return the worth of what is not in DRAM, by slot."""
    return {slot: worth for slot, (worth, is_resident) in token.items() if not is_resident}


@given(tokens, st.sampled_from(sorted(SHAPES)), prices, st.integers(0, 4))
@settings(max_examples=100, deadline=None)
def test_no_subset_is_better(token: dict[int, tuple[float, bool]], shape: str, nats: float, gap: int) -> None:
    """The value of what is used is the highest of all subsets'; it is closed, and residents are always used."""
    price, missing = price_of(SHAPES[shape], nats, gap), misses(token)
    used = chosen(token, price)
    assert set(used) >= token.keys() - missing.keys()
    read = [slot for slot in used if slot in missing]
    assert read == selection.closed(read, sorted(missing), gap), "a miss within a read is not used"
    run_price = price.run_price.tolist()
    scale = 1e-9 * (sum(missing.values()) + run_price[-1] * len(missing)) + 1e-300
    best = selection.best_by_reads(missing, gap, run_price)
    assert selection.value_of(read, missing, gap, run_price) == pytest.approx(best, abs=scale)
    if len(missing) <= 8:
        assert best == pytest.approx(selection.best_of_all(missing, gap, run_price), abs=scale)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_subsets_of_twelve(shape: str) -> None:
    """A full block, each slot active: 4096 subsets at each gap."""
    rng = np.random.default_rng(3)
    for gap in (0, 1, 4):
        token = {slot: (float(worth), False) for slot, worth in enumerate(rng.exponential(3, N_SLOTS))}
        price = price_of(SHAPES[shape], 1.0, gap)
        found = selection.value_of(chosen(token, price), misses(token), gap, SHAPES[shape])
        assert found == pytest.approx(selection.best_of_all(misses(token), gap, SHAPES[shape]))


@given(tokens, st.sampled_from(["line", "bytes alone", "reads alone"]), st.floats(0.01, 10), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_the_fast_path_of_lines(token: dict[int, tuple[float, bool]], shape: str, nats: float, gap: int) -> None:
    """Where costs are a line, the running maximum finds plans of the same value as all of a run's beginnings."""
    missing = misses(token)
    values = []
    for is_line in (True, False):
        price = price_of(SHAPES[shape], nats, gap, is_line=is_line)
        read = [slot for slot in chosen(token, price) if slot in missing]
        values.append(selection.value_of(read, missing, gap, price.run_price.tolist()))
    assert values[0] == pytest.approx(values[1], rel=1e-9, abs=1e-9 * (1 + sum(missing.values())))


@pytest.mark.parametrize("is_line", [True, False])
def test_ties(is_line: bool) -> None:
    """What is worth exactly its price is left; of two equal plans, one read rather than two that bring no more."""
    at_cost = price_of(SHAPES["line"], 1.0, 0, is_line=is_line)
    assert chosen({2: (4.0, False), 7: (4.0, False)}, at_cost) == []
    assert chosen({2: (4.5, False), 4: (4.0, False)}, at_cost) == [2]
    # A read of slots 2 to 4 costs 6, one of slot 2 costs 4: slots 3 and 4 pay 2 for 2.
    assert chosen({2: (5.0, False), 3: (1.0, False), 4: (1.0, False)}, at_cost) == [2]


@pytest.mark.parametrize("is_line", [True, False])
def test_by_hand(is_line: bool) -> None:
    """With a gap of 1, slot 1 cannot be left out between 0 and 2, and brings nothing; 9 is not worth its read."""
    token = {0: (9.0, False), 1: (0.0, False), 2: (9.0, False), 6: (0.5, True), 9: (3.5, False)}
    assert chosen(token, price_of(SHAPES["line"], 1.0, 1, is_line=is_line)) == [0, 1, 2, 6]
    assert chosen(token, price_of(SHAPES["line"], 0.5, 1, is_line=is_line)) == [0, 1, 2, 6, 9]
    # Without gaps a read of 1 alone costs 4: reads of 0 and of 2, each by itself, cost 8; all three together 6.
    assert chosen(token, price_of(SHAPES["line"], 1.0, 0, is_line=is_line)) == [0, 1, 2, 6]


def test_nothing_to_choose() -> None:
    """Nothing active; everything in DRAM; a block of one slot; and at price 0 everything, worth nothing included."""
    price = price_of(SHAPES["line"], 1.0, 2)
    assert chosen({}, price) == []
    assert chosen({slot: (0.0, True) for slot in range(N_SLOTS)}, price) == list(range(N_SLOTS))
    one = price_of([0.0, 4.0], 1.0, 3)
    assert chosen({0: (5.0, False)}, one) == [0]
    assert chosen({0: (4.0, False)}, one) == []
    free = price_of(SHAPES["steps"], 0.0, 0)
    assert chosen({0: (0.0, False), 4: (0.0, True), 11: (0.0, False)}, free) == [0, 4, 11]


@pytest.mark.parametrize(
    ("bundle_bytes", "n_neurons", "is_line"), [(4096, 16, True), (4096, 40, False), (1000, 16, False), (4096, 1, True)]
)
def test_price_of_a_device(bundle_bytes: int, n_neurons: int, is_line: bool) -> None:
    """Bundles of a page in one request are a line; several requests, or bundles that share pages, are none."""
    cost = ReadCost.on_device(linear_device(), bundle_bytes, 3)
    price = Price.of_cost(cost, n_neurons, 0.5)
    assert (price.is_line, price.gap) == (is_line, 3)
    np.testing.assert_array_equal(price.run_price, 0.5 * cost.run_cost(n_neurons))
    assert Price.of_cost(cost, n_neurons, 0.0).is_line


@pytest.mark.parametrize(("price", "used"), [(0.0, [1, 1, 1, 1]), (2.0, [0, 0, 1, 1]), (1e9, [0, 0, 0, 1])])
def test_fisher(price: float, used: list[int]) -> None:
    """Each neuron by itself: in DRAM, or worth more than the price; at price 0 everything."""
    is_used = np.full(4, 9, np.uint8)
    worth, is_resident = np.array([0.0, 2.0, 3.0, 0.0]), np.array([0, 0, 0, 1], np.uint8)
    choose_fisher(np.array([0, 1, 5, 9], np.int32), worth, is_resident, (price,), is_used)
    assert is_used.tolist() == used
