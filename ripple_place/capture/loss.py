"""Measures what it costs a model to drop neurons: rules run inside it, and the text is scored with and without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.capture import model as models
from ripple_place.capture.batches import layout_of
from ripple_place.capture.ffn_inputs import ffn_input_names
from ripple_place.capture.loss_hooks import LossHooks
from ripple_place.capture.loss_result import LossResult
from ripple_place.capture.loss_run import ActiveRun, check_runs
from ripple_place.capture.loss_scores import ExactLogits
from ripple_place.capture.site_choice import few_blocks
from ripple_place.capture.whole import forward
from ripple_place.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ripple_place.arrays import Float32Array
    from ripple_place.capture.batches import Batch
    from ripple_place.capture.loss_run import Run
    from ripple_place.capture.setup import Setup
    from ripple_place.capture.sites import Site
    from ripple_place.capture.text import CalibrationText
    from ripple_place.tracking import Track


@dataclass(frozen=True, eq=False)
class ScoredModel:
    """A model that predicts text, whole in memory, and the text that it is scored on.

    Attributes
    ----------
    name : str
        For messages.
    model : transformers.PreTrainedModel
    sites : tuple of Site
        Of `model`; one of each block.
    input_modules : mapping of str to torch.nn.Module
        Named by `ripple_place.capture.ffn_inputs.ffn_input_names`.
    batches : tuple of Batch
        Windows that do not overlap, in the order of the text.
    text : CalibrationText
        What the windows are cut from.
    device : str
        ``cpu`` or ``cuda``.
    """

    name: str
    model: Any
    sites: tuple[Site, ...]
    input_modules: Mapping[str, Any]
    batches: tuple[Batch, ...]
    text: CalibrationText
    device: str

    @classmethod
    def from_setup(cls, setup: Setup) -> ScoredModel:
        """Check that a model can be scored, then load it.

        Raises
        ------
        UnsupportedError
            As `check_scorable`.
        UsageError
            If the text has no token that follows another in one window.
        CheckpointError
            If the weights cannot be loaded.
        """
        check_scorable(setup)
        layout = layout_of(setup.skeleton.config, models.n_embeddings(setup.skeleton))
        batches = tuple(setup.text.batches_apart(layout))
        if not any(window.length > 1 for batch in batches for window in batch.windows):
            raise UsageError(
                "--text", found="windows of one token each", expected="windows in which a token follows another",
                remedy="give more text, in longer segments",
            )  # fmt: skip
        sites = setup.sites_of_whole
        names = ffn_input_names(setup.whole, sites, setup.weights.ffn)
        input_modules = {block: setup.whole.get_submodule(first) for block, (first, *_) in names.items()}
        return cls(
            str(setup.path), setup.whole, sites, input_modules, batches, setup.text, setup.device,
        )  # fmt: skip

    def hooks(self, runs: Collection[Run]) -> LossHooks:
        """Return the hooks for some runs, after checking that the model has what these need; raises as `check_runs`."""
        check_runs(runs, self.sites, self.input_modules.keys(), self.name)
        return LossHooks(self.sites, self.input_modules, runs, self.device)


def check_scorable(setup: Setup) -> None:
    """Raise unless each token of a text passes each FFN of a model once, in order, and is then predicted.

    Parameters
    ----------
    setup : Setup
        Whose weights need not be loaded.

    Raises
    ------
    UnsupportedError
    """
    if not setup.predicts_text:
        raise _cannot_score(setup, f"{type(setup.skeleton).__name__}, which does not predict the next token")
    if getattr(setup.skeleton.config, "is_encoder_decoder", False):
        raise _cannot_score(setup, "an encoder with a decoder, each of which reads only half of the text")
    names = [site.block for site in setup.chosen.sites]
    if shared := {name for name in names if names.count(name) > 1}:
        raise _cannot_score(setup, f"layers that share weights: each token passes {few_blocks(shared)} more than once")
    if setup.by_layer:
        raise UnsupportedError(
            setup.path, found="a model that runs layer by layer", expected="the whole model in memory, because each "
            "batch runs once for every rule", remedy="run it with --whole-model, on a machine with memory for it",
        )  # fmt: skip


def _cannot_score(setup: Setup, found: str) -> UnsupportedError:
    return UnsupportedError(
        setup.path, found=found, expected="a model that predicts text and runs each FFN once for each token",
        remedy="leave out the rule that drops neurons: its loss cannot be measured in this model",
    )  # fmt: skip


def measure_loss(scored: ScoredModel, runs: Mapping[str, Run], *, track: Track) -> dict[str, LossResult]:
    """Score a text once exactly, and once by each run.

    Parameters
    ----------
    scored : ScoredModel
    runs : mapping of str to Run
        By name. Their choosers see the text from its beginning to its end, each token once, and must be new: a chooser
        that serves two runs would mix up their states.
    track : Track
        Receives progress updates.

    Returns
    -------
    dict of str to LossResult
        Scored are all tokens that follow another one in their window.

    Raises
    ------
    UsageError, UnsupportedError
        Before anything runs, as `ripple_place.capture.loss_run.check_runs`; while the model runs, if its code fails.
    TraceFormatError
        If outputs or logits are not finite.

    Notes
    -----
    Cost: a forward of the text for each run and one more, and the choosers. Batch after batch: a block's chooser needs
    no other tokens than earlier ones of its block, so that the model's products stay as large as they always are.
    Memory: the exact logits of one batch, and some ten numbers for each token and run.
    """
    import torch

    hooks = scored.hooks(runs.values())
    active = {name: ActiveRun(run, scored.text.segment_starts) for name, run in runs.items()}
    parts: dict[str, list[LossResult]] = {name: [] for name in runs}
    first_window = 0
    with torch.inference_mode(), hooks.attach():
        for batch in track(scored.batches, "measuring the loss"):
            hooks.off()
            exact = ExactLogits(batch, forward(scored.model, batch, scored.device, logits=True), first_window)
            for name, run in active.items():
                hooks.choosing(run, batch.rows()[""])
                parts[name].append(exact.compare(forward(scored.model, batch, scored.device, logits=True)))
            first_window += len(batch.windows)
    return {name: LossResult.joined(of_run) for name, of_run in parts.items()}


def compensation_of(site: Site, mean_dropped: Float32Array) -> Float32Array:
    """Return what a dense FFN lacks in the mean if neurons are dropped: ``down(mean) - down(0)``.

    Parameters
    ----------
    site : Site
        Of a dense FFN, whose down projection is linear, with or without a bias.
    mean_dropped : ndarray of shape (n_neurons,), float32

    Returns
    -------
    ndarray of shape (hidden,), float32
        To be added to the output of the down projection.
    """
    import torch

    assert site.n_experts == 0
    weight = site.module.weight
    rows = torch.from_numpy(np.stack([mean_dropped, np.zeros_like(mean_dropped)])).to(weight.device, weight.dtype)
    with torch.inference_mode():
        mean, nothing = site.module(rows)
        compensation: Float32Array = (mean - nothing).float().cpu().numpy()
    return compensation
