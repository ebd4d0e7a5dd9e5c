"""A report that the tests of pages and pictures share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.flash.token_time import ComputeParams
from ripple_place.pages.report import Report, make_report
from tests.flash.builders import block_trace, layout_of, trace_of

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile


@pytest.fixture
def report(device: DeviceProfile) -> Report:
    """Return a report on two layouts of two blocks, one of them with a name that HTML must escape."""
    return report_of(device)


@pytest.fixture
def timed_report(device: DeviceProfile) -> Report:
    """Return the same with 100 us to compute a layer."""
    return report_of(device, ComputeParams(100.0))


def report_of(device: DeviceProfile, compute: ComputeParams | None = None) -> Report:
    """Make the report."""
    rng = np.random.default_rng(4)
    trace = trace_of({f"layers.{layer}": block_trace(rng.random((11, 300)) < 0.2) for layer in range(2)}, 11)
    layouts = [
        layout_of({name: list(range(300)) for name in trace.blocks}, name="original"),
        layout_of({name: rng.permutation(300).tolist() for name in trace.blocks}, name="<b>&mixed"),
    ]
    params = SimulationParams(cache="lru", capacity_neurons={"layers.0": 40, "layers.1": 40}, gap=1, compute=compute)
    results = [simulate(trace, layout, device, params) for layout in layouts]
    return make_report(
        trace, layouts, results, device, params, traces=["a.trace"], command="simulate a.trace --layout <b>",
        warnings=["11 tokens"],
    )  # fmt: skip
