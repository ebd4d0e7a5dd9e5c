"""The same simulation at several values of one parameter, and placements against traces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ripple_place.errors import UsageError
from ripple_place.tracking import Track, no_track
from ripple_place.units import parse_bytes, parse_share_or_bytes
from ripple_place.workflows.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ripple_place.workflows.simulate import SimulateParams, SimulateReport


PLANNERS = ("adaptive", "optimal")
"""What ``--collapse`` names beside gaps."""


def parse_collapse(text: str) -> int | str | None:
    """Return what ``--collapse`` names: 0 for off, None for auto, a planner, or a fixed gap.

    >>> parse_collapse("off"), parse_collapse("auto"), parse_collapse("optimal"), parse_collapse("5")
    (0, None, 'optimal', 5)

    Raises
    ------
    UsageError
        If it is none of these.
    """
    if text in ("auto", "off"):
        return 0 if text == "off" else None
    if text in PLANNERS:
        return text
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise UsageError(
        f"--collapse {text}", found=repr(text), expected=f"auto, off, {', '.join(PLANNERS)}, or a number of neurons",
        remedy="write one of them",
    )  # fmt: skip


SWEEPABLE: dict[str, tuple[str, Callable[[str], Any]]] = {
    "dram-budget": ("dram_budget", parse_share_or_bytes),
    "bundle-bytes": ("bundle_bytes", parse_bytes),
    "collapse": ("gap", parse_collapse),
    "device": ("device", str),
    "cache": ("cache", str),
}
"""What can be swept: option -> field of `SimulateParams`, and how its text is read."""


@dataclass(frozen=True)
class Sweep:
    """A parameter of `simulate` and the values it takes."""

    option: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Sweep:
        """Parse ``NAME=a,b,c``.

        >>> Sweep.parse("collapse=off,auto")
        Sweep(option='collapse', values=('off', 'auto'))

        Raises
        ------
        UsageError
            If the name is unknown or there is no value.
        """
        option, _, values = text.partition("=")
        if option not in SWEEPABLE or not all(values.split(",")):
            raise UsageError(
                f"--sweep {text}", found=repr(text), expected=f"NAME=a,b,c with one of {', '.join(SWEEPABLE)}",
                remedy="write for instance --sweep dram-budget=0%,5%,10%",
            )  # fmt: skip
        return cls(option, tuple(values.split(",")))


@dataclass(frozen=True)
class SweepReport:
    """The reports of a sweep, one for each value."""

    sweep: Sweep
    reports: tuple[SimulateReport, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the ``sweep`` entry of ``simulate --json``."""
        return {
            "option": self.sweep.option,
            "points": [
                {"value": value, "layouts": report.to_json()["layouts"]}
                for value, report in zip(self.sweep.values, self.reports, strict=True)
            ],
        }


def sweep_simulation(
    traces: Sequence[Path], layouts: Sequence[str], params: SimulateParams, sweep: Sweep, track: Track = no_track
) -> SweepReport:
    """Simulate once for each value of the swept parameter.

    Raises
    ------
    UsageError
        If a value does not parse; otherwise as for `simulate`.
    """
    field, parse = SWEEPABLE[sweep.option]
    # All values are read before the first is simulated.
    settings = [replace(params, **{field: parse(value)}) for value in sweep.values]
    reports = [simulate(traces, layouts, setting) for setting in track(settings, f"sweeping {sweep.option}")]
    return SweepReport(sweep, tuple(reports))


@dataclass(frozen=True)
class TransferReport:
    """Layouts against traces: each layout scored on each trace alone.

    Attributes
    ----------
    traces : tuple of str
    reports : tuple of SimulateReport
        One a trace.
    """

    traces: tuple[str, ...]
    reports: tuple[SimulateReport, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the ``transfer`` entry of ``simulate --json``: a row for each trace, a column for each layout."""
        documents = [report.to_json()["layouts"] for report in self.reports]
        return {
            "traces": list(self.traces),
            "layouts": [layout["name"] for layout in documents[0]],
            "flash_time_us_per_token": [[layout["flash_time_us_per_token"] for layout in row] for row in documents],
            "speedup": [[layout["speedup"] for layout in row] for row in documents],
        }


def transfer_matrix(
    traces: Sequence[Path], layouts: Sequence[str], params: SimulateParams, track: Track = no_track
) -> TransferReport:
    """Score every layout on every trace by itself: how far a placement made on one text serves another.

    Raises
    ------
    UsageError and others
        As for `simulate`.
    """
    reports = [simulate([trace], layouts, params) for trace in track(traces, "simulating")]
    return TransferReport(tuple(report.traces[0] for report in reports), tuple(reports))
