"""The objective: what the reads of an order cost, on a line and on a table."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ripple_place.flash.device.profile import DeviceProfile
from ripple_place.flash.layout import BlockExtent, Layout
from ripple_place.flash.read_cost import ReadCost
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.ordering.flash_cost import FlashCost
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.trace.activation_trace import ActivationTrace
from tests.reference import gap_cost as reference
from tests.trace_builders import block_of, random_activity


@pytest.mark.parametrize("break_even_gap", [0.0, 0.5, 1.0, 2.75, 5.0, 40.0])
def test_the_line_is_reads_and_neurons(break_even_gap: float) -> None:
    """Lambda for each read and one for every neuron read, gaps of up to floor(lambda) included."""
    rng = np.random.default_rng(0)
    active = random_activity(rng, 30, 23, 0.3)
    order = rng.permutation(23).astype(np.int32)
    cost = FlashCost(block_of(active), ReadCost.by_line(break_even_gap))
    assert cost(order) == pytest.approx(reference.gap_cost(active.tolist(), order.tolist(), break_even_gap))


def test_without_tokens_nothing_is_known() -> None:
    """No tokens, no cost: not a number rather than zero."""
    assert math.isnan(FlashCost(block_of(np.zeros((0, 4), bool)), ReadCost.by_line(2.0))(np.arange(4, dtype=np.int32)))


@pytest.mark.parametrize("name", ["linear", "table"])
def test_objective_equals_simulator(name: str) -> None:
    """Where bundles are whole pages the simulator charges, to a rounding error, what the search minimises."""
    rng = np.random.default_rng(1)
    active = random_activity(rng, 50, 40, 0.2)
    order = rng.permutation(40).astype(np.int32)
    form = (
        {"form": "linear", "overhead_us": 10.0, "bandwidth_bytes_per_s": 1e9}
        if name == "linear"
        else {"form": "table", "size_bytes": (4096, 8192, 32768, 131072), "latency_us": (12.0, 12.5, 22.0, 80.0)}
    )
    sources = dict.fromkeys({"page_bytes", "max_request_bytes", *form} - {"form", "size_bytes"}, "made up")
    device = DeviceProfile(name=name, description="", page_bytes=4096, max_request_bytes=2**20, sources=sources, **form)
    cost = FlashCost(block_of(active), ReadCost.on_device(device, 4096))
    placement = ModelPlacement({"layers.0": NeuronPlacement(order)})
    trace = ActivationTrace({"layers.0": block_of(active)}, 50, np.zeros(1, np.int64))
    layout = Layout.from_extents("x", placement, {"layers.0": BlockExtent.packed(4096)})
    simulated = simulate(trace, layout, device, SimulationParams()).totals
    assert cost(order) == pytest.approx(simulated.flash_time_us / 50)
    assert cost.reads(order) * 50 == simulated.n_reads
