"""Score layouts on a trace: what each would cost on a flash device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.pages.simulation_files import write_page, write_picture, write_timeline
from ripple_place.scoring.extras import SimulateExtras
from ripple_place.scoring.measure import measure_simulated
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.report import SimulateReport
from ripple_place.scoring.score import score
from ripple_place.scoring.sweep import sweep_simulation
from ripple_place.scoring.transfer import transfer_matrix
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def simulate(
    traces: Sequence[Path | str],
    layouts: Sequence[str | Path],
    params: SimulateParams | None = None,
    track: Track = no_track,
    extras: SimulateExtras | None = None,
) -> SimulateReport:
    """Replay a trace on each layout, and do what else is asked for.

    Parameters
    ----------
    traces : sequence of Path or str
        See `ripple_place.trace.sources`.
    layouts : sequence of str or Path
        Output directories of `reorder`, placement files, or ``original``; scored in this order.
    params : SimulateParams, optional
    track : Track
        Receives progress updates.
    extras : SimulateExtras, optional
        Sweep, transfer matrix, real reads, and files to write; checked before the work starts.

    Raises
    ------
    UsageError
        If a path, device, cache policy, baseline or value of the sweep is unknown, nothing says how long bundles are,
        or a file to write exists.
    TraceFormatError, PlacementError, CheckpointError, DeviceConfigError
        If a file is malformed, or a layout is of another model.
    UnsupportedError
        If there is a file to measure, and this is not Linux.
    OSError
        If a file cannot be read or written.
    """
    params, extras = params or SimulateParams(), extras or SimulateExtras()
    extras.check(traces, layouts, params)
    scores = score(traces, layouts, params, track)
    swept = transferred = measured = None
    if extras.sweep is not None:
        extras.sweep.check_unit(scores.trace.unit)
        swept = sweep_simulation(traces, layouts, params, extras.sweep, track)
    if extras.transfer:
        transferred = transfer_matrix(traces, layouts, params, track)
    if extras.html is not None:
        write_page(extras.html, scores, extras.command, swept)
    if extras.svg is not None:
        write_picture(extras.svg, scores)
    if extras.timeline is not None:
        write_timeline(extras.timeline, scores)
    if extras.measure is not None:
        measured = measure_simulated(scores, extras.measure, np.random.default_rng(params.seed), track)
    return SimulateReport.from_scores(scores, swept, transferred, measured)
