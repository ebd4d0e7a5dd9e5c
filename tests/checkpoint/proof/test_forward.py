"""The numerical check of FFNs: equal for a sound output, and unequal for one whose tensors disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.proof import forward
from ripple_place.checkpoint.proof.forward import compare_forward
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import VerificationError
from tests.builders import llama_config, llama_tensors, random_placement, swap_neurons, write_checkpoint
from tests.checkpoint.model.test_families import CASES

if TYPE_CHECKING:
    from pathlib import Path


def write_case(name: str, path: Path) -> Path:
    """Write one of the families that are built tensor by tensor."""
    rng = np.random.default_rng(0)
    tensors = {key: rng.standard_normal(shape) for key, shape in CASES[name].shapes.items()}
    return write_checkpoint(path, tensors, CASES[name].config)


@pytest.mark.parametrize("chunk_bytes", [64, 8 << 20])
@pytest.mark.parametrize(
    ("formats", "unit"), [(["drop-in"], "neuron"), (["bundled"], "neuron"), (["bundled"], "column")]
)
@pytest.mark.parametrize("name", CASES)
def test_every_layout(
    tmp_path: Path, name: str, formats: list[str], unit: str, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, columns, halves, pairs, experts in one tensor, norms and scales: from shards and from bundles."""
    monkeypatch.setattr(forward, "CHUNK_BYTES", chunk_bytes)
    source = write_case(name, tmp_path / "m")
    model = describe_ffn(Checkpoint.open(source)).of_unit(unit)
    execute(plan_rewrite(model, random_placement(model), tmp_path / "out", formats=formats))
    index = read_manifest(tmp_path / "out").document["bundled"]
    assert compare_forward(tmp_path / "out", model, index, drop_in=index is None) == len(model.ffns)


@pytest.mark.parametrize("name", CASES)
def test_tensors_that_disagree(tmp_path: Path, name: str) -> None:
    """Two neurons swapped in one tensor and not in the others: found without a look at any order."""
    source = write_case(name, tmp_path / "m")
    model = describe_ffn(Checkpoint.open(source))
    execute(plan_rewrite(model, random_placement(model), tmp_path / "out", formats=["drop-in"]))
    out = tmp_path / "out" / "model.safetensors"
    for tensor in next(iter(model.blocks.values())).tensors:
        whole = out.read_bytes()
        swap_neurons(out, model.checkpoint.extent(tensor.name), tensor)
        with pytest.raises(VerificationError, match="outputs that differ by"):
            compare_forward(tmp_path / "out", model, None, drop_in=True)
        out.write_bytes(whole)


@pytest.mark.parametrize("bf16", [False, True])
def test_it_is_part_of_verify(tmp_path: Path, bf16: bool) -> None:
    """Its count stands among the checks, for half precision of both kinds."""
    source = write_checkpoint(tmp_path / "m", llama_tensors(bias=True), llama_config(), bf16=bf16)
    model = describe_ffn(Checkpoint.open(source))
    execute(plan_rewrite(model, random_placement(model), tmp_path / "out"))
    assert verify(source, tmp_path / "out").checks["FFN blocks compute the same on random input, in float64"] == 2


def test_bf16_is_read_right() -> None:
    """The upper half of a float32."""
    values = np.array([1.0, -2.5, 3.0e38], "<f4")
    upper = (values.view("<u4") >> 16).astype("<u2")
    np.testing.assert_allclose(forward._as_float64(upper.view(np.uint8), "BF16"), values, rtol=2**-7)
    assert forward._as_float64(upper.view(np.uint8), "BF16")[0] == 1.0
