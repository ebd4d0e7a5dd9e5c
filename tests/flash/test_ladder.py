"""The ladder of gains, on cases computed by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ripple_place.flash.ladder import gain_ladder
from ripple_place.flash.simulator import SimulationParams, simulate
from tests.flash.builders import layout_of

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.trace.activation_trace import ActivationTrace


def test_each_step_turns_one_thing_on(four_neurons: ActivationTrace, device: DeviceProfile) -> None:
    """Tokens {0, 2} and {0, 1, 3} of three: 11 us a single bundle, 1 us for each further one in a read.

    Single reads: 11 + 11, then 12 + 11. With collapse of one gap: 13, then 14. All four in LRU's DRAM: the last
    token reads 1 and 3 only, over the gap at 2.
    """
    layouts = [layout_of({"layers.0": [0, 1, 2, 3]})]
    params = SimulationParams(cache="lru", capacity_neurons={"layers.0": 4}, gap=1)
    steps = gain_ladder(four_neurons, layouts, device, params)
    assert [step.title for step in steps] == ["single reads", "+ access collapse", "+ DRAM cache (lru)"]
    assert [step.flash_time_us[0] * 3 for step in steps] == pytest.approx([45, 27, 13 + 13])


@pytest.mark.parametrize(
    "params",
    [
        SimulationParams(gap=0),
        SimulationParams(gap=1),
        SimulationParams(cache="lru", capacity_neurons={"layers.0": 2}, gap=0),
        SimulationParams(cache="lru", capacity_neurons={"layers.0": 2}, gap=1),
    ],
)
def test_the_last_step_is_the_simulation_itself(
    four_neurons: ActivationTrace, device: DeviceProfile, params: SimulationParams
) -> None:
    """So a report that has simulated already need not do it again."""
    layouts = [layout_of({"layers.0": [0, 2, 1, 3]})]
    results = [simulate(four_neurons, layout, device, params) for layout in layouts]
    assert gain_ladder(four_neurons, layouts, device, params, results) == gain_ladder(
        four_neurons, layouts, device, params
    )
    without_cache = replace(params, cache="none", capacity_neurons={})
    again = params if params.cache != "none" else without_cache
    assert simulate(four_neurons, layouts[0], device, again).totals.flash_time_us == results[0].totals.flash_time_us


def test_steps_that_are_off_are_left_out(four_neurons: ActivationTrace, device: DeviceProfile) -> None:
    """Without collapse and cache there is one step: nothing is claimed that was not asked for."""
    layouts = [layout_of({"layers.0": [0, 1, 2, 3]})]
    assert len(gain_ladder(four_neurons, layouts, device, SimulationParams(gap=0))) == 1
