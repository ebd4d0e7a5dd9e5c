"""What ``--collapse`` may be."""

from __future__ import annotations

import pytest

from ripple_place.errors import UsageError
from ripple_place.flash import block_reader
from ripple_place.scoring.collapse import PLANNERS, parse_collapse


def test_planners_are_the_simulator_s() -> None:
    """They are named as text, because importing the simulator for ``--help`` would be slow."""
    assert {*PLANNERS, "fixed"} == block_reader.PLANNERS.keys()


@pytest.mark.parametrize("text", ["-1", "1.5", "off ", "²", "9" * 40])
def test_collapse_takes_whole_numbers(text: str) -> None:
    """Anything but auto, off, a planner or a number of neurons is refused with that list."""
    with pytest.raises(UsageError, match="auto, off, adaptive, optimal"):
        parse_collapse(text)
