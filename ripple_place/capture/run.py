"""Runs a model on text and records which of its neurons are active."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.blocks import EXPERT, sorted_blocks, unit_metadata
from ripple_place.capture.expert_bytes import expert_bytes
from ripple_place.capture.extra import require_capture_extra
from ripple_place.capture.importance import check_importance, measure_importance
from ripple_place.capture.input_recorder import InputRecorder, input_modules
from ripple_place.capture.layerwise import run_layer_by_layer
from ripple_place.capture.params import DEFAULT_RULE
from ripple_place.capture.recorder import Recorder
from ripple_place.capture.route_recorder import RouteRecorder
from ripple_place.capture.routed_sites import RoutedSite
from ripple_place.capture.rule_choice import RuleChoice, choose_rule, try_rules
from ripple_place.capture.setup import set_up
from ripple_place.capture.site_choice import few_blocks
from ripple_place.capture.sites import check_gates
from ripple_place.capture.whole import run_whole_model
from ripple_place.capture.writer import STATE_FILE, TraceWriter, read_state
from ripple_place.paths import as_paths
from ripple_place.trace.activation_trace import DECODE
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.trace.unit_bytes import unit_bytes_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ripple_place.arrays import Float32Array
    from ripple_place.capture.params import CaptureParams
    from ripple_place.capture.perplexity import LogLikelihood
    from ripple_place.capture.rule_choice import Trials
    from ripple_place.capture.setup import Setup
    from ripple_place.capture.sites import Site
    from ripple_place.capture.writer import BlockLayout
    from ripple_place.graph.importance import ModelImportance
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.tracking import Track


@dataclass(frozen=True, eq=False)
class Capture:
    """A trace that was recorded, and what the rule cost.

    Attributes
    ----------
    trace : ActivationTrace
        Its bits are mapped from files of `directory`.
    directory : Path
        To be removed once the trace was written elsewhere.
    perplexity, perplexity_without_rule : float or None
        Of the recorded tokens; None if the rule changes nothing or it was not asked for.
    layer_by_layer : bool
        Whether one layer's weights were in memory at a time.
    n_resumed : int
        Batches, or layers, that an earlier run had done.
    rule : ActivityRule
    choice : RuleChoice or None
        How the rule was chosen; None if it was named, or chosen by an earlier run.
    notes : tuple of str
        What was not recorded or not scored, and why.
    importance : ModelImportance or None
        What dropping neurons costs, if that was asked for.
    observed : ActivationTrace or None
        The trace with all that predictors are fitted on: magnitudes, too, where they are needed.
    inputs : mapping of str to ndarray of shape (n_rows, n_inputs), float32
        By block, what enters the FFN for each row; mapped from files of `directory`. Empty unless predictors are asked
        for; without blocks of which that is not known.
    """

    trace: ActivationTrace
    directory: Path
    perplexity: float | None
    perplexity_without_rule: float | None
    layer_by_layer: bool
    n_resumed: int
    rule: ActivityRule = DEFAULT_RULE
    choice: RuleChoice | None = None
    notes: tuple[str, ...] = ()
    importance: ModelImportance | None = None
    observed: ActivationTrace | None = None
    inputs: Mapping[str, Float32Array] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the entry ``capture`` of ``profile --json``: everything but the trace."""
        return {
            "rule": str(self.rule),
            "rule_choice": None if self.choice is None else self.choice.to_json(),
            "perplexity": self.perplexity,
            "perplexity_without_rule": self.perplexity_without_rule,
            "layer_by_layer": self.layer_by_layer,
            "n_resumed": self.n_resumed,
        }

    def remove_files(self) -> None:
        """Remove `directory`. Mapped files stay readable until their last array is gone."""
        shutil.rmtree(self.directory, ignore_errors=True)


def run_capture(
    model_path: Path, params: CaptureParams, directory: Path, *, resume: bool, thresholds: dict[str, float] | None,
    track: Track,
) -> Capture:  # fmt: skip
    """Run a model on text and record which of its neurons are active.

    Parameters
    ----------
    model_path : Path
        Hugging Face checkpoint directory.
    params : CaptureParams
    directory : Path
        Where rows are written while the model runs. Stays after an interruption, for `resume`.
    resume : bool
        Go on with what is in `directory`.
    thresholds : dict of str to float, optional
        Of an earlier capture that this one is to be joined with; otherwise they are fitted.
    track : Track
        Receives progress updates.

    Raises
    ------
    UnsupportedError
        If torch or transformers is missing, the model's FFNs are of an unknown kind, or importance is asked for and
        cannot be measured.
    UsageError, CheckpointError, OSError
        If text or model cannot be read or do not fit each other.
    TraceFormatError
        If the state in `directory` is damaged.

    Notes
    -----
    Deterministic on a CPU for one number of threads and one version of torch. Memory: the model (or one layer), one
    batch, and up to 64 MiB of rows that wait to be written.
    """
    require_capture_extra(model_path)
    setup = set_up(model_path, params, directory if resume else None)
    check_importance(setup, is_resumed=resume)
    choice = _choose_rule(setup, directory if resume else None, track)
    rule = choice.rule
    if rule.uses_gate:
        check_gates(setup.chosen.sites, model_path)
    score = params.perplexity and rule.changes_output and setup.predicts_text
    writer = TraceWriter(directory, _identity(setup, rule, score=score, thresholds=thresholds), resume=resume)
    n_resumed = int(writer.progress.get("batches", writer.progress.get("layers", 0)))
    kind = RouteRecorder if params.unit == EXPERT else Recorder
    recorder = kind(rule, writer, setup.chosen.sites, magnitudes=params.needs_magnitudes, thresholds=thresholds)
    likelihoods = _run(setup, recorder, writer, score=score, track=track)
    metadata = {
        "activity": str(rule),
        **unit_metadata(params.unit),
        "model": model_path.resolve().name,
        **({} if setup.adapter is None else setup.adapter.metadata),
        "dataset": " + ".join(path.name for path in as_paths(params.texts)),
    }
    if recorder.thresholds:
        metadata["thresholds"] = json.dumps(recorder.thresholds)
    for name, key in (("with", "perplexity"), ("without", "perplexity_without_rule")):
        if likelihoods and likelihoods[name].perplexity is not None:
            metadata[key] = repr(likelihoods[name].perplexity)
    blocks, idle = _blocks(setup, writer)
    importance = measure_importance(setup, track) if params.measures_importance else None
    observed = writer.trace(blocks, setup.text, metadata)
    if params.unit == EXPERT:
        observed = _as_generated(observed, setup)
    return Capture(
        observed if params.keeps_magnitudes else observed.without_magnitudes(),
        directory,
        likelihoods["with"].perplexity if likelihoods else None,
        likelihoods["without"].perplexity if likelihoods else None,
        setup.by_layer,
        n_resumed,
        rule,
        choice if choice.activation is not None else None,
        _notes(setup, rule, idle, is_all_fitted_on=score and likelihoods["with"].n_tokens == 0),
        importance,
        observed if params.predicts else None,
        _inputs(observed, writer) if params.predicts else {},
    )


def _as_generated(trace: ActivationTrace, setup: Setup) -> ActivationTrace:
    """Return a trace of routes with the bytes of experts; its tokens count as generated.

    The model reads windows of a text at once, but every token is routed as it would be if the text were generated token
    by token: routers see no later tokens.
    """
    sites = tuple(site for site in setup.chosen.sites if isinstance(site, RoutedSite))
    sizes = expert_bytes(setup.skeleton, sites, setup.weights.shards)
    phases = np.full(trace.n_tokens, DECODE, np.uint8)
    return replace(trace, phases=phases, metadata={**trace.metadata, **unit_bytes_metadata(sizes)})


def _inputs(trace: ActivationTrace, writer: TraceWriter) -> dict[str, Float32Array]:
    """Return what entered the FFN of each block, where that was recorded."""
    found = {name: writer.inputs(name, block.n_rows) for name, block in trace.blocks.items()}
    return {name: inputs for name, inputs in found.items() if inputs is not None}


def _blocks(setup: Setup, writer: TraceWriter) -> tuple[dict[str, BlockLayout], list[str]]:
    """Return the blocks that were recorded, in model order, and those that were not since the model never ran them."""
    blocks = {name: layout for site in setup.chosen.sites for name, layout in site.layouts().items()}
    idle = [name for name, layout in blocks.items() if not (layout.routed or writer.holds_row(name, 0, 1))]
    return {name: blocks[name] for name in sorted_blocks(blocks.keys() - {*idle})}, idle


def _notes(setup: Setup, rule: ActivityRule, idle: Sequence[str], *, is_all_fitted_on: bool) -> tuple[str, ...]:
    """Return what was not recorded or not scored, and why."""
    notes = [*setup.chosen.notes]
    if idle:
        notes.append(f"{few_blocks(idle)} not recorded: this model skips them where there is nothing but text")
    if setup.params.perplexity and rule.changes_output and not setup.predicts_text:
        notes.append(f"{setup.lacks_logits}: the cost of the rule in perplexity is not known")
    if is_all_fitted_on:
        notes.append(
            f"all of the text went into the thresholds of {rule}, so that nothing was left to score the rule on: "
            "record more tokens"
        )
    return tuple(notes)


def _choose_rule(setup: Setup, resumed: Path | None, track: Track) -> RuleChoice:
    """Return the rule as named, as of the capture that is `resumed`, or as the model and the text suggest."""
    rule = setup.params.named_rule
    if rule is None and resumed is not None and (resumed / STATE_FILE).exists():
        rule = ActivityRule.parse(read_state(resumed)["identity"]["rule"])
    if rule is not None:
        return RuleChoice(rule, None)

    def try_out() -> Trials:
        return try_rules(setup.whole, setup.sites_of_whole, setup.batches, setup.device, track)

    can_try = not setup.by_layer and setup.params.perplexity and setup.predicts_text
    return choose_rule(setup.config, try_out if can_try else None)


def _run(
    setup: Setup, recorder: Recorder, writer: TraceWriter, *, score: bool, track: Track
) -> dict[str, LogLikelihood]:
    """Run the batches or layers that the writer lacks; return the likelihoods of the text with and without the rule."""
    batches = setup.batches
    if setup.by_layer:
        _record_inputs(recorder, setup, setup.skeleton, setup.chosen.sites, writer)
        return run_layer_by_layer(
            setup.skeleton, setup.weights.shards, batches, recorder, writer, device=setup.device, score=score,
            where=setup.path, track=track, adapter=setup.adapter,
        )  # fmt: skip
    whole = None
    if int(writer.progress.get("batches", 0)) < len(batches):
        whole = setup.whole
        recorder.sites = setup.sites_of_whole
        _record_inputs(recorder, setup, whole, recorder.sites, writer)
    return run_whole_model(whole, batches, recorder, writer, device=setup.device, score=score, track=track)


def _record_inputs(recorder: Recorder, setup: Setup, model: Any, sites: Sequence[Site], writer: TraceWriter) -> None:
    """Let a recorder see what enters the FFNs, if predictors are asked for."""
    if setup.params.predicts:
        recorder.inputs = InputRecorder(input_modules(model, sites, setup.weights.ffn), writer)


def _identity(setup: Setup, rule: ActivityRule, *, score: bool, thresholds: dict[str, float] | None) -> dict[str, Any]:
    """Return everything that a capture depends on; weights by their files' names, sizes and times of change."""
    files = [setup.path / "config.json", *(shard.path for shard in setup.weights.shards)]
    digest = hashlib.sha256(setup.text.ids.tobytes())
    digest.update(json.dumps(setup.text.segments).encode())
    return {
        "model": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        "text": digest.hexdigest(),
        "sequence length": setup.params.windows.sequence_length,
        "rule": str(rule),
        "magnitudes": setup.params.needs_magnitudes,
        "dtype": setup.params.dtype,
        "perplexity": score,
        "thresholds": thresholds or {},
        "layer by layer": setup.by_layer,
        **unit_metadata(setup.params.unit),
        **({} if setup.adapter is None else {"adapter": setup.adapter.digest}),
        **({"inputs of FFNs": True} if setup.params.predicts else {}),
    }
