"""Runs a model on text and records which of its neurons are active."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.capture import model as models
from ripple_place.capture.batches import layout_of
from ripple_place.capture.extra import require_capture_extra
from ripple_place.capture.layerwise import layers_path, run_layer_by_layer
from ripple_place.capture.recorder import Recorder
from ripple_place.capture.sites import check_gates, find_sites
from ripple_place.capture.text import CalibrationText, check_sequence_length, read_texts
from ripple_place.capture.whole import run_whole_model
from ripple_place.capture.writer import STATE_FILE, TraceWriter, read_state
from ripple_place.errors import UsageError
from ripple_place.paths import as_paths

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.capture.params import CaptureParams
    from ripple_place.capture.perplexity import LogLikelihood
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
    """

    trace: ActivationTrace
    directory: Path
    perplexity: float | None
    perplexity_without_rule: float | None
    layer_by_layer: bool
    n_resumed: int

    def to_json(self) -> dict[str, Any]:
        """Return the entry ``capture`` of ``profile --json``: everything but the trace."""
        return {
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
    """

    path: Path
    config: Any
    skeleton: Any
    sites: tuple[Site, ...]
    text: CalibrationText
    device: str
    shards: Sequence[TensorFile] | None


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
    score = params.perplexity and params.rule.changes_output
    writer = TraceWriter(directory, _identity(setup, params, score=score, thresholds=thresholds), resume=resume)
    n_resumed = int(writer.progress.get("batches", writer.progress.get("layers", 0)))
    recorder = Recorder(params.rule, writer, setup.sites, magnitudes=params.magnitudes, thresholds=thresholds)
    likelihoods = _run(setup, params, recorder, writer, score=score, track=track)
    metadata = {
        "activity": str(params.rule),
        "model": model_path.resolve().name,
        "dataset": " + ".join(path.name for path in as_paths(params.texts)),
    }
    if recorder.thresholds:
        metadata["thresholds"] = json.dumps(recorder.thresholds)
    blocks = {name: layout for site in setup.sites for name, layout in site.layouts().items()}
    return Capture(
        writer.trace(blocks, setup.text, metadata),
        directory,
        likelihoods["with"].perplexity if likelihoods else None,
        likelihoods["without"].perplexity if likelihoods else None,
        setup.shards is not None,
        n_resumed,
    )


def _set_up(model_path: Path, params: CaptureParams, directory: Path, *, resume: bool) -> _Setup:
    """Read config, text and modules, and check them against each other before anything is written."""
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
    sites = find_sites(skeleton, model_path)
    if params.rule.uses_gate:
        check_gates(sites, model_path)
    if by_layer:
        layers_path(skeleton, sites, model_path)
    shards = models.open_shards(model_path) if by_layer else None
    return _Setup(model_path, config, skeleton, sites, text, device, shards)


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
    setup: _Setup, params: CaptureParams, recorder: Recorder, writer: TraceWriter, *, score: bool, track: Track
) -> dict[str, LogLikelihood]:
    """Run the batches or layers that the writer lacks; return the likelihoods of the text with and without the rule."""
    batches = setup.text.batches(layout_of(setup.config))
    if setup.shards is not None:
        return run_layer_by_layer(
            setup.skeleton, setup.shards, batches, recorder, writer, device=setup.device, score=score,
            where=setup.path, track=track,
        )  # fmt: skip
    whole = None
    if int(writer.progress.get("batches", 0)) < len(batches):
        whole = models.load_model(setup.path, setup.config, dtype=params.dtype, device=setup.device)
        recorder.sites = find_sites(whole, setup.path)
    return run_whole_model(whole, batches, recorder, writer, device=setup.device, score=score, track=track)


def _identity(
    setup: _Setup, params: CaptureParams, *, score: bool, thresholds: dict[str, float] | None
) -> dict[str, Any]:
    """Return everything that a capture depends on; weights by their files' names, sizes and times of change."""
    files = [setup.path / "config.json", *sorted(setup.path.glob("*.safetensors"))]
    digest = hashlib.sha256(setup.text.ids.tobytes())
    digest.update(json.dumps(setup.text.segments).encode())
    return {
        "model": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        "text": digest.hexdigest(),
        "sequence length": params.windows.sequence_length,
        "rule": str(params.rule),
        "magnitudes": params.magnitudes,
        "dtype": params.dtype,
        "perplexity": score,
        "thresholds": thresholds or {},
        "layer by layer": setup.shards is not None,
    }
