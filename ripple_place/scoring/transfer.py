"""Layouts against traces: how far a placement made on one text serves another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.scoring.score import score
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.scoring.params import SimulateParams
    from ripple_place.scoring.score import Scores


@dataclass(frozen=True, eq=False)
class TransferReport:
    """Each layout scored on each trace alone.

    Attributes
    ----------
    traces : tuple of str
    rows : tuple of Scores
        One a trace.
    """

    traces: tuple[str, ...]
    rows: tuple[Scores, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the ``transfer`` entry of ``simulate --json``: rows are traces, columns layouts (and rules)."""
        documents = [scores.to_json()["layouts"] for scores in self.rows]
        return {
            "traces": list(self.traces),
            "layouts": [layout["name"] for layout in documents[0]],
            "labels": [layout["label"] for layout in documents[0]],
            "flash_time_us_per_token": [[layout["flash_time_us_per_token"] for layout in row] for row in documents],
            "speedup": [[layout["speedup"] for layout in row] for row in documents],
        }


def transfer_matrix(
    traces: Sequence[Path | str], layouts: Sequence[str | Path], params: SimulateParams, track: Track = no_track
) -> TransferReport:
    """Score every layout on every trace by itself.

    Raises
    ------
    UsageError and others
        As for `ripple_place.scoring.score.score`.
    """
    rows = [score([trace], layouts, params) for trace in track(traces, "simulating")]
    return TransferReport(tuple(scores.traces[0] for scores in rows), tuple(rows))
