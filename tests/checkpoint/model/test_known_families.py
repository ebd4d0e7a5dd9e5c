"""Which family describes a model: the one for its type, a file that was given, or none; then, which one is near."""

from __future__ import annotations

import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.checkpoint.model.ffn import describe_ffn, open_model
from ripple_place.checkpoint.model.known_families import families, family_of, read_family
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.errors import CheckpointError, UnsupportedArchitectureError, UnsupportedError, UsageError
from tests.builders import llama_config, llama_tensors, opt_config, opt_tensors, write_checkpoint

if TYPE_CHECKING:
    from tests.builders import Tensors

GUIDE = (Path(__file__).parents[3] / "docs" / "families.md").read_text()
EXAMPLE = GUIDE.split("```toml\n")[1].split("```")[0]


def described_by_the_example(path: Path, **config: Any) -> Path:
    """Write a model that the example of the documentation describes."""
    tensors = llama_tensors(bias=True)
    for name in [name for name in tensors if name.endswith("gate_proj.bias")]:
        del tensors[name]
    return write_checkpoint(path, tensors, llama_config(model_type="my_model", **config))


def test_a_file_is_all_that_it_takes(tmp_path: Path) -> None:
    """The example in docs/families.md describes a model of a type that no shipped file knows."""
    (tmp_path / "my_model.toml").write_text(EXAMPLE)
    model = open_model(described_by_the_example(tmp_path / "m"), tmp_path / "my_model.toml")
    assert model.family.name == "my_model"
    assert [tensor.role for tensor in model.blocks["layers.1"].tensors] == ["gate", "up", "down", "up_bias"]


def test_the_guide_s_commands(tmp_path: Path) -> None:
    """The list of tensors has one line for all layers; the file's blocks are printed."""
    (tmp_path / "FILE").write_text(EXAMPLE)
    described_by_the_example(tmp_path / "MODEL")
    commands = [textwrap.dedent(part.split("```")[0]) for part in GUIDE.split("```sh\n")[1:3]]
    python = shlex.quote(sys.executable)
    listed, tried = (
        subprocess.run(
            command.replace("python", python, 1), shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        for command in commands
    )
    assert "model.layers.{}.mlp.up_proj.weight [24, 8]" in listed.splitlines()
    assert tried.splitlines() == ["layers.0 24 neurons", "layers.1 24 neurons"]


def test_a_shipped_family_by_name(tmp_path: Path) -> None:
    """A name stands for any model type: whoever gives it says that the model is of this family."""
    path = described_by_the_example(tmp_path / "m")
    assert open_model(path, "llama").family.name == "llama"
    with pytest.raises(CheckpointError, match="found no FFN tensors"):
        open_model(path, "gpt2")


def test_a_file_for_other_models(tmp_path: Path) -> None:
    """A file says which types it describes; it is not taken for another model by mistake."""
    (tmp_path / "f.toml").write_text(EXAMPLE)
    path = write_checkpoint(tmp_path / "m", opt_tensors(), opt_config())
    with pytest.raises(UsageError, match=r"--family f: found model_types my_model; expected 'opt' among them"):
        open_model(path, tmp_path / "f.toml")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, UsageError, r"f.toml: found no such file; expected a family file, or one of albert, .*zamba2"),
        (b"\xff", CheckpointError, r"f.toml: found bytes that are no UTF-8 .*; expected TOML"),
        (b"a = " + 5000 * b"[", CheckpointError, r"f.toml: found .*; expected TOML"),
        (b"free = []", CheckpointError, r"f.toml: found unknown or missing: blocks"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes | None, error: type[Exception], message: str) -> None:
    """The message names the path."""
    if content is not None:
        (tmp_path / "f.toml").write_bytes(content)
    with pytest.raises(error, match=message):
        read_family(tmp_path / "f.toml")


def test_the_text_model_inside_decides() -> None:
    """A model of images and text may have any text model inside; one of a fixed kind is its own."""
    inside = {"text_config": {"model_type": "qwen3_moe"}}
    assert family_of({"model_type": "internvl"} | inside) is families()["qwen3_moe"]
    assert family_of({"model_type": "internvl", "text_config": {"model_type": "mystery"}}) is families()["internvl"]
    assert family_of({"model_type": "internvl", "text_config": {"model_type": []}}) is families()["internvl"]
    assert family_of({"model_type": "kimi_k25", "text_config": {"model_type": "kimi_k2"}}) is families()["kimi_k25"]
    assert family_of({"model_type": "mystery"} | inside) is None


def experts(*, fused: bool) -> Tensors:
    """Return a layer without experts and one with."""
    tensors = llama_tensors(n_layers=1)
    shapes = {"gate_up_proj": (2, 32, 8), "down_proj": (2, 8, 16)}
    if not fused:
        shapes = {f"{e}.{name}_proj.weight": shape for e in range(2)
                  for name, shape in (("gate", (16, 8)), ("up", (16, 8)), ("down", (8, 16)))}  # fmt: skip
    return tensors | {f"model.layers.1.mlp.experts.{name}": np.zeros(shape, "f2") for name, shape in shapes.items()}


@pytest.mark.parametrize("model_type", [None, "mystery", ["opt"]])
@pytest.mark.parametrize(
    ("tensors", "nearest"),
    [
        (llama_tensors(), "llama"),
        (opt_tensors(), "opt"),
        (experts(fused=False), "qwen_moe"),
        (experts(fused=True), "qwen_moe"),
        (
            {"model.layers.0.mlp.fc1.weight": np.zeros((24, 8)), "model.layers.0.mlp.fc2.weight": np.zeros((8, 24))},
            "phi",
        ),
    ],
)
def test_unknown_types_are_told_the_nearest_family(
    tmp_path: Path, tensors: Tensors, nearest: str, model_type: object
) -> None:
    """By names and shapes, whatever the number of layers and experts; the proposal then works."""
    config = {"model_type": model_type, "hidden_size": 8, "num_hidden_layers": 2, "layer_types": ["a", "b"]}
    path = write_checkpoint(tmp_path / "m", tensors, config)
    with pytest.raises(
        UnsupportedArchitectureError, match=rf"model_type: .* add --family {nearest}; else write"
    ) as caught:
        describe_ffn(Checkpoint.open(path))
    assert isinstance(caught.value, UnsupportedError)
    if len(tensors) > 2:
        assert open_model(path, nearest).family.name == nearest


def test_no_family_is_near(tmp_path: Path) -> None:
    """An FFN that no family names in full is not proposed: one of its matrices would be left behind."""
    tensors = llama_tensors() | {"model.layers.0.mlp.mystery.weight": np.zeros((24, 8), "f2")}
    path = write_checkpoint(tmp_path / "m", tensors, {"model_type": "mystery"})
    with pytest.raises(UnsupportedArchitectureError, match=r"\. Write a family file for this model"):
        describe_ffn(Checkpoint.open(path))
