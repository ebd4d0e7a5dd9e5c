"""The same simulation at several values of one parameter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import COLUMN
from ripple_place.errors import UsageError
from ripple_place.scoring.collapse import parse_collapse
from ripple_place.scoring.score import score
from ripple_place.tracking import Track, no_track
from ripple_place.units import parse_bytes, parse_share_or_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ripple_place.scoring.params import SimulateParams
    from ripple_place.scoring.score import Scores


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
    """A parameter of `simulate` and the values it takes.

    Parameters
    ----------
    option : str
        One of `SWEEPABLE`.
    values : tuple of str
        As on the command line.
    """

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

    def check_unit(self, unit: str) -> None:
        """Refuse one size of bundles for blocks of columns.

        Raises
        ------
        UsageError
            If the trace is of columns, and sizes are swept.
        """
        if self.option == "bundle-bytes" and unit == COLUMN:
            raise UsageError(
                f"--sweep {self.option}", found="a trace of columns, whose bundles have two sizes",
                expected="a trace of neurons", remedy="run simulate once for each --bundle-bytes INPUT,DOWN",
            )  # fmt: skip

    def settings(self, params: SimulateParams) -> list[SimulateParams]:
        """Return the parameters of each point.

        Raises
        ------
        UsageError
            If a value does not parse, or does not go with the other parameters.
        """
        field, parse = SWEEPABLE[self.option]
        return [replace(params, **{field: parse(value)}) for value in self.values]


@dataclass(frozen=True, eq=False)
class SweepReport:
    """The scores of a sweep, one for each value."""

    sweep: Sweep
    points: tuple[Scores, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the ``sweep`` entry of ``simulate --json``."""
        return {
            "option": self.sweep.option,
            "points": [
                {"value": value, "layouts": scores.to_json()["layouts"]}
                for value, scores in zip(self.sweep.values, self.points, strict=True)
            ],
        }


def sweep_simulation(
    traces: Sequence[Path | str],
    layouts: Sequence[str | Path],
    params: SimulateParams,
    sweep: Sweep,
    track: Track = no_track,
) -> SweepReport:
    """Simulate once for each value of the swept parameter; all values are read before the first is simulated.

    Raises
    ------
    UsageError
        If a value does not parse; otherwise as for `ripple_place.scoring.score.score`.
    """
    points = [score(traces, layouts, setting) for setting in track(sweep.settings(params), f"sweeping {sweep.option}")]
    return SweepReport(sweep, tuple(points))
