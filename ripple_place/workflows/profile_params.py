"""How to profile. Imports nothing heavy, because the command line takes the defaults in its help from here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.predict.params import PREDICTED, TRUE, check_activity

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.capture.params import CaptureParams
    from ripple_place.verdict.judge import VerdictParams

MAX_NEIGHBORS = 4096
"""The graph of a block of 4096 neurons is complete with so many."""


def _default_verdict() -> VerdictParams:
    from ripple_place.verdict.judge import VerdictParams

    return VerdictParams()


@dataclass(frozen=True)
class ProfileParams:
    """How to profile, and what to write besides the profile.

    Parameters
    ----------
    n_neighbors : int
        Neighbours kept of each neuron in the co-activation graph, 1 to `MAX_NEIGHBORS`. The
        statistics look at the best 8; the rest is for other tools.
    union : int
        Sequences that run together (`ripple_place.trace.union`): a neuron is active if any of them needs it.
    activity : str
        ``predicted``: of traces, what predictors said is counted in place of what fired.
    capture : CaptureParams, optional
        How to record the trace of the model among the sources.
    append : bool
        Add to the profile that is there, and go on with a capture that was interrupted.
    graphml : str or Path, optional
        Where the neighbour graphs go as GraphML.
    verdict : VerdictParams or None
        What reads cost, for the verdict; None for no verdict.
    powerinfer : str or Path, optional
        Directory where predictors go in PowerInfer's layout.
    html : str or Path, optional
        Where the page with pictures goes. It shows the verdict.
    command : str
        What made the page, as shown on it.
    force : bool
        Overwrite existing files.

    Raises
    ------
    UsageError
        If a number is out of range, or two parameters exclude each other.
    """

    n_neighbors: int = 64
    union: int = 1
    activity: str = TRUE
    capture: CaptureParams | None = None
    append: bool = False
    graphml: str | Path | None = None
    verdict: VerdictParams | None = field(default_factory=_default_verdict)
    powerinfer: str | Path | None = None
    html: str | Path | None = None
    command: str = ""
    force: bool = False

    def __post_init__(self) -> None:
        if self.append and self.force:
            raise UsageError("--append --force", found="both", expected="one", remedy="leave one out")
        if self.html is not None and self.verdict is None:
            raise UsageError(
                "--html", found="no verdict to show", expected="one", remedy="leave --no-verdict out, or --html"
            )
        if not 1 <= self.n_neighbors <= MAX_NEIGHBORS:
            raise UsageError(
                "--neighbors", found=str(self.n_neighbors), expected=f"1 to {MAX_NEIGHBORS}",
                remedy="ask for a number in this range",
            )  # fmt: skip
        check_activity(self.activity)
        if self.activity == PREDICTED and self.capture is not None:
            raise UsageError(
                "--activity predicted", found="a model, of which what fires is recorded",
                expected="traces with predictions",
                remedy="profile the model with --record-predicted first, then profile that profile",
            )  # fmt: skip
        if self.union < 1:
            raise UsageError(
                "--union", found=str(self.union), expected="at least 1", remedy="give the sequences that run together"
            )
