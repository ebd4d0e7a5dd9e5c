"""The sources of a profile as one trace, and whether the profile to append to has them already."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from ripple_place.capture.source import capture_directory, capture_origin, capture_source, with_rule_of
from ripple_place.capture.writer import is_capture
from ripple_place.checkpoint.model.ffn import open_model
from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.graph.importance import join_importance
from ripple_place.graph.profile import read_importance, read_predictor
from ripple_place.jsontext import parse_json
from ripple_place.predict.params import PREDICTED
from ripple_place.trace.files import read_trace
from ripple_place.trace.origin import origins
from ripple_place.trace.sources import check_one_unit, is_tensor_file, join_traces, read_source
from ripple_place.trace.union import union_of_segments
from ripple_place.workflows.profile_predictors import predict_capture, read_given
from ripple_place.workflows.verdict_costs import verdict_costs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ripple_place.capture.run import Capture
    from ripple_place.graph.importance import ModelImportance
    from ripple_place.locks import WriterLock
    from ripple_place.predict.predictor import ModelPredictor
    from ripple_place.predict.report import PredictionReport
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.tracking import Track
    from ripple_place.workflows.profile_params import ProfileParams


@dataclass(frozen=True)
class Work:
    """What a run puts into a profile, as it notes it in its lock: the next run learns of it if this one is killed.

    Attributes
    ----------
    sources : tuple of str
        Digests (`ripple_place.trace.origin`).
    n_neighbors, union : int
        As of `ProfileParams`.
    captures : bool
        Rows were recorded in a directory beside the profile.
    files : tuple of str
        What it writes besides the profile.
    importance : str
        What it measures besides the trace: ``importance`` or ``sensitivity``, and the seed; empty if neither.
    predictor : str
        What predictors it fits or judges; empty if none.
    """

    sources: tuple[str, ...] = ()
    n_neighbors: int = 0
    union: int = 0
    captures: bool = False
    files: tuple[str, ...] = ()
    importance: str = ""
    predictor: str = ""

    def to_note(self) -> str:
        """Return the work as text."""
        return json.dumps(asdict(self))

    @classmethod
    def of_note(cls, note: str) -> Work:
        """Return the work that a note tells of; none if it tells of none, or was not written to its end."""
        try:
            work = parse_json(note)
            return cls(
                tuple(work["sources"]), work["n_neighbors"], work["union"], work["captures"], tuple(work["files"]),
                work.get("importance", ""), work.get("predictor", ""),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            return cls()

    def is_same(self, other: Work) -> bool:
        """Tell whether both put the same into a profile."""
        return replace(self, captures=False, files=()) == replace(other, captures=False, files=())


@dataclass(frozen=True, eq=False)
class Gathered:
    """All sources as one trace.

    Attributes
    ----------
    trace : ActivationTrace
        To be counted; the profile's own so far comes first.
    capture : Capture or None
        What was recorded, if a model was among the sources.
    work : Work
    is_written : bool
        An earlier run of the same command has put the trace into the profile, and was then killed.
    importance : ModelImportance or None
        What dropping neurons costs, over all sources that say.
    predictor : ModelPredictor or None
        Fitted on the model's text; else that of the last source that has some.
    prediction : PredictionReport or None
        How good predictors are, where a model was among the sources and they were fitted or judged.
    """

    trace: ActivationTrace
    capture: Capture | None
    work: Work
    is_written: bool = False
    importance: ModelImportance | None = None
    predictor: ModelPredictor | None = None
    prediction: PredictionReport | None = None


def gather_sources(
    sources: Sequence[Path], out: Path, params: ProfileParams, unfinished: Work, track: Track
) -> Gathered:
    """Read the traces of all sources, record that of a model, and join them behind that of the profile to append to.

    Parameters
    ----------
    sources : sequence of Path
    out : Path
        Locked for this process.
    params : ProfileParams
    unfinished : Work
        Of a run that was killed.
    track : Track
        Receives progress updates.

    Raises
    ------
    UsageError
        If the profile has one of the sources already, or there is a text and no model; or if what fired would be
        counted together with what was predicted.
    UnsupportedError, TraceFormatError, CheckpointError, OSError
        As for `read_source`, `capture_source` and, with a family, `open_model`.
    """
    earlier = read_trace(out) if params.append and out.exists() else None
    models = [path for path in sources if path.is_dir()]
    traces = {path: _read(path, params) for path in sources if path not in models}
    read = traces if earlier is None else {out: earlier, **traces}
    check_one_unit([*read], [*read.values()])
    _check_activity(read, params)
    if params.capture is not None and not models:
        raise UsageError(
            "--text", found="no model to read it", expected="a checkpoint directory among the sources",
            remedy="name the model, or leave --text out",
        )  # fmt: skip
    if params.capture is not None and params.capture.family is not None:
        for model in models:
            open_model(model, params.capture.family)  # `reorder` will ask the same.
    digests = {path: origins(trace) for path, trace in traces.items()}
    recording = with_rule_of(earlier, params.capture)
    if earlier is not None:
        digests |= {model: capture_origin(model, recording) for model in models}
        work = _work_of(sources, digests, params, captures=bool(models))
        _remove_remnant(out, earlier, unfinished)
        if _is_written(out, earlier, digests, work, unfinished):
            return Gathered(
                earlier, None, work, is_written=True, importance=read_importance(out), predictor=read_predictor(out)
            )

    given = None if recording is None else read_given(recording)
    capture = prediction = None
    if models:
        capture = capture_source(models, recording, out, earlier, append=params.append, force=params.force, track=track)
        traces[models[0]] = capture.trace
        digests[models[0]] = capture_origin(models[0], recording, capture.rule)
        if recording is not None and recording.predicts:
            costs = verdict_costs(params, sources, capture.trace.unit).read_costs(capture.trace)
            prediction = predict_capture(capture, recording, given, costs, track)
            traces[models[0]] = prediction.trace
    work = _work_of(sources, digests, params, captures=bool(models))
    paths, parts = list(sources), [traces[path] for path in sources]
    held: tuple[str, ...] = ()
    if earlier is not None:
        paths, parts, held = [out, *paths], [earlier, *parts], origins(earlier)
    trace = union_of_segments(join_traces(paths, parts), params.union)
    if len(parts) > 1 or models or params.union > 1:
        trace = replace(trace, sources=held + work.sources)
    measured = [
        capture.importance if path in models and capture is not None else _importance_of(path) for path in paths
    ]
    importance = join_importance([part for part in measured if part is not None])
    is_fitted = prediction is not None and recording is not None and recording.predictor is not None
    return Gathered(
        trace, capture, work, importance=importance,
        predictor=prediction.predictor if prediction is not None and is_fitted else last_predictor(paths),
        prediction=None if prediction is None else prediction.report,
    )  # fmt: skip


def _read(path: Path, params: ProfileParams) -> ActivationTrace:
    """Read a trace source: what fired, or what was predicted."""
    trace = read_source(path)
    try:
        return trace.as_predicted() if params.activity == PREDICTED and not trace.is_as_predicted else trace
    except TraceFormatError as cause:
        raise TraceFormatError.relocated(cause, f"{path}: {cause.where}") from cause


def _check_activity(read: Mapping[Path, ActivationTrace], params: ProfileParams) -> None:
    """Refuse sources of what fired beside a profile of what was predicted, and the other way round."""
    kinds = {trace.is_as_predicted for trace in read.values()}
    if params.capture is not None:
        kinds.add(False)
    if len(kinds) > 1:
        raise UsageError(
            ", ".join(map(str, read)), found="counts of what fired, and of what was predicted",
            expected="one of them in a profile",
            remedy="give the same --activity as for the profile that is there, and profile the two kinds apart",
        )  # fmt: skip


def _importance_of(path: Path) -> ModelImportance | None:
    """Return the importance in a trace that was read, which may be a profile."""
    return read_importance(path) if _is_file_of_tensors(path) else None


def last_predictor(paths: Sequence[Path]) -> ModelPredictor | None:
    """Return the predictors of the last of some sources that has any.

    Raises
    ------
    TraceFormatError, OSError
        As `read_predictor`.
    """
    found = [read_predictor(path) for path in paths if _is_file_of_tensors(path)]
    return next((predictor for predictor in reversed(found) if predictor is not None), None)


def _is_file_of_tensors(path: Path) -> bool:
    return path.is_file() and is_tensor_file(path)


def notes_on_going_on(out: Path, params: ProfileParams, lock: WriterLock) -> list[str]:
    """Return, for a run that is interrupted, what stays and how to go on from it: one sentence, or none."""
    how = "the same command" if params.append else "the same command with --append"
    if params.force and not params.append:
        how += " in place of --force"
    if params.capture is not None and is_capture(directory := capture_directory(out)):
        if out.exists() and not params.append and not lock.stays:
            how = f"once {out} is moved away, {how}"
        return [f"{directory} stays: {how} goes on from it."]
    return [f"{out} is in place: {how} goes on to what comes after it."] if lock.stays else []


def _work_of(
    sources: Sequence[Path], digests: Mapping[Path, tuple[str, ...]], params: ProfileParams, *, captures: bool
) -> Work:
    """Return what a run puts into a profile."""
    added = tuple(digest for path in sources for digest in digests[path])
    files = tuple(str(path) for path in (params.graphml, params.powerinfer, params.html) if path is not None)
    importance = ""
    if params.capture is not None and params.capture.measures_importance:
        importance = f"{'sensitivity' if params.capture.sensitivity else 'importance'}, seed {params.capture.seed}"
    predictor = ""
    if params.capture is not None and params.capture.predicts:
        asked = params.capture
        predictor = f"{asked.predictor or asked.predictor_from}, recorded {asked.record_predicted}, seed {asked.seed}"
    return Work(added, params.n_neighbors, params.union, captures, files, importance, predictor)


def _remove_remnant(out: Path, earlier: ActivationTrace, unfinished: Work) -> None:
    """Remove the rows of a capture that a killed run had put into the profile already."""
    directory = capture_directory(out)
    if unfinished.captures and set(unfinished.sources) <= set(origins(earlier)) and is_capture(directory):
        shutil.rmtree(directory)


def _is_written(
    out: Path, earlier: ActivationTrace, digests: dict[Path, tuple[str, ...]], work: Work, unfinished: Work
) -> bool:
    """Tell whether a killed run of the same command has written the profile; raise if another one has, in part even."""
    held = origins(earlier)
    again = [str(path) for path, own in digests.items() if set(own) & set(held)]
    if not again:
        return False
    if work.is_same(unfinished) and held[-len(work.sources) :] == work.sources:
        return True
    raise UsageError(
        f"{out} --append", found=f"the content of {', '.join(again)} in it already", expected="something new",
        remedy="leave out what it has; its verdict alone is that of `ripple-place profile` with it as the source",
    )  # fmt: skip
