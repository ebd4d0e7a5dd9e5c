"""The ladder of gains and the test of co-activation against hot-cold order, on cases computed by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.flash.ladder import SurvivingGain, gain_ladder, surviving_gains
from ripple_place.flash.layout import BlockLayout, Layout
from ripple_place.flash.simulator import SimulationParams, simulate
from tests.flash.builders import block_trace, layout_of, trace_of

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.trace.activation_trace import ActivationTrace


def with_frequency(layout: Layout, trace: ActivationTrace) -> Layout:
    """Return a layout that records how often neurons fire in a trace."""
    blocks = {}
    for name, block in layout.blocks.items():
        active = np.unpackbits(trace.blocks[name].active, axis=1, count=block.n_neurons, bitorder="little")
        placement = replace(block.placement, frequency=active.sum(axis=0, dtype=np.int64))
        blocks[name] = BlockLayout(placement, block.extent)
    return Layout(layout.name, blocks)


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


def test_a_gain_that_lies_in_hot_neurons_does_not_survive(device: DeviceProfile) -> None:
    """Neurons 0 and 1 of 20 always fire together, nothing else does: no gain is left once both are in DRAM."""
    active = np.zeros((10, 20), bool)
    active[:, [0, 1]] = True
    active[::2, 5] = True
    trace = trace_of({"layers.0": block_trace(active)}, 10)
    rest = [neuron for neuron in range(20) if neuron not in (0, 1, 5)]
    hot_cold = with_frequency(layout_of({"layers.0": [0, 1, 5, *rest]}), trace)
    apart = with_frequency(layout_of({"layers.0": [0, *rest[:8], 1, *rest[8:], 5]}, name="apart"), trace)
    gain = surviving_gains(trace, hot_cold, [apart], device, SimulationParams(gap=0))[0]
    # Together: 12 us and 13 us by turns; apart: 22 and 33. With both in DRAM only neuron 5 is read, 11 us either way.
    assert gain.without_dram == pytest.approx((12 + 13) / (22 + 33))
    assert gain.with_dram == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("without", "with_dram", "share"), [(1.5, 1.25, 0.5), (1.0, 1.2, None), (1.5, None, None), (1.2, 0.9, -0.5)]
)
def test_surviving_share(without: float, with_dram: float | None, share: float | None) -> None:
    """The share of the gain that is left; unknown where there was none, negative where DRAM turns it into a loss."""
    found = SurvivingGain("any", without, with_dram).surviving_share
    assert found == (None if share is None else pytest.approx(share))


def test_nothing_read_has_no_ratio(device: DeviceProfile) -> None:
    """A silent block takes no time in any layout: no ratio, rather than a division by zero."""
    trace = trace_of({"layers.0": block_trace(np.zeros((3, 20), bool))}, 3)
    layout = with_frequency(layout_of({"layers.0": list(range(20))}), trace)
    gain = surviving_gains(trace, layout, [layout], device, SimulationParams())[0]
    assert (gain.without_dram, gain.with_dram, gain.surviving_share) == (None, None, None)
