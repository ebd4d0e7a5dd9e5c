"""Compare systems at one DRAM budget: one table, and a picture of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.outputs import check_output_file
from ripple_place.pages.systems_picture import write_systems_picture
from ripple_place.scoring.extras import SimulateExtras
from ripple_place.scoring.systems import SystemScores, score_systems
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.scoring.system_params import SystemParams


def simulate_systems(
    sources: Sequence[Path | str], params: SystemParams, track: Track = no_track, extras: SimulateExtras | None = None
) -> SystemScores:
    """Serve a trace, or a model's text, as each system does.

    Parameters
    ----------
    sources : sequence of Path or str
        Traces, or one model.
    params : SystemParams
    track : Track
        Receives progress updates.
    extras : SimulateExtras, optional
        Its picture (`svg`) is written; the rest is of layouts.

    Raises
    ------
    UsageError
        If the picture's file exists, or as `ripple_place.scoring.systems.score_systems`.
    TraceFormatError, PlacementError, CheckpointError, DeviceConfigError, UnsupportedError, OSError
        As `ripple_place.scoring.systems.score_systems`.
    """
    paths, extras = [Path(source) for source in sources], extras or SimulateExtras()
    if extras.svg is not None:
        check_output_file(Path(extras.svg), force=extras.force, apart_from=[*paths, *params.profiles])
    scores = score_systems(paths, params, track)
    if extras.svg is not None:
        write_systems_picture(Path(extras.svg), scores)
    return scores
