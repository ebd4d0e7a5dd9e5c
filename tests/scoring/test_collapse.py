"""What ``--collapse`` may be."""

from __future__ import annotations

import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.planners.registry import PLANNERS, named_planners
from ripple_place.scoring.collapse import parse_collapse


def test_every_planner_is_taken_by_name() -> None:
    """But for that of one gap, which is asked for by the gap."""
    assert [parse_collapse(name) for name in named_planners()] == named_planners()
    assert {*named_planners(), "fixed"} == PLANNERS.keys()


@pytest.mark.parametrize("text", ["-1", "1.5", "off ", "²", "9" * 40])
def test_collapse_takes_whole_numbers(text: str) -> None:
    """Anything but auto, off, a planner or a number of neurons is refused with that list."""
    with pytest.raises(UsageError, match="auto, off, adaptive, optimal"):
        parse_collapse(text)
