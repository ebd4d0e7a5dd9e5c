"""One simulation: a trace replayed on each layout."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import select_layers
from ripple_place.errors import UsageError
from ripple_place.flash.admission import Admission
from ripple_place.flash.caches.segmented import Segmented
from ripple_place.flash.dense_hot import dense_hot
from ripple_place.flash.device.conditions import under
from ripple_place.flash.device.files import load_device
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.predict.params import PREDICTED
from ripple_place.scoring.bundle_forms import FormChoice, with_forms
from ripple_place.scoring.dram import choose_dram, unused_dram_warnings
from ripple_place.scoring.gates import dram_behind_gates, gates_to_json, read_gates
from ripple_place.scoring.hot_rows import hot_rows_of
from ripple_place.scoring.layouts import read_layouts
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.predictions import PredictedActivity, activity_to_json, find_predictions, refuse_columns
from ripple_place.scoring.rules import RuleScorer, tuned_for
from ripple_place.scoring.source import open_source
from ripple_place.trace.union import batch_steps
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.capture.rules_in_model import ModelText
    from ripple_place.flash.device.conditions import ConditionedDevice
    from ripple_place.flash.layout import Layout
    from ripple_place.flash.results import LayoutResult
    from ripple_place.scoring.gates import GateReading
    from ripple_place.select.sight import Predictions
    from ripple_place.select.tuned import TunedRules
    from ripple_place.trace.activation_trace import ActivationTrace

SHORT_TRACE_TOKENS = 256
"""Traces of fewer tokens are warned of."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What layouts cost on a trace.

    Attributes
    ----------
    device : ConditionedDevice
        As the reader sees it.
    params : SimulationParams
        How the reader works.
    traces : tuple of str
        Names of the traces' files.
    trace : ActivationTrace
        All of them, the selected layers alone.
    layouts : tuple of Layout
    results : tuple of LayoutResult
        One a layout; with rules, one a layout and rule.
    baseline : LayoutResult
        The result that speedups are against; with rules, that of the layout with the first of them.
    warnings : tuple of str
        How the numbers may mislead.
    split_by : str or None
        Layout whose record says how DRAM is split over the blocks.
    rules : tuple of str
        That chose what a token uses; empty: everything that fires.
    magnitude_noise : float
        Under which they chose.
    tuned : mapping of str to TunedRules
        By layout, what was tuned for it.
    predicted : PredictedActivity or None
        None: what fires is served. Otherwise the bits of `trace` are what was predicted, unless a model ran.
    gates : GateReading or None
        How gates are read first, if they are; then the predictions of `trace` are the candidates.
    bundle_form : str or None
        Form that bundles were supposed to have.
    batch : tuple of int
        Sequences that ran together. Where there were several, the tokens of `trace` are steps.
    """

    device: ConditionedDevice
    params: SimulationParams
    traces: tuple[str, ...]
    trace: ActivationTrace
    layouts: tuple[Layout, ...]
    results: tuple[LayoutResult, ...]
    baseline: LayoutResult
    warnings: tuple[str, ...]
    split_by: str | None = None
    rules: tuple[str, ...] = ()
    magnitude_noise: float = 0.0
    tuned: Mapping[str, TunedRules] = field(default_factory=dict)
    predicted: PredictedActivity | None = None
    gates: GateReading | None = None
    bundle_form: str | None = None
    batch: tuple[int, ...] = (1,)

    @property
    def n_tokens(self) -> int:
        """Tokens that were served, those of all sequences together."""
        return self.trace.n_tokens if self.params.batch_of_step is None else int(self.params.batch_of_step.sum())

    @property
    def break_even_gap(self) -> float | None:
        """Lambda of the bundles; None if blocks have bundles of different sizes."""
        sizes = {block.extent.bundle_bytes for layout in self.layouts for block in layout.blocks.values()}
        return self.device.break_even_gap(sizes.pop()) if len(sizes) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Return the document of a plain ``simulate --json``."""
        gaps = {block.gap for result in self.results for block in result.blocks.values()}
        return {
            "device": self.device.name,
            "traces": list(self.traces),
            "n_tokens": self.n_tokens,
            "batch": list(self.batch),
            "n_steps": None if self.params.batch_of_step is None else self.trace.n_tokens,
            "break_even_gap": self.break_even_gap,
            "gap": gaps.pop() if len(gaps) == 1 else None,
            "collapse": "mmap" if self.device.is_mapped else self.params.planner,
            "conditions": {**asdict(self.device.conditions), "span_bytes": self.device.span_bytes},
            "compute": None if self.params.compute is None else self.params.compute.to_json(),
            "cache": self.params.cache,
            "capacity_neurons": dict.fromkeys(self.trace.blocks)
            if self.params.pool_neurons is not None
            else dict(self.params.capacity_neurons),
            "dram_pool": self.params.pool_neurons is not None,
            "pool_neurons": self.params.pool_neurons,
            "dram_split_by": self.split_by,
            "admission": str(self.params.admission),
            "reset_at_segments": bool(self.params.reset_tokens),
            "select": list(self.rules),
            "magnitude_noise": self.magnitude_noise,
            **activity_to_json(self.predicted),
            **gates_to_json(self.gates, self.bundle_form),
            "baseline": self.baseline.label,
            "layouts": [result.to_json(self.baseline) for result in self.results],
            "warnings": list(self.warnings),
        }


def score(
    traces: Sequence[Path | str],
    layouts: Sequence[str | Path],
    params: SimulateParams | None = None,
    track: Track = no_track,
) -> Scores:
    """Replay a trace on each layout.

    Parameters
    ----------
    traces : sequence of Path or str
        See `ripple_place.trace.sources`; or one model, which reads the text of ``params.capture``.
    layouts : sequence of str or Path
        Output directories of `reorder`, placement files, or ``original``; scored in this order, each with all rules.
    params : SimulateParams, optional
    track : Track
        Receives progress updates.

    Raises
    ------
    UsageError
        If a path, device, cache policy or baseline is unknown, or nothing says how long bundles are; as
        `find_predictions`.
    TraceFormatError, PlacementError, CheckpointError, DeviceConfigError
        If a file is malformed, a layout is of another model, or a trace has no predictions to serve.
    OSError
        If a file cannot be read.
    """
    params = params or SimulateParams()
    paths, names = [Path(trace) for trace in traces], [str(layout) for layout in layouts]
    for what, given in (("traces", paths), ("layouts", names)):
        if not given:
            raise UsageError(what, found="none", expected="at least one", remedy="name a trace and a layout")
    predictions = find_predictions(params, names)
    with open_source(paths, params, track) as (trace, model):
        return _score(trace, model, paths, names, params, predictions, track)


def _score(
    trace: ActivationTrace, model: ModelText | None, paths: Sequence[Path], names: Sequence[str],
    params: SimulateParams, predictions: Predictions | None, track: Track,
) -> Scores:  # fmt: skip
    """Score layouts on a trace, or on what a model does with a text; see `score`."""
    device = under(load_device(str(params.device)), params.conditions)
    trace = trace.select(select_layers(trace.blocks, params.layers))
    fired = predicted = None
    if params.activity == PREDICTED:
        refuse_columns(trace.unit)
        if predictions is None:
            fired, predicted, trace = trace, PredictedActivity(trace.predicted_recall), trace.as_predicted()
    batch_of_step = None
    if params.is_batched:
        trace, batch_of_step = batch_steps(trace, params.batch)
    trace, gates = read_gates(trace, params.gate_first, params.bundle_form, params.seed)
    form = None if params.bundle_form is None else FormChoice.parse(params.bundle_form)
    sizes = params.bundle_bytes if form is None or form.bundle_bytes is None else form.bundle_bytes
    read, recorded = read_layouts(names, trace, sizes, params.profile, None if model is None else model.bundle_bytes)
    if gates is not None or form is not None:
        read = with_forms(read, form, None if model is None else model.n_parts, device.page_bytes)
    _check_whole(read, params)
    segments = params.segments
    ahead: Mapping[str, int] = {}
    if params.cache == Segmented.policy and segments is not None:
        trace = dense_hot(trace, segments, batch_of_step)
    elif params.cache == Segmented.policy and (hot := hot_rows_of(names, read, trace, params.batch)) is not None:
        trace, segments, ahead = hot.served(trace, batch_of_step), hot.segments, hot.read_ahead_neurons
    # One range of addresses for all layouts, so that padding is not charged twice.
    device = replace(device, span_bytes=max(layout.span_bytes for layout in read))
    baseline = _place_of_baseline(names, params.baseline) * max(1, len(params.select))
    dram = choose_dram(read[0], recorded, params.dram_budget, params.cache)
    dram = dram_behind_gates(dram, read[0], gates, params.dram_budget)
    n_threads = (os.cpu_count() or 1) if params.n_threads is None else params.n_threads
    pool_neurons = sum(dram.capacity_neurons.values()) if params.is_pooled else None
    simulation = SimulationParams(
        dram.cache, dram.capacity_neurons if pool_neurons is None else {}, params.gap, n_threads,
        None if params.compute is None else params.compute.on(device),
        admission=Admission.parse(params.admission, params.seed),
        reset_tokens=tuple(trace.segment_starts.tolist()) if params.reset_at_segments else (),
        with_bound=params.bound, pool_neurons=pool_neurons, segments=segments, batch_of_step=batch_of_step,
        gate_first=None if gates is None else gates.gate_first, read_ahead_neurons=ahead,
    )  # fmt: skip
    tuned = tuned_for(read) if params.select else {}
    if params.select:
        scorer = RuleScorer(trace, device, simulation, params, model, predictions=predictions, fired=fired)
        results = tuple(scorer.score(read, tuned, track))
    else:
        results = tuple(simulate(trace, layout, device, simulation) for layout in track(read, "simulating"))
    if predictions is not None:
        predicted = PredictedActivity(predictions.recall, predictions.n_bytes(trace.blocks))
    warnings = (*trace_warnings(trace, device), *unused_dram_warnings(recorded, params.dram_budget))
    return Scores(
        device, simulation, tuple(path.name for path in paths), trace, read, results, results[baseline], warnings,
        None if params.is_pooled else dram.split_by, params.select, params.magnitude_noise, tuned, predicted, gates,
        params.bundle_form, params.batch,
    )  # fmt: skip


def _check_whole(layouts: Sequence[Layout], params: SimulateParams) -> None:
    """Refuse rules on layouts whose bundles lie in two places."""
    apart = [layout.name for layout in layouts if any(block.is_apart for block in layout.blocks.values())]
    if apart and params.select:
        raise UsageError(
            f"--layout {apart[0]} --select {params.select[0]}", found="gates that lie apart",
            expected="bundles that are read whole", remedy="leave --select out, or reorder without --gates apart",
        )  # fmt: skip


def _place_of_baseline(names: Sequence[str], baseline: str | Path | None) -> int:
    """Return which of the layouts speedups are against."""
    if baseline is None:
        return 0
    if str(baseline) not in names:
        raise UsageError(
            f"--baseline {baseline}", found="no such layout", expected=f"one of {', '.join(names)}",
            remedy="name one of the layouts, as given with --layout",
        )  # fmt: skip
    return names.index(str(baseline))


def trace_warnings(trace: ActivationTrace, device: ConditionedDevice) -> list[str]:
    """Return how device and trace may mislead."""
    warnings = [*([device.warning] if device.warning else []), *device.condition_warnings]
    if trace.n_tokens < SHORT_TRACE_TOKENS:
        warnings.append(
            f"the trace has {trace.n_tokens} tokens; means and percentiles of so few say little of the model"
        )
    return warnings
