"""DRAM for experts: how it is written, and the capacities that follow."""

from __future__ import annotations

import pytest

from ripple_place.errors import UsageError
from ripple_place.experts.budget import Budget, ExpertSlots, capacities, is_slots, parse_budget

MIB = 2**20


@pytest.mark.parametrize(
    ("text", "budget"),
    [("16experts", ExpertSlots(16)), ("1 expert", ExpertSlots(1)), ("4000MiB", 4000 * MIB), ("25%", 0.25), ("0", 0)],
)
def test_what_is_written(text: str, budget: Budget) -> None:
    """Experts of each layer, bytes in all, or a share; what is written is read again."""
    assert parse_budget(text) == budget
    assert is_slots(text) == isinstance(budget, ExpertSlots)
    if isinstance(budget, ExpertSlots):
        assert parse_budget(str(budget)) == budget


@pytest.mark.parametrize("text", ["experts", "-1experts", "1.5experts", "16", "16 exports", "9999999experts"])
def test_what_is_no_budget(text: str) -> None:
    """Neither a number of experts, nor a share or size."""
    with pytest.raises(UsageError):
        parse_budget(text)


@pytest.mark.parametrize(
    ("budget", "is_pool", "expected"),
    [
        (ExpertSlots(2), False, (20, 40)), (ExpertSlots(2), True, (60,)),
        (0.5, False, (20, 80)), (0.5, True, (100,)),
        (90, False, (45, 45)), (90, True, (90,)), (91, False, (45, 45)),
        # No more than there is.
        (5000, True, (200,)),
        (0, True, (0,)), (0, False, (0, 0)),
    ],
)  # fmt: skip
def test_capacities_by_hand(budget: Budget, is_pool: bool, expected: tuple[int, ...]) -> None:
    """Four experts of 10 bytes and eight of 20."""
    assert capacities(budget, [4, 8], [10, 20], is_pool=is_pool) == expected


def test_no_room_for_an_expert() -> None:
    """Two caches of 9 bytes hold nothing; one of 18 does."""
    with pytest.raises(UsageError, match="room of 9 B in the largest cache; expected room for an expert, 10 B"):
        capacities(18, [4, 8], [10, 20], is_pool=False)
    assert capacities(18, [4, 8], [10, 20], is_pool=True) == (18,)
