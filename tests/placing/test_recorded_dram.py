"""The DRAM that a placement was made for: written and read back, or refused."""

from __future__ import annotations

import pytest

from ripple_place.errors import PlacementError
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.placing.recorded_dram import RecordedDram


def placement(**metadata: str) -> ModelPlacement:
    """Return a placement of eight neurons with some metadata."""
    return ModelPlacement({"layers.0": NeuronPlacement.original(8)}, metadata)


def test_round_trip() -> None:
    """Share and bytes are kept apart, and compared each with its like."""
    for recorded in (RecordedDram("lru", {"layers.0": 3}, 0.1, 400), RecordedDram("pinned", {"layers.0": 0}, None, 7)):
        assert RecordedDram.of("p", placement(**recorded.to_metadata())) == recorded
    assert RecordedDram.of("p", placement()) is None
    recorded = RecordedDram("lru", {}, 0.1, 400)
    assert recorded.is_for(0.1)
    assert recorded.is_for(400)
    assert not recorded.is_for(0.2)
    assert not RecordedDram("lru", {}, None, 1).is_for(1.0)


@pytest.mark.parametrize(
    "metadata",
    [
        {"capacity_neurons": '{"layers.0": 3}'},
        {"capacity_neurons": '{"layers.0": 9}', "cache": "lru"},
        {"capacity_neurons": '{"layers.0": -1}', "cache": "lru"},
        {"capacity_neurons": '{"layers.0": 1.5}', "cache": "lru"},
        {"capacity_neurons": '{"layers.1": 1}', "cache": "lru"},
        {"capacity_neurons": "[3]", "cache": "lru"},
        {"capacity_neurons": "{", "cache": "lru"},
        {"capacity_neurons": "{}", "cache": "lru", "dram_budget_share": "much"},
    ],
)
def test_what_does_not_fit_is_refused(metadata: dict[str, str]) -> None:
    """No policy, capacities of other blocks or beyond them, or no JSON."""
    with pytest.raises(PlacementError, match=r"p: metadata: found a DRAM budget without .* Reorder again"):
        RecordedDram.of("p", placement(**metadata))
