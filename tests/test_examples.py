"""The examples do what they say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.rewrite import execute
from tests.builders import random_placement

SOURCE = Path(__file__).parents[1] / "examples" / "read_bundled.c"
COMPILER = shutil.which("cc")


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize("stride", ["packed", "page"])
def test_read_bundled(pico_opt: Path, tmp_path: Path, stride: str) -> None:
    """Sixty lines of C and one pread give a neuron's weights, and say which neuron it is."""
    model = describe_ffn(Checkpoint.open(pico_opt))
    placement = random_placement(model)
    execute(plan_rewrite(model, placement, tmp_path / "out", stride=stride))
    assert len(SOURCE.read_text().splitlines()) <= 60
    subprocess.run(
        [str(COMPILER), "-Wall", "-Wextra", "-Werror", "-O1", "-o", "read_bundled", SOURCE], cwd=tmp_path, check=True
    )
    bundled = tmp_path / "out" / "ripple_place" / "bundled.safetensors"
    weights = load_file(pico_opt / "model.safetensors")
    for block, slot in (("layers.0", 0), ("layers.1", 17), ("layers.1", 23)):
        done = subprocess.run([tmp_path / "read_bundled", bundled, block, str(slot)], capture_output=True, check=True)
        neuron = int(placement.blocks[block].order[slot])
        assert done.stderr.decode() == f"neuron {neuron}\n"
        module = f"model.decoder.{block}."
        up, down = weights[module + "fc1.weight"][neuron], weights[module + "fc2.weight"][:, neuron]
        assert done.stdout[:32] == np.concatenate([up, down]).tobytes()
        assert len(done.stdout) == (32 if stride == "packed" else 4096)
    for words in (["layers.2", "0"], ["layers.1", "24"], ["layers.1"]):
        assert subprocess.run([tmp_path / "read_bundled", bundled, *words], capture_output=True).returncode == 1
