"""The options of ``simulate`` that simulate more than once: sweeps, and placements against traces."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ripple_place.cli.rendering import ProgressBars, format_table
from ripple_place.units import format_time_us

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ripple_place.pages.report import SweepCurves
    from ripple_place.workflows.simulate import SimulateParams
    from ripple_place.workflows.sweep import SweepReport, TransferReport

_OPTIONS = (
    click.option("--sweep", metavar="NAME=A,B,C", help="Also simulate at each of these values of dram-budget, "
                 "bundle-bytes, collapse, device or cache."),
    click.option("--transfer", is_flag=True, help="Also score every layout on every TRACE by itself."),
)  # fmt: skip


@dataclass(frozen=True)
class Sweeping:
    """The values of these options."""

    sweep: str | None
    transfer: bool

    def check(self) -> None:
        """Raise UsageError if the sweep does not parse, before the work starts."""
        if self.sweep is not None:
            from ripple_place.workflows.sweep import Sweep

            Sweep.parse(self.sweep)

    def run(
        self, traces: Sequence[Path], layouts: Sequence[str], params: SimulateParams, *, quiet: bool
    ) -> tuple[SweepReport | None, TransferReport | None]:
        """Simulate what is asked for."""
        from ripple_place.workflows.sweep import Sweep, sweep_simulation, transfer_matrix

        track = ProgressBars(quiet=quiet)
        swept = None
        if self.sweep is not None:
            swept = sweep_simulation(traces, layouts, params, Sweep.parse(self.sweep), track)
        return swept, transfer_matrix(traces, layouts, params, track) if self.transfer else None


def sweep_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--sweep --transfer``; the command gets `sweeping`, a `Sweeping`."""

    @functools.wraps(command)
    def with_sweeping(*args: Any, sweep: str | None, transfer: bool, **kwargs: Any) -> Any:
        return command(*args, sweeping=Sweeping(sweep, transfer), **kwargs)

    for option in reversed(_OPTIONS):
        with_sweeping = option(with_sweeping)
    return with_sweeping


def sweep_text(report: SweepReport) -> str:
    """Return the flash time of each layout at each value as a table, with speedups over the baseline."""
    rows = [
        [value, *(_time_and_speedup(layout) for layout in single.to_json()["layouts"])]
        for value, single in zip(report.sweep.values, report.reports, strict=True)
    ]
    names = [result.name for result in report.reports[0].results]
    return f"Flash time per token:\n{format_table([report.sweep.option, *names], rows)}"


def transfer_text(report: TransferReport) -> str:
    """Return the flash time of each layout on each trace as a table."""
    document = report.to_json()
    rows = [
        [trace, *(_time_and_speedup({"flash_time_us_per_token": time_us, "speedup": speedup})
                  for time_us, speedup in zip(times_us, speedups, strict=True))]
        for trace, times_us, speedups in zip(
            document["traces"], document["flash_time_us_per_token"], document["speedup"], strict=True
        )
    ]  # fmt: skip
    return f"Flash time per token by trace:\n{format_table(['trace', *document['layouts']], rows)}"


def sweep_curves(report: SweepReport | None) -> SweepCurves | None:
    """Return what the page draws of a sweep."""
    if report is None:
        return None
    from ripple_place.pages.report import SweepCurves

    by_layout = zip(*(single.results for single in report.reports), strict=True)
    times_us = tuple(
        tuple(result.totals.flash_time_us / result.n_tokens for result in results) for results in by_layout
    )
    return SweepCurves(report.sweep.option, report.sweep.values, times_us)


def _time_and_speedup(layout: dict[str, Any]) -> str:
    speedup = "" if layout["speedup"] is None else f" ({layout['speedup']:.2f}x)"
    return format_time_us(layout["flash_time_us_per_token"]) + speedup
