"""Which DRAM a simulation has: what is given, what layouts record, and what does not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ripple_place.errors import UsageError
from ripple_place.placing.recorded_dram import RecordedDram
from ripple_place.scoring.dram import SimulatedDram, choose_dram, unused_dram_warnings
from tests.flash.builders import layout_of

if TYPE_CHECKING:
    from ripple_place.flash.layout import Layout

RECORDED = RecordedDram("lru", {"layers.0": 3}, share=0.25, budget_bytes=5 * 4096)


@pytest.fixture
def layout() -> Layout:
    """Return two blocks of ten neurons."""
    return layout_of({f"layers.{layer}": list(range(10)) for layer in range(2)})


def test_no_budget_is_no_dram(layout: Layout) -> None:
    """Also where a layout was made for some, which is then warned of."""
    assert choose_dram(layout, {"a": RECORDED}, None, None) == SimulatedDram()
    (warning,) = unused_dram_warnings({"a": RECORDED}, None)
    assert warning.startswith("a was made for DRAM under lru and is scored without it")
    assert unused_dram_warnings({"a": RECORDED}, 0.25) == []


def test_a_budget_is_split_evenly_under_s3fifo(layout: Layout) -> None:
    """Unless a policy is named."""
    expected = {"layers.0": 2, "layers.1": 2}
    assert choose_dram(layout, {}, 0.2, None) == SimulatedDram("s3fifo", expected)
    assert choose_dram(layout, {}, 0.2, "sieve") == SimulatedDram("sieve", expected)


@pytest.mark.parametrize("budget", [0.25, 5 * 4096])
def test_the_budget_that_a_layout_was_made_for_is_split_as_recorded(layout: Layout, budget: float | int) -> None:
    """As a share and in bytes; blocks that the record does not name have none. Another budget is split evenly."""
    chosen = choose_dram(layout, {"a": RECORDED}, budget, None)
    assert chosen == SimulatedDram("s3fifo", {"layers.0": 3, "layers.1": 0}, "a")
    assert choose_dram(layout, {"a": RECORDED}, 0.5, None).split_by is None


def test_the_budget_of_the_layouts(layout: Layout) -> None:
    """Policy and split are the first layout's, if they agree; a named policy overrides."""
    recorded = {"a": RECORDED, "b": RecordedDram("fifo", {"layers.1": 2}, share=0.25, budget_bytes=5 * 4096)}
    assert choose_dram(layout, {"a": RECORDED}, "placement", None).cache == "lru"
    chosen = choose_dram(layout, recorded, "placement", "sieve")
    assert chosen == SimulatedDram("sieve", {"layers.0": 3, "layers.1": 0}, "a")
    with pytest.raises(UsageError, match="found a made for lru, b for fifo; expected one policy"):
        choose_dram(layout, recorded, "placement", None)


def test_budgets_of_layouts_that_are_none_or_differ(layout: Layout) -> None:
    """The message names the layouts."""
    with pytest.raises(UsageError, match="found no layout that was made for a DRAM budget"):
        choose_dram(layout, {}, "placement", None)
    recorded = {"a": RECORDED, "b": RecordedDram("lru", {}, share=0.5)}
    with pytest.raises(UsageError, match="found a and b, made for different budgets"):
        choose_dram(layout, recorded, "placement", None)
