"""Which systems to compare, and on what: checked before the work starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.scoring.params import SimulateParams
from ripple_place.systems.system import System

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.capture.params import CaptureParams


@dataclass(frozen=True)
class SystemParams:
    """Which systems to compare at one DRAM budget.

    Parameters
    ----------
    systems : tuple of str
        As `ripple_place.systems.system.System.parse` reads them.
    simulate : SimulateParams
        Device, layers, bundle size, DRAM budget, computing, threads, seed, and a model's text. What a system has a knob
        for is left at its default.
    profiles : tuple of Path
        Of the units that systems order: at most one of neurons and one of columns.
    tune : CaptureParams, optional
        The text that rules with a wanted rise of the loss are tuned on.
    effort : int
        Of orderings that take effort.

    Raises
    ------
    UsageError
        If there is no system or no DRAM budget, a system stands twice or does not parse.
    """

    systems: tuple[str, ...]
    simulate: SimulateParams = field(default_factory=SimulateParams)
    profiles: tuple[Path, ...] = ()
    tune: CaptureParams | None = None
    effort: int = 10

    def __post_init__(self) -> None:
        self.parsed()
        if twice := {name for name in self.systems if self.systems.count(name) > 1}:
            raise UsageError("--system", found=f"{min(twice)} twice", expected="each once", remedy="leave one out")
        if not self.systems:
            raise UsageError("--system", found="none", expected="at least one", remedy="name one")
        if self.simulate.dram_budget is None or isinstance(self.simulate.dram_budget, str):
            raise UsageError(
                "--system", found="no DRAM budget", expected="one, the same for all systems",
                remedy="add --dram-budget 10%",
            )  # fmt: skip

    def parsed(self) -> tuple[System, ...]:
        """Return the systems."""
        return tuple(System.parse(text) for text in self.systems)

    @property
    def budget(self) -> float | int:
        """The DRAM budget: a share, or bytes."""
        assert isinstance(self.simulate.dram_budget, float | int)
        return self.simulate.dram_budget
