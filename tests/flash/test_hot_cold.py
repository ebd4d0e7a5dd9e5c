"""Co-activation against hot-cold order, on cases computed by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.flash.hot_cold import SurvivingGain, surviving_gains
from ripple_place.flash.layout import BlockLayout, Layout
from ripple_place.flash.simulator import SimulationParams
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
