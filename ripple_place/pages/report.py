"""The report of a simulation: what its page shows, and the choice of the token that is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ripple_place.flash.hot_cold import surviving_gains
from ripple_place.flash.ladder import gain_ladder
from ripple_place.flash.simulator import simulate
from ripple_place.flash.token_reads import busiest_block, reads_of_median_token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.hot_cold import SurvivingGain
    from ripple_place.flash.ladder import Step
    from ripple_place.flash.layout import Layout
    from ripple_place.flash.results import LayoutResult
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.flash.token_reads import TokenReads
    from ripple_place.scoring.predictions import PredictedActivity
    from ripple_place.select.tuned import TunedRules
    from ripple_place.trace.activation_trace import ActivationTrace


@dataclass(frozen=True, eq=False)
class Report:
    """What a report shows.

    Parameters
    ----------
    results : sequence of LayoutResult
        At least one, in the order in which they are listed; with rules, those of a layout together.
    baseline : LayoutResult
        What speedups are against.
    device : DeviceProfile
    params : SimulationParams
    block, token : str, int
        Of the token that is drawn.
    token_reads : sequence of TokenReads
        That token's reads in each layout.
    traces : sequence of str
        Names of the traces.
    command : str
        The command that made the page.
    warnings : sequence of str
        How the numbers may mislead; the device's own is added.
    ladder : sequence of Step
        Flash times as collapse and cache are turned on.
    surviving : sequence of SurvivingGain
        What is left of gains over hot-cold order with the hottest neurons in DRAM; empty if frequencies are unknown.
    sweep : SweepCurves, optional
    rules : sequence of str
        That chose what a token uses; empty: everything that fires.
    magnitude_noise : float
        Under which they chose.
    tuned : mapping of str to TunedRules
        By layout, what was tuned for it.
    predicted : PredictedActivity or None
        That what is served was predicted; None if it is what fires.
    """

    results: Sequence[LayoutResult]
    baseline: LayoutResult
    device: DeviceProfile
    params: SimulationParams
    block: str
    token: int
    token_reads: Sequence[TokenReads]
    traces: Sequence[str]
    command: str
    warnings: Sequence[str] = ()
    ladder: Sequence[Step] = ()
    surviving: Sequence[SurvivingGain] = ()
    sweep: SweepCurves | None = None
    rules: Sequence[str] = ()
    magnitude_noise: float = 0.0
    tuned: Mapping[str, TunedRules] = field(default_factory=dict)
    predicted: PredictedActivity | None = None

    @property
    def groups(self) -> list[ResultGroup]:
        """Results that are shown beside each other: all layouts, or with rules those of one layout."""
        if not self.rules:
            return [ResultGroup("", slice(None), self.results, [result.label for result in self.results])]
        spans = [slice(at, at + len(self.rules)) for at in range(0, len(self.results), len(self.rules))]
        groups = []
        for span in spans:
            results = self.results[span]
            rules = [result.selection.rule for result in results if result.selection is not None]
            groups.append(ResultGroup(results[0].name, span, results, rules))
        return groups


@dataclass(frozen=True, eq=False)
class ResultGroup:
    """Results that are shown beside each other.

    Attributes
    ----------
    title : str
        The layout that they have in common; empty where each is of another.
    span : slice
        Their places among the report's results.
    results : sequence of LayoutResult
    names : sequence of str
        What tells them apart.
    """

    title: str
    span: slice
    results: Sequence[LayoutResult]
    names: Sequence[str]


@dataclass(frozen=True)
class SweepCurves:
    """Flash times per token at the values of one option.

    Attributes
    ----------
    option : str
    values : tuple of str
    flash_time_us : tuple of tuple of float
        In the order of the report's results.
    """

    option: str
    values: tuple[str, ...]
    flash_time_us: tuple[tuple[float, ...], ...]


def make_report(
    trace: ActivationTrace,
    layouts: Sequence[Layout],
    results: Sequence[LayoutResult],
    device: DeviceProfile,
    params: SimulationParams,
    *,
    traces: Sequence[str],
    command: str,
    baseline: LayoutResult | None = None,
    block: str | None = None,
    warnings: Sequence[str] = (),
    hot_cold: Layout | None = None,
    sweep: SweepCurves | None = None,
    rules: Sequence[str] = (),
    magnitude_noise: float = 0.0,
    tuned: Mapping[str, TunedRules] | None = None,
    predicted: PredictedActivity | None = None,
) -> Report:
    """Choose the token that is drawn, replay it in every layout, and return the report.

    Parameters
    ----------
    trace, layouts, results, device, params
        A simulation: `results` has one entry for each of `layouts`; with rules, one for each layout and rule.
    traces, command, warnings, rules, magnitude_noise, tuned, predicted
        As in `Report`.
    baseline : LayoutResult, optional
        Default: the first.
    block : str, optional
        Default: the block with most reads in the first layout. The token is that with the median number of reads
        there.
    hot_cold : Layout, optional
        Neurons by descending frequency, with frequencies: what gains are compared with once DRAM holds the hottest.
    sweep : SweepCurves, optional
    """
    # Pictures of layouts show what all that fires takes to read, whatever rules drop.
    of_layouts = [simulate(trace, layout, device, params) for layout in layouts] if rules else results
    block = block or busiest_block(of_layouts[0])
    token, token_reads = reads_of_median_token(block, trace, layouts, device, params)
    surviving = surviving_gains(trace, hot_cold, layouts, device, params) if hot_cold is not None else ()
    return Report(
        results, baseline or results[0], device, params, block, token, token_reads, traces, command, warnings,
        gain_ladder(trace, layouts, device, params, of_layouts), surviving, sweep, rules, magnitude_noise, tuned or {},
        predicted,
    )  # fmt: skip
