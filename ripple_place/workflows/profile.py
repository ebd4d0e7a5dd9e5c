"""From activation traces to a profile: how often neurons fire, and fire together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import EXPERT
from ripple_place.capture.powerinfer_files import write_powerinfer
from ripple_place.errors import UsageError
from ripple_place.experts.verdict.judge import judge_experts
from ripple_place.experts.verdict.sentences import sentences as expert_sentences
from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
from ripple_place.graph.counting import count_trace, profile_of_counts
from ripple_place.graph.export import write_graphml
from ripple_place.graph.profile import Profile, write_profile
from ripple_place.locks import one_writer
from ripple_place.outputs import check_output_file
from ripple_place.pages.experts_page import experts_page
from ripple_place.pages.profile_page import profile_page
from ripple_place.paths import Paths, as_paths
from ripple_place.predict.params import PREDICTED
from ripple_place.tensorfile import replacing
from ripple_place.trace.activation_trace import ASSUMED
from ripple_place.trace.counts import counts_source, is_counts, read_counts
from ripple_place.tracking import Track, no_track
from ripple_place.verdict.judge import judge
from ripple_place.verdict.sentences import sentences
from ripple_place.verdict.warnings import COUNTS_WARNING, PAIRS_WARNING, trace_warnings
from ripple_place.workflows.powerinfer_export import check_export
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.profile_sources import Work, gather_sources, notes_on_going_on
from ripple_place.workflows.verdict_costs import verdict_costs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.capture.run import Capture
    from ripple_place.experts.verdict.judge import ExpertVerdict
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.graph.importance import ModelImportance
    from ripple_place.graph.statistics import BlockStatistics
    from ripple_place.locks import WriterLock
    from ripple_place.predict.report import PredictionReport
    from ripple_place.verdict.judge import VerdictParams
    from ripple_place.verdict.verdict import Verdict
    from ripple_place.workflows.profile_sources import Gathered


@dataclass(frozen=True)
class ProfileReport:
    """The result of `profile`: statistics, warnings and verdict.

    Attributes
    ----------
    n_tokens : int or None
        Tokens of the trace; None for imported counts that do not say on how many they were counted.
    n_segments : int or None
        Segments of the trace; None for imported counts.
    digest : str
        Hash of the counts; placements record it.
    statistics : mapping of str to BlockStatistics
        By block, in model order.
    warnings : tuple of str
        How the numbers may mislead.
    metadata : mapping of str to str
        ``activity``, ``model`` and ``dataset`` of the trace, as far as it says.
    capture : Capture or None
        What was recorded, if a model was among the sources.
    verdict : Verdict or None
        How much reordering can help.
    importance : ModelImportance or None
        What dropping neurons costs, if a source says.
    prediction : PredictionReport or None
        How good the predictors are that were fitted or judged.
    experts : ExpertVerdict or None
        What the routes of a mixture say, where the unit is an expert.
    """

    n_tokens: int | None
    n_segments: int | None
    digest: str
    statistics: Mapping[str, BlockStatistics]
    warnings: tuple[str, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    capture: Capture | None = None
    verdict: Verdict | None = None
    importance: ModelImportance | None = None
    prediction: PredictionReport | None = None
    experts: ExpertVerdict | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``profile --json``."""
        return {
            "n_tokens": self.n_tokens,
            "n_segments": self.n_segments,
            **{key: self.metadata.get(key) for key in ("activity", "model", "dataset")},
            "profile": self.digest,
            **({} if self.capture is None else {"capture": self.capture.to_json()}),
            "blocks": {name: statistics.to_json() for name, statistics in self.statistics.items()},
            "importance": None if self.importance is None else self.importance.to_json(),
            "predictor": None if self.prediction is None else self.prediction.to_json(),
            "verdict": self._verdict_json(),
            "warnings": list(self.warnings),
        }

    def _verdict_json(self) -> dict[str, Any] | None:
        """Return the verdict with its sentences, of neurons or columns or of experts; None if nothing was judged."""
        if self.experts is not None:
            return {"sentences": expert_sentences(self.experts), **self.experts.to_json()}
        return None if self.verdict is None else {"sentences": [*sentences(self.verdict)], **self.verdict.to_json()}


def profile(
    sources: Paths, out: str | Path, params: ProfileParams | None = None, track: Track = no_track
) -> ProfileReport:
    """Count firings and co-firings of every block, write the profile, and judge what reordering is worth.

    Parameters
    ----------
    sources : str, Path, or several
        Traces (`ripple_place.trace.sources`), and at most one model: a checkpoint directory. Or firing counts alone.
    out : str or Path
        The profile; appears whole or not at all.
    params : ProfileParams, optional
    track : Track
        Receives progress updates.

    Raises
    ------
    UsageError, UnsupportedError, TraceFormatError, CheckpointError, OSError
        As for `read_source`, `capture_source` and `write_profile`; `UsageError` also if an output exists.
    """
    sources, out, params = as_paths(sources), Path(out), params or ProfileParams()
    if not sources:
        raise UsageError("sources", found="none", expected="a trace, or a model", remedy="name at least one")
    check_output_file(out, force=params.force or params.append, apart_from=sources)
    with one_writer(out) as lock:
        unfinished = Work.of_note(lock.left_note)
        _check_outputs(sources, out, params, unfinished)
        if any(map(is_counts, sources)):
            return _profile_counts(sources, out, params)
        try:
            gathered = gather_sources(sources, out, params, unfinished, track)
            return _profile_trace(sources, out, params, gathered, lock, track)
        except KeyboardInterrupt as interrupt:
            for note in notes_on_going_on(out, params, lock):
                interrupt.add_note(note)
            raise


def _profile_trace(
    sources: Sequence[Path], out: Path, params: ProfileParams, gathered: Gathered, lock: WriterLock, track: Track
) -> ProfileReport:
    """Count a trace, write its profile unless that is done, and judge."""
    trace, capture = gathered.trace, gathered.capture
    counted, statistics = count_trace(trace, params.n_neighbors, track)
    counted = replace(counted.with_importance(gathered.importance), predictor=gathered.predictor)
    if not gathered.is_written:
        lock.note(gathered.work.to_note())
        write_profile(out, counted)
    lock.keep_note()
    if capture is not None:
        # The profile holds the rows now: a run after this one must not find them and add them again.
        capture.remove_files()
    if params.graphml is not None:
        write_graphml(params.graphml, counted.blocks)
    if params.powerinfer is not None:
        assert counted.predictor is not None
        write_powerinfer(Path(params.powerinfer), counted.predictor)

    warnings = trace_warnings(trace.n_tokens, statistics)
    if capture is not None:
        warnings = (*capture.notes, *warnings)
    if ASSUMED in trace.metadata:
        warnings = (*warnings, f"assumed, since the source does not say: {trace.metadata[ASSUMED]}")
    if gathered.is_written:
        warnings = (*warnings, f"{out} had these sources already, from a run that did not end: nothing was added")
    elif lock.was_left:
        warnings = (*warnings, f"an earlier run on {out} was killed before it ended; this one did all of the work")
    verdict = None
    experts = None
    if params.verdict is not None and trace.unit == EXPERT:
        experts = judge_experts(trace, _device_of(params.verdict), track)
    elif params.verdict is not None:
        verdict = judge(trace, statistics, verdict_costs(params, sources, trace.unit), track)
    if verdict is not None and params.html is not None:
        _write_page(params, verdict, counted, sources, warnings, gathered.prediction)
    if experts is not None and params.html is not None:
        page = experts_page(experts, [source.name for source in sources], warnings, params.command)
        with replacing(params.html) as file:
            file.write(page.encode())
    return ProfileReport(
        n_tokens=trace.n_tokens,
        n_segments=int(trace.segment_starts.size),
        digest=counted.digest,
        statistics=statistics,
        warnings=warnings,
        metadata=trace.metadata,
        capture=capture,
        verdict=verdict,
        importance=gathered.importance,
        prediction=gathered.prediction,
        experts=experts,
    )


def _device_of(costs: VerdictParams) -> DeviceProfile:
    """Return the device of a verdict on experts; with a break-even gap, which means nothing for them, the default."""
    if costs.device is None:
        return load_device(DEFAULT_DEVICE)
    return load_device(str(costs.device)) if isinstance(costs.device, str | Path) else costs.device


def _check_outputs(sources: Sequence[Path], out: Path, params: ProfileParams, unfinished: Work) -> None:
    """Refuse outputs that exist, but for those of a killed run of ours, or cannot be written, before any work."""
    check_output_file(out, force=params.force or params.append, apart_from=sources)
    taken = [*sources, out]
    for path in (params.graphml, params.html):
        if path is not None:
            ours = params.append and str(path) in unfinished.files
            check_output_file(Path(path), force=params.force or ours, apart_from=taken, takes_force=not params.append)
            taken.append(Path(path))
    if params.powerinfer is not None:
        ours = params.append and str(params.powerinfer) in unfinished.files
        check_export(params, sources, out, force=params.force or ours)


def _profile_counts(sources: Sequence[Path], out: Path, params: ProfileParams) -> ProfileReport:
    """Write the profile of imported firing counts, which say nothing of which neurons fire together."""
    besides = (params.graphml, params.powerinfer, params.html)
    extras = params.append or params.union > 1 or any(path is not None for path in besides)
    extras = extras or params.activity == PREDICTED
    if len(sources) > 1 or extras:
        raise UsageError(
            ", ".join(map(str, sources)), found="firing counts and something to join or draw them with",
            expected="counts by themselves, without --append, --union, --activity, --graphml, --powerinfer or --html",
            remedy="profile them alone",
        )  # fmt: skip
    counts = read_counts(counts_source(sources[0]))
    counted, statistics = profile_of_counts(counts, params.n_neighbors)
    write_profile(out, counted, n_tokens=counts.n_tokens)
    return ProfileReport(
        n_tokens=counts.n_tokens,
        n_segments=None,
        digest=counted.digest,
        statistics=statistics,
        warnings=(COUNTS_WARNING if not counts.pairs else PAIRS_WARNING,),
        metadata=counted.counted_as,
    )


def _write_page(
    params: ProfileParams, verdict: Verdict, counted: Profile, sources: Sequence[Path], warnings: Sequence[str],
    prediction: PredictionReport | None,
) -> None:  # fmt: skip
    """Write the page with verdict and pictures."""
    frequency = {name: block.frequency for name, block in counted.blocks.items()}
    page = profile_page(
        verdict, frequency, [source.name for source in sources], warnings, params.command, prediction
    )  # fmt: skip
    assert params.html is not None
    with replacing(params.html) as file:
        file.write(page.encode())
