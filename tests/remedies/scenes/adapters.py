"""LoRA adapters that a model runs with: those that cannot be applied, and those of another profile."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from tests.remedies.scenes.captures import OWN_CODE, beside, captured, profiled_own, trace_by, with_torch
from tests.remedies.scenes.running import model_of, recorded

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from tests.remedies.cases import Attempts

_LORA, _APPLIED = "checkpoint/carriers/lora.py", "capture/adapter.py"
MERGED = "merged into its base model"


def adapter_of(model: Path, modules: str = "up_proj", *, name: str = "adapter", **config: Any) -> Path:
    """Write an adapter of a model beside it."""
    from tests.torch.capture_models import load
    from tests.torch.lora_adapters import write_lora

    return write_lora(model.with_name(name), load(model), modules, **config)


def merged(model: Path) -> None:
    """Record a model of other weights, and without an adapter, which is what merging makes."""
    recorded(model_of(model.parent, name="merged"))


def add_tensor(adapter: Path, name: str, like: str = "") -> None:
    """Add a tensor to an adapter."""
    from safetensors.torch import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {name: tensors[like or min(tensors)].clone()}, file)


@with_torch(f"{_LORA}:read_lora", "record a trace", f"an adapter of tokens: {OWN_CODE}")
def adapter_of_tokens(folder: Path) -> Attempts:
    """There is nothing to add to weights."""
    model = model_of(folder)
    adapter = adapter_of(model, peft_type="PREFIX_TUNING")
    yield lambda: recorded(model, adapter=adapter)
    yield lambda: profiled_own(folder)


@with_torch(f"{_LORA}:read_lora", "merge the adapter", f"an adapter that is DoRA: {MERGED}")
def dora(folder: Path) -> Attempts:
    """It scales columns, too."""
    model = model_of(folder)
    adapter = adapter_of(model, use_dora=True)
    yield lambda: recorded(model, adapter=adapter)
    yield lambda: merged(model)


@with_torch(f"{_LORA}:_pairs", "LoRA of weights alone", f"an adapter with tensors of another kind: {MERGED}")
def vectors_of_dora(folder: Path) -> Attempts:
    """Its config does not say so."""
    model = model_of(folder)
    adapter = adapter_of(model)
    add_tensor(adapter, "base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector")
    yield lambda: recorded(model, adapter=adapter)
    yield lambda: merged(model)


@with_torch(f"{_LORA}:_pairs", "save it without", f"an adapter with the base model's head: without, or {MERGED}")
def weights_of_the_base(folder: Path) -> Attempts:
    """As peft saves it where the head is adapted."""
    model = model_of(folder)
    adapter = adapter_of(model, "lm_head")
    shutil.copytree(adapter, folder / "without")
    add_tensor(adapter, "base_model.model.lm_head.base_layer.weight")
    yield lambda: recorded(model, adapter=adapter)
    yield lambda: recorded(model, adapter=folder / "without")
    yield lambda: merged(model)


@with_torch(f"{_LORA}:_malformed", "", "the config of another run: both files are copied again")
def config_of_another_run(folder: Path) -> Attempts:
    """Its rank is another one."""
    model = model_of(folder)
    adapter = adapter_of(model)
    own = (adapter / "adapter_config.json").read_text()
    (adapter / "adapter_config.json").write_text(json.dumps(json.loads(own) | {"r": 5}))
    yield lambda: recorded(model, adapter=adapter)
    (adapter / "adapter_config.json").write_text(own)


@with_torch(f"{_APPLIED}:fit_adapter", "", f"an adapter of a quantised model: {MERGED}")
def adapter_of_a_quantised_model(folder: Path) -> Attempts:
    """Nothing can be added to its weights."""
    from unittest.mock import patch

    from ripple_place.capture import setup

    model, build = model_of(folder), setup.models.build_skeleton
    adapter = adapter_of(model)

    def build_quantised(*arguments: Any, **more: Any) -> Any:
        skeleton = build(*arguments, **more)
        skeleton.config.quantization_config = {"quant_method": "gptq"}
        return skeleton

    with patch.object(setup.models, "build_skeleton", build_quantised):
        yield lambda: recorded(model, adapter=adapter)
    yield lambda: merged(model)


@with_torch(f"{_APPLIED}:_linear_at", "merge the adapter", f"an adapter of an embedding: {MERGED}")
def adapter_of_an_embedding(folder: Path) -> Attempts:
    """It is no linear layer."""
    from tests.torch.lora_adapters import write_adapter

    model = model_of(folder)
    adapter = adapter_of(model)
    from safetensors.torch import load_file

    tensors = load_file(adapter / "adapter_model.safetensors")
    renamed = {name.replace("layers.0.mlp.up_proj", "embed_tokens"): tensor for name, tensor in tensors.items()}
    write_adapter(adapter, renamed, {"r": 3})
    yield lambda: recorded(model, adapter=adapter)
    yield lambda: merged(model)


@with_torch(f"{_APPLIED}:_linear_at", "record a trace", f"an adapter of a layer that shares its weights: {OWN_CODE}")
def adapter_of_shared_weights(folder: Path) -> Attempts:
    """The other layer is not adapted."""
    from unittest.mock import patch

    from ripple_place.capture import setup

    model, build = model_of(folder), setup.models.build_skeleton
    adapter = adapter_of(model)

    def build_sharing(*arguments: Any, **more: Any) -> Any:
        skeleton = build(*arguments, **more)
        skeleton.model.layers[1].mlp.up_proj.weight = skeleton.model.layers[0].mlp.up_proj.weight
        return skeleton

    with patch.object(setup.models, "build_skeleton", build_sharing):
        yield lambda: recorded(model, adapter=adapter)
    yield lambda: profiled_own(folder)


@beside("_check_adapter", "a profile with another adapter: with the same, or another profile")
def another_adapter(folder: Path) -> Attempts:
    """Rows of two models are not comparable."""
    from numpy import ones

    from ripple_place.capture.params import CaptureParams
    from ripple_place.checkpoint.carriers.lora import digest_of_adapter, label_of_adapter
    from ripple_place.trace.activity_rules import ActivityRule
    from tests.checkpoint.test_carriers import write_adapter
    from tests.remedies.bench import model_at
    from tests.remedies.scenes.captures import WINDOWS

    model = model_at(folder / "model")
    sides = {"lora_A": ones((2, 8), "f4"), "lora_B": ones((8, 2), "f4")}
    adapter = write_adapter(folder / "adapter", {f"x.{side}.weight": matrix for side, matrix in sides.items()})
    params = CaptureParams(("text",), WINDOWS, ActivityRule("relu"), adapter=adapter)
    earlier = trace_by("relu", adapter=label_of_adapter("adapter", digest_of_adapter(adapter)))
    yield lambda: captured(model, earlier=earlier, append=True)
    yield lambda: captured(model, params=params, earlier=earlier, append=True)
    yield lambda: captured(model)
