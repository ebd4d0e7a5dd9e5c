"""The ordinary way: the whole model in memory, one batch of windows after the other."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ripple_place.capture.perplexity import LogLikelihood
from ripple_place.trace.activity_rules import FIT_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.capture.batches import Batch
    from ripple_place.capture.recorder import Recorder
    from ripple_place.capture.writer import TraceWriter
    from ripple_place.tracking import Track


def run_whole_model(
    model: Any, batches: Sequence[Batch], recorder: Recorder, writer: TraceWriter, *, device: str, score: bool,
    track: Track,
) -> dict[str, LogLikelihood]:  # fmt: skip
    """Run all batches that the writer does not have yet.

    Parameters
    ----------
    model : transformers.PreTrainedModel or None
        None where the writer has all batches.
    batches : sequence of Batch
    recorder : Recorder
    writer : TraceWriter
        Receives each finished batch.
    device : str
    score : bool
        Also run without the rule, and count the likelihood of the text both ways.
    track : Track

    Returns
    -------
    dict of str to LogLikelihood
        ``without`` and ``with`` the rule; empty unless `score`.
    """
    import torch

    done = int(writer.progress.get("batches", 0))
    likelihoods = likelihoods_of(writer.progress) if score else {}
    if score and not likelihoods:
        likelihoods = {"without": LogLikelihood(), "with": LogLikelihood()}
    recorder.thresholds.update(writer.progress.get("thresholds", {}))
    if done == len(batches):
        return likelihoods
    with torch.inference_mode(), recorder.attach(device):
        if recorder.rule.is_fitted and not recorder.thresholds:
            for batch in fit_batches(batches):
                recorder.fitting(batch.rows())
                _forward(model, batch, device, logits=False)
            recorder.fit()
        for i in track(range(done, len(batches)), "running the model"):
            batch = batches[i]
            if score:
                recorder.off()
                likelihoods["without"].add(_forward(model, batch, device, logits=True), *batch.targets())
            recorder.recording(batch.rows())
            logits = _forward(model, batch, device, logits=score)
            if score:
                likelihoods["with"].add(logits, *batch.targets())
            writer.commit({"batches": i + 1, **progress_of(recorder, likelihoods)})
    return likelihoods


def fit_batches(batches: Sequence[Batch]) -> Sequence[Batch]:
    """Return the first batches, as many as fitting needs."""
    n_tokens = n_batches = 0
    while n_batches < len(batches) and n_tokens < FIT_TOKENS:
        n_tokens += batches[n_batches].n_recorded
        n_batches += 1
    return batches[:n_batches]


def progress_of(recorder: Recorder, likelihoods: dict[str, LogLikelihood]) -> dict[str, Any]:
    """Return the state from which a capture goes on after an interruption."""
    return {
        "thresholds": recorder.thresholds,
        "likelihoods": {name: asdict(value) for name, value in likelihoods.items()},
    }


def likelihoods_of(progress: dict[str, Any]) -> dict[str, LogLikelihood]:
    """Return the likelihoods that a capture remembers."""
    return {name: LogLikelihood(**value) for name, value in progress.get("likelihoods", {}).items()}


def to_device(inputs: dict[str, Any], device: str) -> dict[str, Any]:
    """Return a batch's arguments as tensors."""
    import torch

    return {name: torch.from_numpy(array).to(device) for name, array in inputs.items()}


def _forward(model: Any, batch: Batch, device: str, *, logits: bool) -> Any:
    """Run one batch; the logits are a large product that only the perplexity needs."""
    inputs = to_device(batch.inputs(), device)
    if logits:
        return model(**inputs, use_cache=False).logits
    model.base_model(**inputs, use_cache=False)
    return None
