"""A reordered checkpoint of every family is the same model to transformers: logits equal up to float reassociation."""

import pytest
import torch
from safetensors import safe_open

from ripple_place.capture.logits import compare_logits
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import UnsupportedError, VerificationError
from ripple_place.workflows.verify import verify as verify_workflow
from tests.builders import adjust_manifest, random_placement, swap_neurons
from tests.torch.models import CONFIGS, EXPERT_MODELS, TINY_TWO_FORMS, logits, save_random

STORED_ALIKE = {"jetmoe", "llama4", "gpt_oss", "dbrx"}
"""Models that transformers saves the same way whether or not it restores the original format."""
TWO_FORMS = (EXPERT_MODELS.keys() - STORED_ALIKE) | TINY_TWO_FORMS.keys()
CASES = [(name, True) for name in CONFIGS] + [(name, False) for name in TWO_FORMS]


@pytest.mark.parametrize(
    ("name", "original"),
    sorted(CASES),
    ids=lambda value: {True: "original", False: "fused"}.get(value, value),
)
def test_logits(name, original, tmp_path):
    """Weights as transformers writes them, sharded, every block but one in random order; wrong ones do not pass."""
    config = CONFIGS[name]()
    source, out = tmp_path / "source", tmp_path / "out"
    save_random(config, source, save_original_format=original)
    assert len(list(source.glob("*.safetensors"))) > 1
    model = describe_ffn(Checkpoint.open(source))
    placement = random_placement(model, skip=list(model.blocks)[1:][-1:])
    execute(plan_rewrite(model, placement, out))
    verify(source, out)
    before, after = logits(source, config), logits(out, config)
    assert before.abs().max() > 1e-3
    # BitNet's norm over the neurons is computed in float32, whatever the weights: its sum changes in the last digits.
    tolerance = 1e-6 if name == "bitnet" else 1e-9
    torch.testing.assert_close(after, before, rtol=tolerance, atol=tolerance)
    harm_each_tensor(model, source, out)
    put_back(model, source, out, next(iter(model.blocks.values())).tensors[-1])
    assert not torch.allclose(logits(out, config), before, rtol=tolerance, atol=tolerance)


def put_back(model, source, out, tensor):
    """Give a tensor of an output the bytes that it has in the source."""
    file, extent = out / tensor.shard, model.checkpoint.extent(tensor.name)
    data = bytearray(file.read_bytes())
    part = slice(extent.offset_bytes, extent.offset_bytes + extent.length_bytes)
    data[part] = (source / tensor.shard).read_bytes()[part]
    file.write_bytes(data)


def harm_each_tensor(model, source, out):
    """Permute one tensor after the other wrongly: `verify` must say so, even where the manifest agrees."""
    block = next(iter(model.blocks.values()))
    for tensor in block.tensors:
        file = out / tensor.shard
        whole = file.read_bytes()
        swap_neurons(file, model.checkpoint.extent(tensor.name), tensor)
        adjust_manifest(out)
        with pytest.raises(VerificationError, match="other weights for neuron"):
            verify(source, out)
        file.write_bytes(whole)
    adjust_manifest(out)
    verify(source, out)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_oss", "qwen3_moe"])
def test_bf16(name, tmp_path):
    """Half-width weights, as they are published."""
    config = CONFIGS[name]()
    save_random(config, tmp_path / "source", dtype=torch.bfloat16)
    model = describe_ffn(Checkpoint.open(tmp_path / "source"))
    execute(plan_rewrite(model, random_placement(model), tmp_path / "out"))
    before, after = logits(tmp_path / "source", config), logits(tmp_path / "out", config)
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


def test_a_name_without_its_prefix(tmp_path):
    """The hub's first GPT-2 files lack `transformer.`: the same tensors, the same blocks."""
    from safetensors.torch import load_file, save_file

    config = CONFIGS["gpt2"]()
    save_random(config, tmp_path / "source")
    (tmp_path / "source" / "model.safetensors.index.json").unlink()
    tensors = {}
    for file in sorted((tmp_path / "source").glob("*.safetensors")):
        tensors |= load_file(file)
        file.unlink()
    short = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(short, tmp_path / "source" / "model.safetensors", metadata={"format": "pt"})
    model = describe_ffn(Checkpoint.open(tmp_path / "source"))
    execute(plan_rewrite(model, random_placement(model), tmp_path / "out"))
    with safe_open(tmp_path / "out" / "model.safetensors", "np") as file:
        assert "h.0.mlp.c_fc.weight" in file.keys()  # noqa: SIM118
    before, after = logits(tmp_path / "source", config), logits(tmp_path / "out", config)
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


def test_a_forgotten_tensor_would_show(tmp_path):
    """The comparison of logits has teeth: each tensor of the FFN left behind changes them."""
    config = CONFIGS["gpt_oss"]()
    save_random(config, tmp_path / "source")
    model = describe_ffn(Checkpoint.open(tmp_path / "source"))
    before = logits(tmp_path / "source", config)
    for tensor in next(iter(model.blocks.values())).tensors:
        execute(plan_rewrite(model, random_placement(model), tmp_path / "out", force=True))
        put_back(model, tmp_path / "source", tmp_path / "out", tensor)
        assert not torch.allclose(logits(tmp_path / "out", config), before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["opt", "t5", "mixtral", "bitnet"])
def test_verify_with_logits(name, tmp_path):
    """The command's own comparison, of models of all kinds; another model under the same names does not pass."""
    config = CONFIGS[name]()
    source, out = tmp_path / "source", tmp_path / "out"
    save_random(config, source)
    model = describe_ffn(Checkpoint.open(source))
    execute(plan_rewrite(model, random_placement(model), out))
    checks = verify_workflow(source, out, logits=True).verification.checks
    assert checks["logits equal, in float64, on random tokens"] == 32 * config.vocab_size
    save_random(config, tmp_path / "other")
    with pytest.raises(VerificationError, match="logits that differ"):
        compare_logits(source, tmp_path / "other")


def test_logits_of_a_model_that_does_not_load(tmp_path):
    """A config that transformers does not know."""
    (tmp_path / "config.json").write_text('{"model_type": "mystery"}')
    with pytest.raises(UnsupportedError, match="Leave --logits out"):
        compare_logits(tmp_path, tmp_path)
