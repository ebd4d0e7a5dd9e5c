"""A reordered checkpoint is the same model to transformers: its logits are equal up to float reassociation."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.rewrite import execute
from ripple_place.placement import ModelPlacement, NeuronPlacement

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-relu-lm"
DATA = os.environ.get("RIPPLE_PLACE_DATA")
TRAINED = [EXAMPLE, *(Path(DATA) / "models" / name for name in ("opt-relu", "llama-reglu") if DATA)]


def logits(path, n_vocabulary):
    """Return the float64 logits of a checkpoint on fixed tokens."""
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64).eval()
    tokens = torch.arange(48).reshape(2, 24) * 7 % n_vocabulary
    with torch.no_grad():
        return model(tokens).logits


def reorder_at_random(source, out):
    """Rewrite a checkpoint with a random order in every block but the second, and verify it."""
    model = describe_ffn(Checkpoint.open(source))
    rng = np.random.default_rng(1)
    orders = {name: rng.permutation(block.n_neurons).astype(np.int32) for name, block in model.blocks.items()}
    del orders["layers.1"]
    placement = ModelPlacement({name: NeuronPlacement(order) for name, order in orders.items()})
    execute(plan_rewrite(model, placement, out))
    verify(source, out)


@pytest.mark.parametrize("source", TRAINED, ids=lambda path: path.name)
def test_trained_models_keep_their_logits(source, tmp_path):
    """Trained models are what users have: the rewritten ones load as they are and say the same."""
    reorder_at_random(source, tmp_path / "out")
    before, after = logits(source, 2048), logits(tmp_path / "out", 2048)
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


def test_a_wrong_permutation_would_show(tmp_path):
    """The comparison has teeth: rows of one up projection swapped without the rest change the logits."""
    config = transformers.LlamaConfig(
        vocab_size=96, hidden_size=32, num_attention_heads=4, num_hidden_layers=3, intermediate_size=80
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "a")
    with torch.no_grad():
        up = model.model.layers[0].mlp.up_proj.weight
        up.copy_(up.flip(0))
    model.save_pretrained(tmp_path / "b")
    assert not torch.allclose(logits(tmp_path / "a", 96), logits(tmp_path / "b", 96))
