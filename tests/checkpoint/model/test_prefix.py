"""What training leaves in tensor names: set aside where it stands before all of them, explained elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import CheckpointError
from tests.builders import llama_config, llama_tensors, opt_config, opt_tensors, random_placement, write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from tests.builders import Tensors

GATE = "model.layers.0.mlp.gate_proj."


def renamed(tensors: Tensors, before: str) -> Tensors:
    """Put something before all names."""
    return {before + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    "wrapper",
    ["_orig_mod.", "module.", "_fsdp_wrapped_module.", "module._orig_mod.", "_forward_module.", "base_model.model.",
     "model."],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["opt", "llama"])
def test_wrappers_around_the_model(tmp_path: Path, wrapper: str, kind: str) -> None:
    """The output has the source's names, and is the same model; a head as long as the FFN is wide is no FFN tensor."""
    tensors, config = (
        (opt_tensors(vocab=24), opt_config()) if kind == "opt" else (llama_tensors(vocab=24), llama_config())
    )
    path = write_checkpoint(tmp_path / "m", renamed(tensors, wrapper), config)
    model = describe_ffn(Checkpoint.open(path))
    assert list(model.blocks) == ["layers.0", "layers.1"]
    assert model.prefix.wrapper == wrapper
    execute(plan_rewrite(model, random_placement(model), tmp_path / "out"))
    verify(path, tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == renamed(tensors, wrapper).keys()


def test_a_wrapper_around_the_inner_model(tmp_path: Path) -> None:
    """The decoder was compiled, its head was not."""
    tensors = llama_tensors(vocab=24)
    head = {"lm_head.weight": tensors.pop("lm_head.weight")}
    path = write_checkpoint(tmp_path / "m", renamed(tensors, "_orig_mod.") | head, llama_config())
    assert len(describe_ffn(Checkpoint.open(path)).blocks) == 2


def test_an_adapter_of_a_wrapped_model(tmp_path: Path) -> None:
    """Its names are those of the model without the wrapper."""
    path = write_checkpoint(tmp_path / "m", renamed(llama_tensors(), "_orig_mod."), llama_config())
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    lora = {f"base_model.model.{GATE}lora_B.weight": np.arange(48, dtype=np.float32).reshape(24, 2)}
    save_file(lora, adapter / "adapter_model.safetensors")
    model = describe_ffn(Checkpoint.open(path))
    placement = random_placement(model)
    execute(plan_rewrite(model, placement, tmp_path / "out", adapter=adapter))
    moved = load_file(tmp_path / "out" / "ripple_place" / "adapter" / "adapter_model.safetensors")
    for name, tensor in lora.items():
        np.testing.assert_array_equal(moved[name], tensor[placement.blocks["layers.0"].order])


@pytest.mark.parametrize(
    ("part", "who"),
    [
        ("_fsdp_wrapped_module", "FSDP"), ("_checkpoint_wrapped_module", "activation checkpointing"),
        ("_orig_mod", "torch.compile"),
    ],
)  # fmt: skip
def test_parts_within_the_names(tmp_path: Path, part: str, who: str) -> None:
    """A name of the file, who left the part, and how to save without it; renaming the tensors helps."""
    names = {name: name.replace(".mlp.", f".{part}.mlp.") for name in llama_tensors()}
    path = write_checkpoint(tmp_path / "m", {names[n]: t for n, t in llama_tensors().items()}, llama_config())
    message = (
        rf"no FFN tensors, but names such as model.layers.0.{part}.mlp.down_proj.weight.*a part {part}, left by {who}"
    )
    with pytest.raises(CheckpointError, match=message):
        describe_ffn(Checkpoint.open(path))
    file = path / "model.safetensors"
    save_file({name.replace(f".{part}", ""): tensor for name, tensor in load_file(file).items()}, file)
    assert describe_ffn(Checkpoint.open(path)).blocks


@pytest.mark.parametrize("modules", [["gate_proj"], ["gate_proj", "up_proj", "down_proj"]])
def test_layers_that_peft_wrapped(tmp_path: Path, modules: list[str]) -> None:
    """The base layers of an adapted model that was not merged."""
    tensors = llama_tensors()
    for name in list(tensors):
        if any(module in name for module in modules):
            tensors[name.replace(".weight", ".base_layer.weight")] = tensors.pop(name)
    path = write_checkpoint(tmp_path / "m", tensors, llama_config())
    message = r"layers.0.mlp.*base_layer.weight.*a part base_layer, left by peft.*merge_and_unload"
    with pytest.raises(CheckpointError, match=message):
        describe_ffn(Checkpoint.open(path))


def test_names_of_another_model(tmp_path: Path) -> None:
    """A name of the file is shown beside one of the family's."""
    path = write_checkpoint(tmp_path / "m", opt_tensors(), llama_config())
    with pytest.raises(
        CheckpointError, match=r"but names such as model.decoder.*such as model.layers.{layer}.mlp.gate"
    ):
        describe_ffn(Checkpoint.open(path))
