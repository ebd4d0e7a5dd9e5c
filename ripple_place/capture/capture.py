"""Records the trace of a model on text."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ripple_place.capture.extra import require_capture_extra
from ripple_place.capture.text import CalibrationText, WindowParams, check_sequence_length, layout_of, read_texts
from ripple_place.capture.writer import TraceWriter, read_state
from ripple_place.errors import UsageError
from ripple_place.trace.activity_rules import ActivityRule

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.tracking import Track


@dataclass(frozen=True)
class CaptureParams:
    """What to record, and how.

    Parameters
    ----------
    texts : tuple of Path
        Text files in UTF-8.
    windows : WindowParams
    rule : ActivityRule
    magnitudes : bool
        Also record what the active neurons put out.
    layer_by_layer : bool, optional
        One layer's weights at a time; by default where the whole model has no room.
    perplexity : bool
        For rules that change the output, also run without the rule and score the text both ways.
    device : str
        ``cpu``, ``cuda``, or ``auto``: the GPU where there is one.
    dtype : str
        What the model computes in: float32 holds the weights of every usual checkpoint exactly.
    n_threads : int, optional
        Of torch; by default its own choice.

    Raises
    ------
    UsageError
        If there is no text.
    """

    texts: tuple[Path, ...]
    windows: WindowParams = field(default_factory=WindowParams)
    rule: ActivityRule = field(default_factory=lambda: ActivityRule("relu"))
    magnitudes: bool = False
    layer_by_layer: bool | None = None
    perplexity: bool = True
    device: str = "auto"
    dtype: str = "float32"
    n_threads: int | None = None

    def __post_init__(self) -> None:
        if not self.texts:
            raise UsageError(
                "profile MODEL", found="no text", expected="--text FILE, text for the model to read",
                remedy="give some, of the kind that the model will meet",
            )  # fmt: skip


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
        Of the recorded tokens; None where the rule changes nothing or it was not asked for.
    layer_by_layer : bool
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
        """Return what is said of the capture besides its trace."""
        return {
            "perplexity": self.perplexity,
            "perplexity_without_rule": self.perplexity_without_rule,
            "layer_by_layer": self.layer_by_layer,
            "n_resumed": self.n_resumed,
        }

    def remove_files(self) -> None:
        """Remove `directory`. What is mapped of it stays readable until it is let go."""
        shutil.rmtree(self.directory, ignore_errors=True)


def capture(
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

    Raises
    ------
    UnsupportedError
        If torch or transformers is missing, or the model's FFNs are of an unknown kind.
    UsageError, CheckpointError, OSError
        If text or model cannot be read or do not fit each other.

    Notes
    -----
    Deterministic on a CPU for one number of threads and one version of torch. Memory: the model (or one layer), one
    batch, and up to 64 MiB of rows that wait to be written.
    """
    require_capture_extra(model_path)
    from ripple_place.capture import model as models
    from ripple_place.capture.layerwise import layers_path, run_layer_by_layer
    from ripple_place.capture.recorder import Recorder
    from ripple_place.capture.sites import check_gates, find_sites
    from ripple_place.capture.whole import run_whole_model

    config = models.read_config(model_path)
    check_sequence_length(model_path, config, params.windows)
    text = CalibrationText.of_texts(read_texts(params.texts, models.read_tokenizer(model_path)), params.windows)
    if params.n_threads is not None:
        import torch

        torch.set_num_threads(params.n_threads)
    device = _device(params.device)
    by_layer = params.layer_by_layer
    if by_layer is None and resume and (directory / "state.json").exists():
        by_layer = bool(read_state(directory)["identity"].get("layer by layer"))
    if by_layer is None:
        by_layer = not models.fits_in_memory(model_path, device, params.dtype)
    skeleton = models.build_skeleton(model_path, config, dtype=params.dtype)
    sites = find_sites(skeleton, model_path)
    if params.rule.uses_gate:
        check_gates(sites, model_path)
    if by_layer:
        layers_path(skeleton, sites, model_path)
        shards = models.open_shards(model_path)
    score = params.perplexity and params.rule.changes_output
    writer = TraceWriter(
        directory, _identity(model_path, text, params, by_layer=by_layer, score=score, thresholds=thresholds),
        resume=resume,
    )  # fmt: skip
    n_resumed = int(writer.progress.get("batches", writer.progress.get("layers", 0)))
    batches = text.batches(layout_of(config))
    if by_layer:
        recorder = Recorder(params.rule, writer, sites, magnitudes=params.magnitudes, thresholds=thresholds)
        likelihoods = run_layer_by_layer(
            skeleton, shards, batches, recorder, writer, device=device, score=score, where=model_path, track=track
        )
    else:
        recorder = Recorder(params.rule, writer, sites, magnitudes=params.magnitudes, thresholds=thresholds)
        whole = None
        if n_resumed < len(batches):
            whole = models.load_model(model_path, config, dtype=params.dtype, device=device)
            recorder.sites = find_sites(whole, model_path)
        likelihoods = run_whole_model(whole, batches, recorder, writer, device=device, score=score, track=track)
    metadata = {
        "activity": str(params.rule),
        "model": model_path.resolve().name,
        "dataset": " + ".join(path.name for path in params.texts),
    }
    if recorder.thresholds:
        metadata["thresholds"] = json.dumps(recorder.thresholds)
    blocks = {name: layout for site in sites for name, layout in site.layouts().items()}
    return Capture(
        writer.trace(blocks, text, metadata),
        directory,
        likelihoods["with"].perplexity if likelihoods else None,
        likelihoods["without"].perplexity if likelihoods else None,
        by_layer,
        n_resumed,
    )


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--torch-device cuda", found="no GPU that torch can use", expected="one", remedy="use --torch-device cpu"
        )
    return name


def _identity(
    model_path: Path, text: CalibrationText, params: CaptureParams, *, by_layer: bool, score: bool,
    thresholds: dict[str, float] | None,
) -> dict[str, Any]:  # fmt: skip
    """Return what a capture depends on; weights by their files' names, sizes and times of change."""
    files: Sequence[Path] = [model_path / "config.json", *sorted(model_path.glob("*.safetensors"))]
    digest = hashlib.sha256(text.ids.tobytes())
    digest.update(json.dumps(text.segments).encode())
    return {
        "model": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        "text": digest.hexdigest(),
        "sequence length": params.windows.sequence_length,
        "rule": str(params.rule),
        "magnitudes": params.magnitudes,
        "dtype": params.dtype,
        "perplexity": score,
        "thresholds": thresholds or {},
        "layer by layer": by_layer,
    }
