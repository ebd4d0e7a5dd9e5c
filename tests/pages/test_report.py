"""The report: which token and block it chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.pages.report import make_report
from tests.flash.builders import block_trace, layout_of, trace_of

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile


def test_routed_blocks_name_the_token_not_the_row(device: DeviceProfile) -> None:
    """An expert's row 0 is token 3 of the trace: the page must say 3."""
    trace = trace_of({"layers.0.experts.1": block_trace(np.array([[1, 0, 1]]), token_index=[3])}, 5)
    layout = layout_of({"layers.0.experts.1": [0, 1, 2]})
    params = SimulationParams()
    report = make_report(trace, [layout], [simulate(trace, layout, device)], device, params, traces=["t"], command="c")
    assert (report.token, report.block) == (3, "layers.0.experts.1")
