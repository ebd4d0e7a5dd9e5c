"""What serving the experts of a mixture from flash costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.errors import UsageError
from ripple_place.experts.budget import parse_budget
from ripple_place.experts.results import ExpertReport
from ripple_place.experts.score import score_experts
from ripple_place.experts.serve_params import ServeParams
from ripple_place.experts.slot_curves import slot_curves
from ripple_place.outputs import check_output_file
from ripple_place.pages.serving_page import hits_picture, serving_page
from ripple_place.pages.svg import WIDE, standalone
from ripple_place.tensorfile import replacing
from ripple_place.trace.activation_trace import ActivationTrace
from ripple_place.trace.sources import read_sources
from ripple_place.tracking import Track, no_track
from ripple_place.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SWEEPABLE: dict[str, tuple[str, Callable[[str], Any]]] = {
    "dram-budget": ("dram_budget", parse_budget),
    "bundle-bytes": ("expert_bytes", parse_bytes),
    "device": ("device", str),
    "cache": ("cache", str),
}
"""What can be swept: option -> field of `ServeParams`, and how its text is read."""


@dataclass(frozen=True)
class ExpertFiles:
    """Files that a simulation of experts writes; by default none.

    Parameters
    ----------
    html : Path or str, optional
        Page with scores and pictures. It simulates other policies and numbers of slots, too.
    svg : Path or str, optional
        The page's first picture alone: hits against slots.
    command : str
        What the page shows as having made it.
    force : bool
        Replace files that exist.
    inputs : tuple of Path
        What must not be overwritten.
    """

    html: Path | str | None = None
    svg: Path | str | None = None
    command: str = "ripple_place.workflows.simulate_experts"
    force: bool = False
    inputs: tuple[Path, ...] = ()

    def check(self) -> None:
        """Raise UsageError if a file to write exists, is an input, or has no directory to lie in."""
        written: list[Path] = []
        for path in (self.html, self.svg):
            if path is not None:
                check_output_file(Path(path), force=self.force, apart_from=[*self.inputs, *written])
                written.append(Path(path))


def simulate_experts(
    traces: Sequence[Path] | ActivationTrace,
    params: ServeParams | None = None,
    sweep: tuple[str, tuple[str, ...]] | None = None,
    track: Track = no_track,
    names: Sequence[str] = (),
    files: ExpertFiles | None = None,
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
    files : ExpertFiles, optional
        Page and picture to write; checked before the work starts.

    Raises
    ------
    UsageError
        If a file to write exists, a picture is asked for of prompts alone, or a value of the sweep does not parse; as
        `ripple_place.experts.score.score_experts`.
    TraceFormatError, PlacementError, DeviceConfigError
        If a file is malformed or of another model.
    OSError
        If a file cannot be read.
    """
    params = params or ServeParams()
    files = files or ExpertFiles()
    files.check()
    settings = [] if sweep is None else _settings(params, *sweep)
    if not isinstance(traces, ActivationTrace):
        names = [path.name for path in traces]
        traces = read_sources(list(traces))
    report = ExpertReport(score_experts(traces, params, names))
    if sweep is not None:
        option, values = sweep
        points = [score_experts(traces, setting, names) for setting in track(settings, f"sweeping {option}")]
        report = replace(report, option=option, values=values, points=points)
    if files.html is not None or files.svg is not None:
        _draw(traces, report, files, track)
    return report


def _draw(trace: ActivationTrace, report: ExpertReport, files: ExpertFiles, track: Track) -> None:
    """Write the page and the picture that are asked for; each appears whole or not at all."""
    curves = slot_curves(trace, report.scores, track)
    if files.svg is not None and curves is None:
        raise UsageError(
            f"--svg {files.svg}", found="prompts alone", expected="generated tokens, whose hits the picture shows",
            remedy="leave --svg out, or give a trace with generated tokens",
        )  # fmt: skip
    if files.html is not None:
        page = serving_page(report, curves, files.command)
        with replacing(files.html) as file:
            file.write(page.encode())
    if files.svg is not None and curves is not None:
        picture = standalone(hits_picture(curves, WIDE))
        with replacing(files.svg) as file:
            file.write(picture.encode())


def _settings(params: ServeParams, option: str, values: Sequence[str]) -> list[ServeParams]:
    """Return the parameters of each point, all of which are checked before the first is simulated."""
    if option not in SWEEPABLE:
        raise UsageError(
            f"--sweep {option}", found="experts", expected=f"one of {', '.join(SWEEPABLE)}",
            remedy="write for instance --sweep cache=lru,s3fifo",
        )  # fmt: skip
    field, parse = SWEEPABLE[option]
    return [replace(params, **{field: parse(value)}) for value in values]
