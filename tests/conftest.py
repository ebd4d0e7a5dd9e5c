"""Named tiny cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.builders import llama_config, llama_tensors, opt_config, opt_tensors, write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pico_opt(tmp_path: Path) -> Path:
    """Return a checkpoint of OPT's shape: two layers of 24 neurons, hidden 8, biases, one file.

    As in real OPT models its vocabulary is as long as its FFN is wide.
    """
    return write_checkpoint(tmp_path / "pico-opt", opt_tensors(vocab=24), opt_config())


@pytest.fixture
def pico_llama(tmp_path: Path) -> Path:
    """Return a checkpoint of Llama's shape in three shards, with up, gate and down of a layer in different ones."""
    shards = {
        f"model.layers.{layer}.mlp.{name}_proj.weight": f"model-0000{part}-of-00003.safetensors"
        for layer in range(2)
        for name, part in (("gate", 1), ("up", 2), ("down", 3))
    }
    return write_checkpoint(tmp_path / "pico-llama", llama_tensors(), llama_config(), shards=shards)
