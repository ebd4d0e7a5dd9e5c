"""Placing is a list of stages: which, for which parameters; what stages do is tested with the commands."""

from __future__ import annotations

from typing import Any

import pytest

from ripple_place.ordering.registry import ORDERINGS
from ripple_place.placing.params import PlacingParams
from ripple_place.placing.place import stages_of

SEARCHED = ["search", "compare"]


@pytest.mark.parametrize(
    ("params", "stages"),
    [
        ({"ordering": "greedy"}, ["order_all_rows"]),
        ({"ordering": "flash-time"}, [*SEARCHED, "take_asked", "refit"]),
        ({"ordering": "flash-time", "refit": False}, [*SEARCHED, "take_asked"]),
        ({"ordering": "greedy", "compare": True}, [*SEARCHED, "order_all_rows"]),
        ({"ordering": "greedy", "copies": 2}, [*SEARCHED, "take_asked", "add_second_copy"]),
        ({"ordering": "flash-time", "copies": 2}, [*SEARCHED, "take_asked", "add_second_copy", "refit"]),
        ({"ordering": "greedy", "dram_budget": 0.1}, [*SEARCHED, "place_behind_cache"]),
        (
            {"ordering": "flash-time", "dram_budget": 0.1, "copies": 2},
            [*SEARCHED, "place_behind_cache", "add_second_copy", "refit"],
        ),
    ],
)
def test_the_stages(params: dict[str, Any], stages: list[str]) -> None:
    """Chosen once, from the resolved parameters."""
    resolved = PlacingParams(**params).resolved(has_rows=True, has_sizes=True)
    chosen = stages_of(resolved, ORDERINGS[resolved.ordering])
    assert [stage.run.__name__ for stage in chosen] == stages
    assert sum(stage.n_searches for stage in chosen) >= ("refit" in stages) + ("search" in stages)
