"""The examples do what they say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file

from ripple_place.checkpoint.model.experts import open_experts
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.expert_plan import plan_pack
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.pack import execute_pack
from ripple_place.checkpoint.rewrite import execute
from tests.builders import random_placement
from tests.expert_builders import expected_parts, expert_placement, gguf_mixture, gpt_oss, qwen3_moe

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(__file__).parents[1] / "examples" / "read_bundled.c"
COMPILER = shutil.which("cc")


def compiled(folder: Path) -> Path:
    """Compile the reader, of at most sixty lines, without a warning."""
    assert len(SOURCE.read_text().splitlines()) <= 60
    program = folder / "read_bundled"
    subprocess.run([str(COMPILER), "-Wall", "-Wextra", "-Werror", "-O1", "-o", program, SOURCE], check=True)
    return program


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize("stride", ["packed", "page"])
def test_read_bundled(pico_opt: Path, tmp_path: Path, stride: str) -> None:
    """Sixty lines of C and one pread give a neuron's weights, and say which neuron it is."""
    model = describe_ffn(Checkpoint.open(pico_opt))
    placement = random_placement(model)
    execute(plan_rewrite(model, placement, tmp_path / "out", stride=stride))
    program = compiled(tmp_path)
    bundled = tmp_path / "out" / "ripple_place" / "bundled.safetensors"
    weights = load_file(pico_opt / "model.safetensors")
    for block, slot in (("layers.0", 0), ("layers.1", 17), ("layers.1", 23)):
        done = subprocess.run([program, bundled, block, str(slot)], capture_output=True, check=True)
        neuron = int(placement.blocks[block].order[slot])
        assert done.stderr.decode() == f"neuron {neuron}\n"
        module = f"model.decoder.{block}."
        up, down = weights[module + "fc1.weight"][neuron], weights[module + "fc2.weight"][:, neuron]
        assert done.stdout[:32] == np.concatenate([up, down]).tobytes()
        assert len(done.stdout) == (32 if stride == "packed" else 4096)
    for words in (["layers.2", "0"], ["layers.1.input", "0"], ["layers.1", "24"], ["layers.1"]):
        assert subprocess.run([program, bundled, *words], capture_output=True).returncode == 1


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize("stride", ["packed", "page"])
def test_read_bundled_with_gates_apart(pico_llama: Path, tmp_path: Path, stride: str) -> None:
    """Two preads give a neuron's gate row, up row and down column."""
    model = describe_ffn(Checkpoint.open(pico_llama))
    placement = random_placement(model)
    execute(plan_rewrite(model, placement, tmp_path / "out", stride=stride, gates="apart"))
    program, bundled = compiled(tmp_path), tmp_path / "out" / "ripple_place" / "bundled.safetensors"
    weights = {name: tensor for shard in pico_llama.glob("*.safetensors") for name, tensor in load_file(shard).items()}
    for block, slot in (("layers.0", 0), ("layers.1", 17), ("layers.0", 23)):
        done = subprocess.run([program, bundled, block, str(slot)], capture_output=True, check=True)
        neuron, module = int(placement.blocks[block].order[slot]), f"model.{block}.mlp."
        assert done.stderr.decode() == f"neuron {neuron}\n"
        rows = [weights[f"{module}{role}_proj.weight"][neuron] for role in ("gate", "up")]
        expected = np.concatenate([*rows, weights[f"{module}down_proj.weight"][:, neuron]]).tobytes()
        assert done.stdout[: len(expected)] == expected
        assert len(done.stdout) == (len(expected) if stride == "packed" else 16 + 4096)


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize("stride", ["packed", "page"])
def test_read_bundled_columns(pico_opt: Path, tmp_path: Path, stride: str) -> None:
    """The same program gives a column of up, its weights in the order of down's slots, or one of down."""
    model = describe_ffn(Checkpoint.open(pico_opt)).of_unit("column")
    placement = random_placement(model)
    execute(plan_rewrite(model, placement, tmp_path / "out", stride=stride))
    program, bundled = compiled(tmp_path), tmp_path / "out" / "ripple_place" / "bundled.safetensors"
    weights = load_file(pico_opt / "model.safetensors")
    for block, slot in (("layers.0.input", 0), ("layers.1.input", 7), ("layers.1", 23)):
        done = subprocess.run([program, bundled, block, str(slot)], capture_output=True, check=True)
        unit, ffn = int(placement.blocks[block].order[slot]), block.removesuffix(".input")
        assert done.stderr.decode() == f"column {unit}\n"
        expected = weights[f"model.decoder.{ffn}.fc2.weight"][:, unit]
        if block != ffn:
            expected = weights[f"model.decoder.{ffn}.fc1.weight"][:, unit][placement.blocks[ffn].order]
        assert done.stdout.rstrip(b"\0") == expected.tobytes().rstrip(b"\0")
        assert len(done.stdout) == (expected.nbytes if stride == "packed" else 4096)
    data = bundled.read_bytes()
    for later in (b"ripple-place.bundled/4", b"ripple-place.bundlex/1"):
        bundled.write_bytes(data.replace(b"ripple-place.bundled/2", later, 1))
        done = subprocess.run([program, bundled, "layers.1", "0"], capture_output=True)
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"a format that this program does not know" in done.stderr


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize("make", [qwen3_moe, gpt_oss, gguf_mixture])
def test_read_bundled_experts(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """The same program gives all bytes of an expert in one read, whatever it is quantised by."""
    source = make(tmp_path / "m.gguf")
    model = open_experts(source)
    placement = expert_placement(model)
    execute_pack(plan_pack(model, placement, tmp_path / "out"))
    program, bundled = compiled(tmp_path), tmp_path / "out" / "ripple_place" / "bundled.safetensors"
    for block, slot in (("layers.0", 0), ("layers.1", 3), ("layers.1", 5)):
        done = subprocess.run([program, bundled, block, str(slot)], capture_output=True, check=True)
        expert = int(placement.blocks[block].order[slot])
        assert done.stderr.decode() == f"expert {expert}\n"
        parts = expected_parts(source, block)[expert]
        described = model.blocks[block]
        assert len(done.stdout) == described.stride_bytes
        for part, offset in zip(described.parts, described.part_offsets, strict=True):
            assert done.stdout[offset : offset + part.length_bytes] == parts[part.tensor]
    assert subprocess.run([program, bundled, "layers.1", "6"], capture_output=True).returncode == 1
