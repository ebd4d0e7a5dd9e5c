"""The ordinary way: the whole model in memory, one batch of windows after the other."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ripple_place.capture.perplexity import LogLikelihood
from ripple_place.capture.run_errors import explained
from ripple_place.trace.activity_rules import FIT_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.capture.batches import Batch
    from ripple_place.capture.recorder import Recorder
    from ripple_place.capture.writer import TraceWriter
    from ripple_place.trace.activity_rules import ActivityRule
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
        Also run without the rule, and count the likelihood of the text both ways: of what no threshold was fitted on.
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
        fitted_on = batches_to_fit(recorder.rule, batches)
        if fitted_on and not recorder.thresholds:
            for i in fitted_on:
                recorder.fitting(batches[i].rows())
                forward(model, batches[i], device, logits=False)
            recorder.fit()
        for i in track(range(done, len(batches)), "running the model"):
            batch, is_scored = batches[i], score and i not in fitted_on
            # Recording comes first: it says which neuron puts out no number, where likelihoods only say that one did.
            recorder.recording(batch.rows())
            logits = forward(model, batch, device, logits=is_scored)
            if is_scored:
                likelihoods["with"].add(logits, *batch.targets())
                recorder.off()
                likelihoods["without"].add(forward(model, batch, device, logits=True), *batch.targets())
                for likelihood in likelihoods.values():  # Once neurons are known to be numbers.
                    likelihood.check()
            writer.commit({"batches": i + 1, **progress_of(recorder, likelihoods)})
    return likelihoods


def batches_to_fit(rule: ActivityRule, batches: Sequence[Batch]) -> tuple[int, ...]:
    """Return the indices of the batches on which a rule's thresholds are fitted, and which therefore are not scored.

    They are spread over the text, and hold `FIT_TOKENS` recorded tokens, or all that there are.
    """
    return spread_batches(batches, FIT_TOKENS) if rule.is_fitted else ()


def spread_batches(batches: Sequence[Batch], n_tokens: int) -> tuple[int, ...]:
    """Return the indices of as few batches, in the middles of as many even parts of the text, as have `n_tokens`."""
    for n in range(1, len(batches) + 1):
        chosen = tuple((2 * part + 1) * len(batches) // (2 * n) for part in range(n))
        if sum(batches[i].n_recorded for i in chosen) >= n_tokens:
            return chosen
    return tuple(range(len(batches)))


def progress_of(recorder: Recorder, likelihoods: dict[str, LogLikelihood]) -> dict[str, Any]:
    """Return the state from which a capture goes on after an interruption."""
    return {
        "thresholds": recorder.thresholds,
        "likelihoods": {name: asdict(value) for name, value in likelihoods.items()},
    }


def likelihoods_of(progress: dict[str, Any]) -> dict[str, LogLikelihood]:
    """Return the likelihoods that a capture remembers."""
    return {name: LogLikelihood(**value) for name, value in progress.get("likelihoods", {}).items()}


def forward(model: Any, batch: Batch, device: str, *, logits: bool, is_gradient: bool = False) -> Any:
    """Run one batch; return its logits, which are a large product, or where nobody needs these, what leads to them.

    With `is_gradient`, a lack of memory is explained as that of a run for gradients.
    """
    import torch

    run = model if logits else model.base_model
    inputs = {name: torch.from_numpy(array).to(device) for name, array in batch.inputs().items()}
    # Encoders know no cache.
    parameters = inspect.signature(run.forward).parameters.values()
    if any(parameter.name == "use_cache" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        inputs["use_cache"] = False
    with explained(model, is_gradient=is_gradient):
        output = run(**inputs)
        return output.logits if logits else output[0]
