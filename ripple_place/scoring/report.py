"""What `simulate` found: the scores, and what was asked for beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ripple_place.scoring.score import Scores

if TYPE_CHECKING:
    from ripple_place.scoring.measure import MeasureReport
    from ripple_place.scoring.sweep import SweepReport
    from ripple_place.scoring.transfer import TransferReport


@dataclass(frozen=True, eq=False)
class SimulateReport(Scores):
    """What `simulate` prints: scores, and what was asked for beside them; None where it was not.

    Attributes
    ----------
    sweep : SweepReport or None
    transfer : TransferReport or None
    measured : MeasureReport or None
        Its warnings are among those of the report.
    """

    sweep: SweepReport | None = None
    transfer: TransferReport | None = None
    measured: MeasureReport | None = None

    @classmethod
    def from_scores(
        cls,
        scores: Scores,
        sweep: SweepReport | None = None,
        transfer: TransferReport | None = None,
        measured: MeasureReport | None = None,
    ) -> SimulateReport:
        """Return the report of a simulation."""
        report = cls(**vars(scores), sweep=sweep, transfer=transfer, measured=measured)
        return report if measured is None else replace(report, warnings=(*scores.warnings, *measured.warnings))

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``simulate --json``."""
        document = super().to_json()
        if self.measured is not None:
            document = self.measured.add_to(document)
        more = {"sweep": self.sweep, "transfer": self.transfer}
        return {**document, **{key: report.to_json() for key, report in more.items() if report is not None}}
