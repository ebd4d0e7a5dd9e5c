"""A report that the tests of pages and pictures share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.flash.token_time import ComputeParams
from ripple_place.pages.report import Report, make_report
from ripple_place.select.result import SelectionResult
from ripple_place.select.selected_block import WorthCount
from tests.flash.builders import block_trace, layout_of, trace_of

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.results import LayoutResult


@pytest.fixture
def report(device: DeviceProfile) -> Report:
    """Return a report on two layouts of two blocks, one of them with a name that HTML must escape."""
    return report_of(device)


@pytest.fixture
def timed_report(device: DeviceProfile) -> Report:
    """Return the same with 100 us to compute a layer."""
    return report_of(device, ComputeParams(100.0))


RULES = ("exact", "top-k=5%", "top-k=20%", "flash-aware,price=1e-06")


@pytest.fixture
def report_by_rule(device: DeviceProfile) -> Report:
    """Return a report on the same layouts, each by four rules whose loss was measured."""
    plain = report_of(device)
    results = [by_rule(result, at) for result in plain.results for at in range(len(RULES))]
    return replace(plain, rules=RULES, results=results, baseline=results[0])


def by_rule(result: LayoutResult, at: int, *, is_measured: bool = True, has_importance: bool = True) -> LayoutResult:
    """Return a result of the rule at a position, which drops as many hundredths of the neurons."""
    losses: dict[str, float | int | None] = {
        "nll": 3.0 + 0.01 * at, "nll_rise": 0.01 * at, "nll_rise_se": 0.002 if at else 0.0, "kl": 0.01 * at**2,
        "perplexity": 20.0, "agreement": 1 - 0.1 * at, "n_scored": 1234,
    }  # fmt: skip
    selection = SelectionResult(
        RULES[at], f"whoever knows rule {at}", WorthCount(11.0, 0.11 * at, 100, at), 11, has_importance,
        losses if is_measured else None,
    )  # fmt: skip
    return replace(result, selection=selection)


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
