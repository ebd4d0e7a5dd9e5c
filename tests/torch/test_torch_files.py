"""Files that torch itself wrote: found, permuted, and loaded again by torch."""

import json

import pytest
import torch

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.convert import convert
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import CheckpointError
from tests.builders import llama_config, llama_tensors, random_placement, write_checkpoint
from tests.torch.models import CONFIGS, auto_class, logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_predictors_and_counts(dtype, tmp_path):
    """Torch checks its checksums and finds rows in the new order; a view into a larger storage is found too."""
    source = write_checkpoint(tmp_path / "m", llama_tensors(), llama_config())
    model = describe_ffn(Checkpoint.open(source))
    whole = torch.randn(50, 3).to(dtype)
    predictor = {"fc1.weight": torch.randn(3, 8).to(dtype), "fc2.weight": whole[5:29]}
    counts = torch.arange(24) * 7
    (tmp_path / "counts").mkdir()
    torch.save(predictor, tmp_path / "model_0.pt")
    torch.save(counts, tmp_path / "counts" / "activation_1.pt")
    placement = random_placement(model)
    carriers = [tmp_path / "model_0.pt", tmp_path / "counts"]
    execute(plan_rewrite(model, placement, tmp_path / "out", carriers=carriers))
    verify(source, tmp_path / "out")
    beside = tmp_path / "out" / "ripple_place" / "carriers"
    after = torch.load(beside / "model_0.pt", weights_only=True)
    order = placement.blocks["layers.0"].order.tolist()
    assert torch.equal(after["fc1.weight"], predictor["fc1.weight"])
    assert torch.equal(after["fc2.weight"], predictor["fc2.weight"][order])
    order = placement.blocks["layers.1"].order.tolist()
    assert torch.equal(torch.load(beside / "counts" / "activation_1.pt", weights_only=True), counts[order])


@pytest.mark.parametrize("value", [{"fc2.weight": torch.zeros(3, 24).T}, {"fc2.weight": "text"}, torch.nn.Linear(2, 2)])
def test_values_that_are_no_plain_tensors(value, tmp_path):
    """Transposed views, text and modules are refused by name, and nothing is run."""
    source = write_checkpoint(tmp_path / "m", llama_tensors(), llama_config())
    torch.save(value, tmp_path / "model_0.pt")
    with pytest.raises(CheckpointError, match=r"model_0.pt"):
        plan_rewrite(
            describe_ffn(Checkpoint.open(source)), random_placement(describe_ffn(Checkpoint.open(source))),
            tmp_path / "out", carriers=[tmp_path / "model_0.pt"],
        )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_converted_checkpoints(dtype, tmp_path):
    """`pytorch_model.bin` as transformers wrote it for years, tied weights and all, says the same as safetensors."""
    config = CONFIGS["opt"]()
    model = auto_class(config).from_config(config).to(dtype)
    model.save_pretrained(tmp_path / "safe")
    (tmp_path / "bin").mkdir()
    torch.save(model.state_dict(), tmp_path / "bin" / "pytorch_model.bin")
    (tmp_path / "bin" / "config.json").write_text((tmp_path / "safe" / "config.json").read_text())
    convert(tmp_path / "bin", tmp_path / "converted")
    assert json.loads((tmp_path / "converted" / "config.json").read_text())["model_type"] == "opt"
    assert torch.equal(logits(tmp_path / "converted", config), logits(tmp_path / "safe", config))
    assert len(describe_ffn(Checkpoint.open(tmp_path / "converted")).blocks) == 3
