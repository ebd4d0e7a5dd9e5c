"""Mixtures whose experts stay on storage, against transformers with all of the model in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.errors import CheckpointError, UnsupportedError, UsageError
from ripple_place.generation import stored_experts
from ripple_place.generation.generator import Generator
from ripple_place.generation.params import GenerationParams
from ripple_place.placement import ModelPlacement, NeuronPlacement, write_placement
from ripple_place.workflows.pack import pack_experts
from tests.torch.capture_models import load
from tests.torch.generation_models import PROMPT, capacities, expected_nll, open_reader, steps_of, tokens_of
from tests.torch.models import CONFIGS, save_random

TEXT = [*PROMPT, *range(2, 40)]


def pack(tmp_path, name, *, order="random", dtype=torch.float32, **config):
    """Write a tiny mixture and its pack, experts in another order; return both."""
    torch.manual_seed(0)
    settings = CONFIGS[name]()
    for key, value in {"max_position_embeddings": 256, "eos_token_id": None, "pad_token_id": 0, **config}.items():
        setattr(settings, key, value)
    source = tmp_path / "source"
    save_random(settings, tmp_path / "raw", dtype=dtype)
    model = load(tmp_path / "raw", dtype)
    with torch.no_grad():  # Words that depend on what was said.
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(5)
    model.save_pretrained(source)
    plain = pack_experts(source, tmp_path / "plain").plan.out
    rng = np.random.default_rng(3)
    blocks = {}
    for block, entry in read_manifest(plain).blocks.items():
        placed = np.arange(entry.n_neurons) if order == "original" else rng.permutation(entry.n_neurons)
        blocks[block] = NeuronPlacement(placed.astype(np.int32))
    write_placement(tmp_path / "order", ModelPlacement(blocks, {"unit": "expert"}))
    pack_experts(source, tmp_path / "out", placement=tmp_path / "order")
    return source, tmp_path / "out"


def expected(source, n_tokens):
    """Return what transformers generates in memory."""
    model = load(source, torch.float32)
    output = model.generate(torch.tensor([PROMPT]), max_new_tokens=n_tokens, do_sample=False)
    return output[0, len(PROMPT) :].tolist()


@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral", "gpt_oss", "qwen2_moe", "olmoe", "deepseek_v3"])
def test_mixtures_generate_what_transformers_does(name, tmp_path):
    """Tensors of single experts, fused and transposed ones with biases; shared experts, and dense layers between."""
    source, out = pack(tmp_path, name)
    assert tokens_of(steps_of(out, GenerationParams(100))) == expected(source, 100)
    with open_reader(out) as reader:
        steps = list(Generator.open(out, reader).score(TEXT))
    assert np.allclose([step.nll for step in steps], expected_nll(source, TEXT), atol=1e-4)


@pytest.mark.parametrize("cache", ["none", "lru", "sieve"])
def test_caches_and_chunks_change_no_bit(cache, tmp_path):
    """The same NLL whatever is in DRAM; experts that a chunk of tokens shares are read once."""
    _, out = pack(tmp_path, "qwen3_moe")
    runs = []
    for rows, held in ((1, 0), (1, 2), (100, 2)):
        options = {"cache": cache, "capacity_neurons": capacities(out, held)}
        with open_reader(out, **options) as reader:
            steps = list(Generator.open(out, reader, GenerationParams(40, prefill_rows=rows)).generate(PROMPT))
        runs.append(steps)
    assert [step.nll for step in runs[0]] == [step.nll for step in runs[1]]
    assert tokens_of(runs[1]) == tokens_of(runs[0]) == tokens_of(runs[2])
    assert runs[2][0].n_asked < sum(step.n_asked for step in runs[1] if step.is_prefill)
    assert all(step.n_asked == 2 * 3 for step in runs[0])
    assert (sum(step.n_hits for step in runs[1]) > 0) == (cache != "none")


def test_one_cache_of_all_layers(tmp_path):
    """Experts of one layer leave for those of another; the text is the same."""
    source, out = pack(tmp_path, "qwen3_moe")
    steps = steps_of(out, GenerationParams(60), cache="lru", pool_neurons=8)
    assert tokens_of(steps) == expected(source, 60)
    assert 0 < sum(step.n_hits for step in steps) < sum(step.n_asked for step in steps)


def test_the_order_on_storage_changes_no_bit(tmp_path):
    """Outputs are added up by number."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    nll = []
    for folder, order in (("one", "random"), ("other", "original")):
        _, out = pack(tmp_path / folder, "mixtral", order=order)
        nll.append([step.nll for step in steps_of(out, GenerationParams(40))])
    assert nll[0] == nll[1]


def test_a_prompt_is_read_in_parts_where_memory_is_short(tmp_path, monkeypatch):
    """Three experts at a time, of four that it asks for."""
    _, out = pack(tmp_path, "qwen3_moe")
    whole = steps_of(out, GenerationParams(20))
    monkeypatch.setattr(stored_experts, "MAX_ROOM_BYTES", 3 * 9216)
    parts = steps_of(out, GenerationParams(20))
    assert [step.nll for step in whole] == [step.nll for step in parts]
    assert parts[0].n_asked == whole[0].n_asked > 9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, tmp_path):
    """In the checkpoint's dtype, as near to float32 as transformers; and widened, where both are equal."""
    source, out = pack(tmp_path, "qwen3_moe", dtype=dtype)
    for own, params in ((dtype, None), (torch.float32, GenerationParams(dtype="float32"))):
        with open_reader(out) as reader:
            generator = Generator.open(out, reader, params)
            assert next(generator.model.parameters()).dtype == own
            nll = [step.nll for step in generator.score(TEXT)]
        exact, theirs = (np.array(expected_nll(source, TEXT, each)) for each in (torch.float32, own))
        # Of most tokens: rounding may send one to another expert.
        assert np.median(np.abs(nll - exact)) < 1e-4 + 1.5 * np.median(np.abs(theirs - exact))


def test_experts_stay_out_of_memory(tmp_path):
    """What stays is the model less its experts."""
    source, out = pack(tmp_path, "qwen3_moe")
    whole = sum(parameter.nbytes for parameter in load(source, torch.float32).parameters())
    with open_reader(out) as reader:
        assert Generator.open(out, reader).resident_bytes - whole == pytest.approx(-3 * 4 * 9216, abs=1024)


def test_what_cannot_run_is_refused(tmp_path):
    """Another activity than the router's, and a file that was cut short."""
    _, out = pack(tmp_path, "qwen3_moe")
    with open_reader(out) as reader:
        with pytest.raises(UsageError, match="the router decides"):
            Generator.open(out, reader, GenerationParams(activity="all"))
        steps = Generator.open(out, reader).generate(PROMPT)
        next(steps)
        path = out / "ripple_place" / "bundled.safetensors"
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 4)
        with pytest.raises((OSError, CheckpointError), match=r"cut short|another length"):
            list(steps)


def test_packed_weights_are_refused():
    """MXFP4: blocks and scales."""
    from ripple_place.generation.expert_form import form_of_experts

    parts = [
        {"role": "gate_up.blocks", "tensor": "a", "dtype": "U8", "offset_bytes": 0, "length_bytes": 8, "shape": []}
    ]
    with pytest.raises(UnsupportedError, match=r"gate_up\.blocks is in U8"):
        form_of_experts("layers.0", {"components": parts, "n_neurons": 4})
