"""What serving the experts of a mixture from flash costs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ripple_place.errors import UsageError
from ripple_place.experts.budget import parse_budget
from ripple_place.experts.results import ExpertReport
from ripple_place.experts.score import score_experts
from ripple_place.experts.serve_params import ServeParams
from ripple_place.trace.activation_trace import ActivationTrace
from ripple_place.trace.sources import read_sources
from ripple_place.tracking import Track, no_track
from ripple_place.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SWEEPABLE: dict[str, tuple[str, Callable[[str], Any]]] = {
    "dram-budget": ("dram_budget", parse_budget),
    "bundle-bytes": ("expert_bytes", parse_bytes),
    "device": ("device", str),
    "cache": ("cache", str),
}
"""What can be swept: option -> field of `ServeParams`, and how its text is read."""


def simulate_experts(
    traces: Sequence[Path] | ActivationTrace,
    params: ServeParams | None = None,
    sweep: tuple[str, tuple[str, ...]] | None = None,
    track: Track = no_track,
    names: Sequence[str] = (),
) -> ExpertReport:
    """Replay a trace of experts through a cache, and charge its misses on each layout.

    Parameters
    ----------
    traces : sequence of Path, or ActivationTrace
        Routes (`ripple_place.trace.sources`), or the trace of them.
    params : ServeParams, optional
    sweep : (str, tuple of str), optional
        One of `SWEEPABLE`, and the values to simulate as well.
    track : Track
        Receives progress updates.
    names : sequence of str
        Of the trace's files, where a trace is given.

    Raises
    ------
    UsageError
        If a value of the sweep does not parse; as `ripple_place.experts.score.score_experts`.
    TraceFormatError, PlacementError, DeviceConfigError
        If a file is malformed or of another model.
    OSError
        If a file cannot be read.
    """
    params = params or ServeParams()
    settings = [] if sweep is None else _settings(params, *sweep)
    if not isinstance(traces, ActivationTrace):
        names = [path.name for path in traces]
        traces = read_sources(list(traces))
    scores = score_experts(traces, params, names)
    if sweep is None:
        return ExpertReport(scores)
    option, values = sweep
    points = [score_experts(traces, setting, names) for setting in track(settings, f"sweeping {option}")]
    return ExpertReport(scores, option, values, points)


def _settings(params: ServeParams, option: str, values: Sequence[str]) -> list[ServeParams]:
    """Return the parameters of each point, all of which are checked before the first is simulated."""
    if option not in SWEEPABLE:
        raise UsageError(
            f"--sweep {option}", found="experts", expected=f"one of {', '.join(SWEEPABLE)}",
            remedy="write for instance --sweep cache=lru,s3fifo",
        )  # fmt: skip
    field, parse = SWEEPABLE[option]
    return [replace(params, **{field: parse(value)}) for value in values]
