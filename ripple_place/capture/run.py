"""Runs a model on text and records which of its neurons are active."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ripple_place.capture import model as models
from ripple_place.capture.batches import layout_of
from ripple_place.capture.extra import require_capture_extra
from ripple_place.capture.layerwise import layers_path, run_layer_by_layer
from ripple_place.capture.params import DEFAULT_RULE
from ripple_place.capture.recorder import Recorder
from ripple_place.capture.rule_choice import RuleChoice, choose_rule, try_rules
from ripple_place.capture.sites import check_gates, find_sites
from ripple_place.capture.text import CalibrationText, check_sequence_length, check_token_ids, read_texts
from ripple_place.capture.whole import run_whole_model
from ripple_place.capture.writer import STATE_FILE, TraceWriter, read_state
from ripple_place.errors import UsageError
from ripple_place.inputfile import refuse_special_files
from ripple_place.paths import as_paths
from ripple_place.trace.activity_rules import ActivityRule

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.capture.batches import Batch
    from ripple_place.capture.params import CaptureParams
    from ripple_place.capture.perplexity import LogLikelihood
    from ripple_place.capture.rule_choice import Trials
    from ripple_place.capture.sites import Site
    from ripple_place.tensorfile import TensorFile
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
    is_too_short_to_score : bool
        The perplexities were asked for, but thresholds were fitted on all of the text.
    notes : tuple of str
        How the result may mislead.
    """

    trace: ActivationTrace
    directory: Path
    perplexity: float | None
    perplexity_without_rule: float | None
    layer_by_layer: bool
    n_resumed: int
    rule: ActivityRule = DEFAULT_RULE
    choice: RuleChoice | None = None
    is_too_short_to_score: bool = False
    notes: tuple[str, ...] = ()

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


@dataclass(frozen=True, eq=False)
class _Setup:
    """A model and a text that fit each other.

    Attributes
    ----------
    path : Path
        Hugging Face checkpoint directory.
    config : transformers.PreTrainedConfig
    skeleton : transformers.PreTrainedModel
        All modules, no weights.
    sites : tuple of Site
        Where the model's neurons are seen.
    text : CalibrationText
    device : str
        ``cpu`` or ``cuda``.
    shards : sequence of TensorFile or None
        The weights, to be read a layer at a time; None if the whole model is loaded.
    params : CaptureParams
    """

    path: Path
    config: Any
    skeleton: Any
    sites: tuple[Site, ...]
    text: CalibrationText
    device: str
    shards: Sequence[TensorFile] | None
    params: CaptureParams

    @cached_property
    def batches(self) -> list[Batch]:
        """The windows of the text as the model takes them."""
        return self.text.batches(layout_of(self.config, models.n_embeddings(self.skeleton)))

    @cached_property
    def whole(self) -> Any:
        """The model with its weights, loaded when it is first asked for."""
        return models.load_model(
            self.path, self.config, dtype=self.params.dtype, device=self.device, needs_head=self.has_head
        )

    @cached_property
    def has_head(self) -> bool:
        """Whether the checkpoint has the weights that give logits, without which no text can be scored."""
        return models.has_head(self.path, self.skeleton)


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
        If torch or transformers is missing, or the model's FFNs are of an unknown kind.
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
    setup = _set_up(model_path, params, directory, resume=resume)
    choice = _choose_rule(setup, directory if resume else None, track)
    rule = choice.rule
    if rule.uses_gate:
        check_gates(setup.sites, model_path)
    wants_score = params.perplexity and rule.changes_output
    score = wants_score and setup.has_head
    writer = TraceWriter(directory, _identity(setup, rule, score=score, thresholds=thresholds), resume=resume)
    n_resumed = int(writer.progress.get("batches", writer.progress.get("layers", 0)))
    recorder = Recorder(rule, writer, setup.sites, magnitudes=params.magnitudes, thresholds=thresholds)
    likelihoods = _run(setup, recorder, writer, score=score, track=track)
    metadata = {
        "activity": str(rule),
        "model": model_path.resolve().name,
        "dataset": " + ".join(path.name for path in as_paths(params.texts)),
    }
    if recorder.thresholds:
        metadata["thresholds"] = json.dumps(recorder.thresholds)
    for name, key in (("with", "perplexity"), ("without", "perplexity_without_rule")):
        if likelihoods and likelihoods[name].perplexity is not None:
            metadata[key] = repr(likelihoods[name].perplexity)
    blocks = {name: layout for site in setup.sites for name, layout in site.layouts().items()}
    return Capture(
        writer.trace(blocks, setup.text, metadata),
        directory,
        likelihoods["with"].perplexity if likelihoods else None,
        likelihoods["without"].perplexity if likelihoods else None,
        setup.shards is not None,
        n_resumed,
        rule,
        choice if choice.activation is not None else None,
        score and likelihoods["with"].n_tokens == 0,
        (f"{model_path} has no weights that give logits: the cost of the rule in perplexity is not known",)
        if wants_score and not score
        else (),
    )


def _set_up(model_path: Path, params: CaptureParams, directory: Path, *, resume: bool) -> _Setup:
    """Read config, text and modules, and check them against each other before anything is written."""
    refuse_special_files(model_path)
    config = models.read_config(model_path)
    check_sequence_length(model_path, config, params.windows)
    texts = read_texts(as_paths(params.texts), models.read_tokenizer(model_path))
    text = CalibrationText.of_texts(texts, params.windows)
    if params.n_threads is not None:
        import torch

        torch.set_num_threads(params.n_threads)
    device = _device(params.device)
    by_layer = _runs_by_layer(model_path, params, device, directory if resume else None)
    skeleton = models.build_skeleton(model_path, config, dtype=params.dtype)
    check_token_ids(model_path, text, models.n_embeddings(skeleton))
    sites = find_sites(skeleton, model_path)
    if by_layer:
        layers_path(skeleton, sites, model_path)
    shards = models.open_shards(model_path) if by_layer else None
    return _Setup(model_path, config, skeleton, sites, text, device, shards, params)


def _choose_rule(setup: _Setup, resumed: Path | None, track: Track) -> RuleChoice:
    """Return the rule as named, as of the capture that is `resumed`, or as the model and the text suggest."""
    rule = setup.params.rule
    if rule is None and resumed is not None and (resumed / STATE_FILE).exists():
        rule = ActivityRule.parse(read_state(resumed)["identity"]["rule"])
    if rule is not None:
        return RuleChoice(rule, None)

    def try_out() -> Trials:
        return try_rules(setup.whole, find_sites(setup.whole, setup.path), setup.batches, setup.device, track)

    can_try = setup.shards is None and setup.params.perplexity and setup.has_head
    return choose_rule(setup.config, try_out if can_try else None)


def _device(name: str) -> str:
    """Return the device that ``auto`` stands for, or the one that is named."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--torch-device cuda", found="no GPU that torch can use", expected="one", remedy="use --torch-device cpu"
        )
    return name


def _runs_by_layer(model_path: Path, params: CaptureParams, device: str, resumed: Path | None) -> bool:
    """Tell whether to hold one layer at a time: as asked for, as the `resumed` capture did, or as memory allows."""
    if params.layer_by_layer is not None:
        return params.layer_by_layer
    if resumed is not None and (resumed / STATE_FILE).exists():
        return bool(read_state(resumed)["identity"].get("layer by layer"))
    return not models.fits_in_memory(model_path, device, params.dtype)


def _run(
    setup: _Setup, recorder: Recorder, writer: TraceWriter, *, score: bool, track: Track
) -> dict[str, LogLikelihood]:
    """Run the batches or layers that the writer lacks; return the likelihoods of the text with and without the rule."""
    batches = setup.batches
    if setup.shards is not None:
        return run_layer_by_layer(
            setup.skeleton, setup.shards, batches, recorder, writer, device=setup.device, score=score,
            where=setup.path, track=track,
        )  # fmt: skip
    whole = None
    if int(writer.progress.get("batches", 0)) < len(batches):
        whole = setup.whole
        recorder.sites = find_sites(whole, setup.path)
    return run_whole_model(whole, batches, recorder, writer, device=setup.device, score=score, track=track)


def _identity(setup: _Setup, rule: ActivityRule, *, score: bool, thresholds: dict[str, float] | None) -> dict[str, Any]:
    """Return everything that a capture depends on; weights by their files' names, sizes and times of change."""
    files = [setup.path / "config.json", *sorted(setup.path.glob("*.safetensors"))]
    digest = hashlib.sha256(setup.text.ids.tobytes())
    digest.update(json.dumps(setup.text.segments).encode())
    return {
        "model": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        "text": digest.hexdigest(),
        "sequence length": setup.params.windows.sequence_length,
        "rule": str(rule),
        "magnitudes": setup.params.magnitudes,
        "dtype": setup.params.dtype,
        "perplexity": score,
        "thresholds": thresholds or {},
        "layer by layer": setup.shards is not None,
    }
