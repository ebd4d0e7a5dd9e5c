"""Measures what dropping a neuron costs: the Fisher information of its output, by gradients of the model's own loss.

Where neuron i of a block puts out h, leaving it out costs about ``c_i h^2`` nats: the KL divergence from the model's
predictions to those without it, to second order. With `SensitivityFit`, also how that differs from token to token.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.blocks import sorted_blocks
from ripple_place.capture.batches import layout_of
from ripple_place.capture.ffn_inputs import own_input_names
from ripple_place.capture.gradients import Gradients
from ripple_place.capture.model import n_embeddings
from ripple_place.capture.run_errors import explained
from ripple_place.capture.sensitivity import HELD_OUT_SHARE
from ripple_place.capture.whole import forward
from ripple_place.errors import TraceFormatError, UnsupportedError
from ripple_place.graph.importance import ImportanceNote, ModelImportance, SensitivityNote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.capture.batches import Batch
    from ripple_place.capture.params import CaptureParams
    from ripple_place.capture.setup import Setup
    from ripple_place.tracking import Track

_WITHOUT = "leave --importance and --sensitivity out"


def check_importance(setup: Setup, *, is_resumed: bool) -> None:
    """Raise unless importance can be measured, or is not asked for.

    Raises
    ------
    UnsupportedError
        If the model runs layer by layer, or gives no logits.
    """
    params = setup.params
    if not params.measures_importance:
        return
    if setup.by_layer:
        raise UnsupportedError(
            "--importance", found="a model of which one layer is in memory at a time",
            expected="the whole model: gradients pass through all layers", remedy=_without_layers(params, is_resumed),
        )  # fmt: skip
    if setup.lacks_logits:
        raise UnsupportedError(
            "--importance", found=setup.lacks_logits, expected="a model that predicts the next token", remedy=_WITHOUT
        )


def _without_layers(params: CaptureParams, is_resumed: bool) -> str:
    """Return what to do about a model that runs layer by layer: as asked for, as an earlier run did, or for memory."""
    if params.layer_by_layer:
        return f"leave --layer-by-layer out, or {_WITHOUT}"
    if is_resumed:
        return f"begin anew by --force with --whole-model, or {_WITHOUT}"
    return f"try --whole-model, which may need twice the memory of the weights, or {_WITHOUT}"


def measure_importance(setup: Setup, track: Track) -> ModelImportance:
    """Return the Fisher importance of all neurons of the blocks that are recorded, and the sensitivity if asked for.

    ``c_i = 1/2 E_t[(dL / dh_ti)^2]``, in nats per squared unit of h: L is the loss, summed over the positions of a
    window, on one label for each position, drawn from the model's own prediction there [1]_. Gradients are taken at the
    input of the down projection. Since ``dL/dh_ti = w_i . g_t``, where w_i is neuron i's column of the down projection
    and g_t the gradient at its output, c_i equals ``1/2 w_i^T G w_i`` with ``G = E_t[g_t g_t^T]``. The mean is over all
    positions of the calibration text that reach the block: of an expert, the tokens routed to it.

    Parameters
    ----------
    setup : Setup
        Checked by `check_importance`. Its text is that of the trace, in windows that do not overlap; no rule applies.
    track : Track
        Receives progress updates.

    Raises
    ------
    UnsupportedError
        If there is not enough memory.
    TraceFormatError
        If a gradient is NaN or infinite.

    Notes
    -----
    Cost: a forward and a backward of each window, and for the sensitivity another forward. Memory: the model, what
    torch keeps of a batch for the backward (every layer's intermediate states), and for the sensitivity
    ``8 (d + 2)^2`` bytes a block. Labels are drawn by `setup.params.seed` for each window by itself, whatever the
    batches. Layers that share weights are one block: what each of them costs is summed.

    References
    ----------
    .. [1] J. Martens, "New insights and perspectives on the natural gradient method", arXiv 1412.1193, section 5: the
       Fisher information is an expectation over labels that the model draws, unlike the "empirical Fisher", which
       takes those of the text.
    """
    model, device = setup.whole, setup.device
    ups = _ups(setup) if setup.params.sensitivity else {}
    batches = setup.text.batches_apart(layout_of(setup.skeleton.config, n_embeddings(setup.skeleton)))
    starts = [window.token for window in setup.text.windows_apart()]
    first_held_out = starts[-max(1, round(HELD_OUT_SHARE * len(starts)))]
    gradients = Gradients(setup.sites_of_whole, ups, first_held_out, device)
    with _frozen(model), explained(model, is_gradient=True):
        with gradients.attach(model):
            for batch in track(batches, "measuring importance"):
                gradients.begin(batch)
                logits = forward(model, batch, device, logits=True, is_gradient=True)
                loss = sampled_loss(logits, batch, setup.params.seed)
                if loss.requires_grad:
                    loss.backward()
                gradients.end()
        if ups:
            with gradients.attach_scale(model):
                for batch in track(batches, "scaling the sensitivity"):
                    gradients.begin(batch)
                    forward(model, batch, device, logits=False, is_gradient=True)
    return _result(gradients, ups, setup)


def sampled_loss(logits: Any, batch: Batch, seed: int) -> Any:
    """Return the sum over recorded positions of the loss on labels that the model itself draws, in nats.

    Parameters
    ----------
    logits : torch.Tensor of shape (n_sequences, length, n_vocabulary)
    batch : Batch
    seed : int
        With the first token of a window, it decides the window's labels.
    """
    import torch

    rows = batch.rows()
    recorded = rows["decoder" if "decoder" in rows else ""]
    chosen = logits.flatten(0, 1)[torch.from_numpy(recorded.positions).to(logits.device)]
    # The window of each position: its tokens begin with the window's first.
    starts = np.array([window.token for window in batch.windows])
    window_of = np.searchsorted(starts, recorded.tokens, side="right") - 1
    labels = []
    for i, window in enumerate(batch.windows):
        of_window = torch.from_numpy(np.flatnonzero(window_of == i)).to(logits.device)
        draws = np.random.default_rng([seed, window.token]).random(of_window.numel())
        labels.append(_drawn(chosen.detach()[of_window], draws))
    exact = chosen if chosen.dtype == torch.float64 else chosen.float()
    return torch.nn.functional.cross_entropy(exact, torch.cat(labels), reduction="sum")


def _drawn(logits: Any, draws: Any) -> Any:
    """Return the word at which the cumulated probability of each row passes its draw."""
    import torch

    cumulated = torch.softmax(logits.double(), dim=-1).cumsum(dim=-1)
    wanted = torch.from_numpy(draws).to(logits.device)[:, None] * cumulated[:, -1:]
    return torch.searchsorted(cumulated, wanted, right=True).flatten().clamp(max=logits.shape[-1] - 1)


def _ups(setup: Setup) -> dict[str, str]:
    """Return, by block, the module whose input a sensitivity is fitted on: of dense blocks with one site each."""
    sites = setup.sites_of_whole
    return own_input_names(setup.whole, [site for site in sites if not site.n_experts], setup.weights.ffn)


@contextmanager
def _frozen(model: Any) -> Iterator[None]:
    """Keep gradients of parameters away, and tensors that an earlier run in inference mode left in modules."""
    import torch

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for module in model.modules():
        for held in (vars(module), module._buffers):  # noqa: SLF001 - named_buffers() cannot replace any
            for name, value in held.items():
                if isinstance(value, torch.Tensor) and value.is_inference():
                    held[name] = value.clone()
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def _result(gradients: Gradients, ups: dict[str, str], setup: Setup) -> ModelImportance:
    """Return what was measured, by block in model order; blocks that no token reached are left out."""
    found = gradients.importance()
    names = sorted_blocks(found)
    for name in names:
        if not np.isfinite(found[name][0].astype(np.float32)).all():
            raise TraceFormatError(
                f"--importance: {name}", found="gradients that are NaN or infinite", expected="finite numbers",
                remedy="compute with --dtype float32",
            )  # fmt: skip
    fits = gradients.fits
    note = ImportanceNote(
        n_tokens=setup.text.n_tokens,
        seed=setup.params.seed,
        n_rows={name: found[name][1] for name in names},
        sensitivity={name: SensitivityNote(ups[name], fits[name].r2) for name in names if name in fits},
    )
    return ModelImportance(
        {name: found[name][0].astype(np.float32) for name in names},
        {name: fits[name].weights for name in names if name in fits},
        note,
    )
