"""From activation traces to a profile: how often neurons fire, and fire together."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.capture.capture import capture as capture_trace
from ripple_place.capture.extra import require_capture_extra
from ripple_place.errors import RipplePlaceError, TraceFormatError, UsageError
from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.graph.export import write_graphml
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.graph.profile import BlockProfile, Profile, write_profile
from ripple_place.graph.statistics import BlockStatistics, block_statistics, count_statistics
from ripple_place.jsontext import parse_json
from ripple_place.outputs import check_output_file
from ripple_place.pages.profile_page import profile_page
from ripple_place.tensorfile import replacing
from ripple_place.trace.adapters import AdapterSource, is_adapter
from ripple_place.trace.counts import read_counts
from ripple_place.trace.files import read_trace
from ripple_place.trace.sources import join_traces, read_source
from ripple_place.trace.union import union_of_segments
from ripple_place.tracking import Track, no_track
from ripple_place.verdict.judge import VerdictParams, judge
from ripple_place.verdict.sentences import sentences
from ripple_place.verdict.verdict import SHORT_TRACE_TOKENS, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.capture.capture import Capture, CaptureParams
    from ripple_place.trace.activation_trace import ActivationTrace


@dataclass(frozen=True)
class ProfileReport:
    """What `profile` prints."""

    trace: ActivationTrace | None
    statistics: dict[str, BlockStatistics]
    digest: str
    warnings: tuple[str, ...]
    capture: Capture | None = None
    n_tokens: int | None = None
    verdict: Verdict | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``profile --json``."""
        metadata = {} if self.trace is None else self.trace.metadata
        return {
            "n_tokens": self.n_tokens,
            "n_segments": None if self.trace is None else int(self.trace.segment_starts.size),
            **{key: metadata.get(key) for key in ("activity", "model", "dataset")},
            "profile": self.digest,
            **({} if self.capture is None else {"capture": self.capture.to_json()}),
            "blocks": {name: statistics.to_json() for name, statistics in self.statistics.items()},
            "verdict": None
            if self.verdict is None
            else {"sentences": [*sentences(self.verdict)], **self.verdict.to_json()},
            "warnings": list(self.warnings),
        }


def profile(
    sources: Sequence[Path],
    out: Path,
    *,
    n_neighbors: int = 64,
    union: int = 1,
    capture: CaptureParams | None = None,
    append: bool = False,
    graphml: Path | None = None,
    verdict: VerdictParams | None = None,
    html: Path | None = None,
    command: str = "",
    force: bool = False,
    track: Track = no_track,
) -> ProfileReport:
    """Count firings and co-firings of every block, and write the profile.

    Parameters
    ----------
    sources : sequence of Path
        Traces (`ripple_place.trace.sources`), and at most one model: a checkpoint directory.
    out : Path
        The profile; appears whole or not at all.
    n_neighbors : int
        Neighbours kept of each neuron.
    union : int
        Sequences that run together (`ripple_place.trace.union`).
    capture : CaptureParams, optional
        How to record the model's trace, where `sources` has one.
    append : bool
        Add to what is in `out`, and go on with a capture that was interrupted.
    graphml : Path, optional
        Where the neighbour graphs go as GraphML.
    verdict : VerdictParams, optional
        What reads cost, for the verdict; none is given without.
    html : Path, optional
        Where the page with pictures goes; it shows the verdict.
    command : str
        Shown on that page as what made it.
    force : bool
        Overwrite existing files.
    track : Track
        Told of progress.

    Raises
    ------
    UsageError, UnsupportedError, TraceFormatError, CheckpointError, OSError
        As for `read_source`, `ripple_place.capture.capture` and `write_profile`; `UsageError` also if an output
        exists.
    """
    if append and force:
        raise UsageError("--append --force", found="both", expected="one", remedy="add to the profile, or overwrite it")
    check_output_file(out, force=force or append, apart_from=sources)
    if graphml is not None:
        check_output_file(graphml, force=force, apart_from=[*sources, out])
    if html is not None:
        check_output_file(html, force=force, apart_from=[*sources, out, *([] if graphml is None else [graphml])])
        if verdict is None:
            raise UsageError(
                "--html", found="no verdict to show", expected="one", remedy="leave --no-verdict out, or --html"
            )
    if any(is_adapter(path) and str(path).startswith("powerinfer:") for path in sources):
        extras = append or union > 1 or graphml is not None or html is not None
        return _profile_counts(sources, out, n_neighbors, append=extras)
    earlier = read_trace(out) if append and out.exists() else None
    traces, captured = [], None
    models = [path for path in sources if path.is_dir()]
    for path in sources:
        if path in models:
            captured = _capture(models, capture, out, earlier, append=append, force=force, track=track)
            traces.append(captured.trace)
        else:
            traces.append(read_source(path))
    if capture is not None and not models:
        raise UsageError(
            "--text", found="no model to read it", expected="a checkpoint directory among the sources",
            remedy="name the model, or leave --text out",
        )  # fmt: skip
    joined = join_traces(sources, traces) if earlier is None else join_traces([out, *sources], [earlier, *traces])
    trace = union_of_segments(joined, union)
    blocks, statistics = {}, {}
    for name, block in track(trace.blocks.items(), "counting co-activations"):
        bits = NeuronBits.of_block(block)
        blocks[name] = BlockProfile(bits.frequency(), neighbor_graph(bits, n_neighbors))
        statistics[name] = block_statistics(blocks[name].frequency, blocks[name].graph, bits)
    result = Profile(blocks, n_neighbors, trace)
    write_profile(out, result)
    if graphml is not None:
        write_graphml(graphml, blocks)
    report = ProfileReport(trace, statistics, result.digest, _warnings(trace, statistics), captured, trace.n_tokens)
    if verdict is not None:
        report = replace(report, verdict=judge(trace, statistics, verdict, track))
    if html is not None:
        assert report.verdict is not None
        frequency = {name: block.frequency for name, block in blocks.items()}
        names = [path.name for path in sources]
        with replacing(html) as file:
            file.write(profile_page(report.verdict, frequency, names, report.warnings, command).encode())
    if captured is not None:
        # The rows lie in the profile now; what is mapped of the files stays readable until it is let go.
        captured.remove_files()
    return report


def _profile_counts(sources: Sequence[Path], out: Path, n_neighbors: int, *, append: bool) -> ProfileReport:
    """Write the profile of imported firing counts: how often neurons fire, and nothing of which fire together."""
    from scipy.sparse import csr_array

    if len(sources) > 1 or append:
        raise UsageError(
            ", ".join(map(str, sources)), found="firing counts and something to join or draw them with",
            expected="counts by themselves, without --append, --union, --graphml or --html",
            remedy="profile them alone",
        )  # fmt: skip
    counts = read_counts(AdapterSource.parse(str(sources[0])))
    blocks = {
        name: BlockProfile(frequency, csr_array((frequency.size, frequency.size), dtype=np.int32))
        for name, frequency in counts.blocks.items()
    }
    result = Profile(blocks, n_neighbors, None)
    write_profile(out, result, n_tokens=counts.n_tokens)
    statistics = {name: count_statistics(block.frequency, counts.n_tokens) for name, block in blocks.items()}
    warning = "counts say nothing of which neurons fire together: order by frequency, or profile a trace"
    return ProfileReport(None, statistics, result.digest, (warning,), None, counts.n_tokens)


def _capture(
    models: Sequence[Path], params: CaptureParams | None, out: Path, earlier: ActivationTrace | None, *, append: bool,
    force: bool, track: Track,
) -> Capture:  # fmt: skip
    """Record the trace of the one model among the sources, in a directory beside `out`."""
    if not (models[0] / "config.json").is_file():
        raise UsageError(
            models[0], found="a directory without config.json", expected="a Hugging Face checkpoint, or a trace file",
            remedy="give the directory that holds config.json and the weights",
        )  # fmt: skip
    require_capture_extra(models[0])
    if len(models) > 1:
        raise UsageError(
            ", ".join(map(str, models)), found="several models", expected="one", remedy="profile each by itself"
        )
    if params is None:
        raise UsageError(
            models[0], found="a model and no text", expected="--text FILE, text for the model to read",
            remedy="give some, of the kind that the model will meet",
        )  # fmt: skip
    if earlier is not None and earlier.metadata.get("activity") != str(params.rule):
        raise UsageError(
            f"{out} --append", found=f"a profile by the rule {earlier.metadata.get('activity')!r}",
            expected=f"{params.rule}", remedy="give the same --active, or another --out",
        )  # fmt: skip
    directory = out.with_name(out.name + ".partial")
    resume = append and directory.exists()
    if directory.exists() and not append and not force:
        raise UsageError(
            directory, found="an interrupted capture", expected="none",
            remedy="go on with it by --append, or begin anew by --force",
        )  # fmt: skip
    fitted = None if earlier is None else fitted_thresholds(str(out), earlier)
    try:
        return capture_trace(models[0], params, directory, resume=resume, thresholds=fitted, track=track)
    except RipplePlaceError:
        if not resume:
            shutil.rmtree(directory, ignore_errors=True)
        raise


def fitted_thresholds(where: str, trace: ActivationTrace) -> dict[str, float] | None:
    """Return the thresholds that were fitted when a trace was recorded, by block; None if there were none to fit.

    Raises
    ------
    TraceFormatError
        If its metadata have something else in their place.
    """
    try:
        thresholds = parse_json(trace.metadata.get("thresholds", "null"))
        if thresholds is None:
            return None
        if not isinstance(thresholds, dict) or not all(
            type(value) in (int, float) and math.isfinite(value) for value in thresholds.values()
        ):
            raise ValueError(repr(thresholds))
    except (ValueError, OverflowError) as cause:
        raise TraceFormatError(
            f"{where}: thresholds", found=str(cause), expected="a number for each block", remedy="record it again"
        ) from cause
    return thresholds


def _warnings(trace: ActivationTrace, statistics: dict[str, BlockStatistics]) -> tuple[str, ...]:
    """Say how the profile may mislead."""
    warnings = []
    if trace.n_tokens < SHORT_TRACE_TOKENS:
        warnings.append(
            f"the trace has {trace.n_tokens} tokens; pair counts are mostly noise below {SHORT_TRACE_TOKENS}: "
            "record more text"
        )
    unreached = [name for name, block in statistics.items() if block.n_rows == 0]
    if unreached:
        warnings.append(f"no token reached {_listed(unreached)}: record more text, or they stay as they are")
    silent = [name for name, block in statistics.items() if block.n_rows and block.dead_neurons == block.n_neurons]
    if silent:
        warnings.append(f"no neuron fires in {_listed(silent)}: check the activity rule of the trace")
    dense = [name for name, block in statistics.items() if (block.active_share or 0) > 0.5]
    if dense:
        warnings.append(f"more than half of the neurons fire in {_listed(dense)}: no placement can help there much")
    return tuple(warnings)


def _listed(names: list[str]) -> str:
    """Name the first few of many blocks.

    >>> _listed([f"layers.{i}" for i in range(9)])
    'layers.0, layers.1, layers.2, layers.3 and 5 more'
    """
    shown = 4
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
