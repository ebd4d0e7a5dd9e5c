"""What a rule that drops neurons costs: models, texts and runs that do not fit. `tests/torch` walks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from ripple_place.capture.params import WindowParams
from tests.remedies.scenes.captures import with_torch
from tests.remedies.scenes.running import model_of, recorded

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remedies.cases import Attempts


class All:
    """A chooser that uses all neurons."""

    def __init__(self, *, uses_gate: bool = False) -> None:
        self.uses_gate, self.uses_inputs = uses_gate, False

    def start_segment(self) -> None:
        """Have no state."""

    def choose(self, outputs: np.ndarray, gate: object, inputs: object) -> np.ndarray:
        """Drop nothing."""
        return np.ones(outputs.shape, np.bool_)


def scored(model: Path, segment_length: int = 32, **options: Any) -> Any:
    """Return a model, ready to be scored on the text beside it."""
    from ripple_place.capture.loss import ScoredModel
    from ripple_place.capture.params import CaptureParams
    from ripple_place.capture.setup import set_up

    windows = WindowParams(max_tokens=64, segment_length=segment_length, sequence_length=16)
    params = CaptureParams(model.with_name("text"), windows, **{"layer_by_layer": False, **options})
    return ScoredModel.from_setup(set_up(model, params, None))


def measured(target: Any, block: str, *, compensation: Any = None, uses_gate: bool = False) -> None:
    """Measure a run that chooses in one block."""
    from ripple_place.capture.loss import measure_loss
    from ripple_place.capture.loss_run import Run
    from ripple_place.tracking import no_track

    run = Run({block: All(uses_gate=uses_gate)}, compensation or {})
    measure_loss(target, {"run": run}, track=no_track)


_LOSS, _RUN = "capture/loss.py", "capture/loss_run.py:check_runs"


@with_torch(f"{_LOSS}:ScoredModel.from_setup", "", "a text in segments of one token: in longer ones")
def nothing_to_predict(folder: Path) -> Attempts:
    """No token follows another."""
    model = model_of(folder)
    yield lambda: scored(model, segment_length=1)
    yield lambda: scored(model)


@with_torch(f"{_LOSS}:check_scorable", "", "a loss of a model that runs layer by layer: all at once")
def loss_by_layer(folder: Path) -> Attempts:
    """Each batch would need each layer for each rule."""
    model = model_of(folder)
    yield lambda: scored(model, layer_by_layer=True)
    yield lambda: scored(model)


@with_torch(f"{_LOSS}:_cannot_score", "", "a loss of an encoder with a decoder: recorded without the rule")
def loss_of_a_translator(folder: Path) -> Attempts:
    """Its decoder reads half of a text."""
    model = model_of(folder, "t5")
    yield lambda: scored(model)
    yield lambda: recorded(model)


@with_torch(_RUN, "name blocks", "a choice in a layer that is not there: in one that is")
def block_that_is_not_there(folder: Path) -> Attempts:
    """The rule is another model's."""
    target = scored(model_of(folder))
    yield lambda: measured(target, "layers.7")
    yield lambda: measured(target, "layers.1")


@with_torch(_RUN, "compensation", "a compensation for experts: none")
def compensation_for_experts(folder: Path) -> Attempts:
    """Each token gets their outputs by weights of its own."""
    target = scored(model_of(folder, "mixtral"))
    block = "layers.1.experts.0"
    yield lambda: measured(target, block, compensation={block: np.zeros(32, np.float32)})
    yield lambda: measured(target, block)


@with_torch("capture/loss_run.py:_unseen", "", "a rule by the gate, which is hidden: one by the outputs")
def hidden_gate(folder: Path) -> Attempts:
    """The activation is a function, not a module."""
    model = model_of(folder)
    with patch("ripple_place.capture.described_sites.activation_module", lambda parent: None):
        target = scored(model)
    yield lambda: measured(target, "layers.1", uses_gate=True)
    yield lambda: measured(target, "layers.1")


@with_torch("capture/loss_scores.py:ExactLogits.compare", "", "logits beyond float16: in float32")
def logits_beyond_float16(folder: Path) -> Attempts:
    """No likelihood follows from infinity."""
    from safetensors.torch import load_file, save_file

    file = model_of(folder) / "model.safetensors"
    tensors = load_file(file)
    head = tensors["lm_head.weight"]
    save_file(tensors | {"lm_head.weight": head * (3e4 / head.abs().mean())}, file, {"format": "pt"})
    yield lambda: measured(scored(file.parent, dtype="float16"), "layers.1")
    yield lambda: measured(scored(file.parent), "layers.1")


_ROOM = "capture/continuation.py:check_room"


def continued(target: Any, n_prompt: int, n_tokens: int) -> None:
    """Continue a prompt."""
    from ripple_place.capture.continuation import continue_greedily
    from ripple_place.capture.loss_run import Run

    continue_greedily(target, np.full(n_prompt, 5, np.int32), n_tokens, {"run": Run({})})


@with_torch(_ROOM, "positions of the model", "a continuation beyond the model's positions: a shorter prompt, or less")
def continuation_without_room(folder: Path) -> Attempts:
    """64 there are."""
    target = scored(model_of(folder, "opt"))
    yield lambda: continued(target, 60, 10)
    yield lambda: continued(target, 54, 10)
    yield lambda: continued(target, 60, 4)


@with_torch(_ROOM, "token by token", "a continuation by RWKV: losses are compared")
def continuation_without_cache(folder: Path) -> Attempts:
    """It keeps a state instead."""
    from tests.torch.models import CONFIGS, save_random

    model = model_of(folder)
    (model / "model.safetensors").unlink()
    save_random(CONFIGS["rwkv"](), model)
    target = scored(model)
    yield lambda: continued(target, 5, 5)
    yield lambda: measured(target, "layers.1")
