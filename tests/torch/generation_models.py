"""Tiny models, outputs of them in a random order, and what transformers generates with the source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import PREDICTORS_FILE
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.rewrite import execute
from ripple_place.flash.device.conditions import under
from ripple_place.flash.simulation_params import SimulationParams
from ripple_place.generation.generator import Generator
from ripple_place.generation.params import GenerationParams
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.predict.files import predictors_content
from ripple_place.predict.predictor import BlockPredictor, ModelPredictor, PredictorNote
from ripple_place.runtime.layout_reader import LayoutReader, ReaderParams
from ripple_place.runtime.output_layout import read_output_layout
from ripple_place.select.rule import Tuning
from ripple_place.select.tuned import ReaderNote, TunedRule, TunedRules
from tests.flash.builders import linear_device
from tests.torch.capture_models import CAUSAL, load, write_model

DEVICE = replace(linear_device(max_request_bytes=8192), overhead_us=0.2)
PROMPT = [5, 61, 7, 30, 9, 44, 11, 80, 13, 14]
N_TOKENS = 200


def write_source(path, family, *, dtype=torch.float32, **config):
    """Write a tiny model that says many words, and nothing that ends the text early; return its path."""
    positions = {} if family == "gpt2" else {"max_position_embeddings": 256}
    config = CAUSAL[family](**positions | {"eos_token_id": None} | config)
    write_model(path, config, dtype=dtype)
    model = load(path, dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(4 if "emb" in name or "head" in name else 2)
    model.save_pretrained(path)
    return path


def write_output(source, out, *, order="random", copies=1, seed=1, **options):
    """Write an output of a checkpoint, with random firing counts; return its path."""
    model, rng, blocks = describe_ffn(Checkpoint.open(source)), np.random.default_rng(seed), {}
    for name, block in model.blocks.items():
        orders = [rng.permutation(block.n_neurons).astype(np.int32) for _ in range(copies)]
        if order == "original":
            orders[0] = np.arange(block.n_neurons, dtype=np.int32)
        counts = rng.integers(0, 50, block.n_neurons)
        blocks[name] = NeuronPlacement(orders[0], frequency=counts, order_2=orders[1] if copies == 2 else None)
    execute(plan_rewrite(model, ModelPlacement(blocks), out, **options))
    return out


def write_predictors(out, margin, left_out=None):
    """Let an output of an OPT model have predictors that know its weights, and take what is just below 0 for firing."""
    from ripple_place.checkpoint.output.manifest import read_manifest
    from ripple_place.tensorfile import TensorFile

    file = TensorFile.open(out / "model.safetensors")
    blocks = {}
    for name, entry in read_manifest(out).document["blocks"].items():
        if name == left_out:
            continue
        up, bias = (file.array(entry["tensors"][role]) for role in ("up", "up_bias"))
        n = bias.size
        blocks[name] = BlockPredictor(
            up.astype(np.float16), np.eye(n, dtype=np.float16), bias.astype(np.float32),
            np.array([-margin], np.float32), np.ones(n, np.float32),
        )  # fmt: skip
    note = PredictorNote("magnitude", (0.99,), 100, dict.fromkeys(blocks, "regression"))
    (out / PREDICTORS_FILE).write_bytes(predictors_content(ModelPredictor(blocks, note)))


def write_selection(out, rule, compensation=None):
    """Let an output be tuned for a rule, and a reader with an LRU cache of 60 neurons."""
    held = capacities(out, 60)
    is_priced = rule.startswith("flash-aware")
    added = {} if compensation is None else dict.fromkeys(held, np.full(32, compensation, np.float32))
    tuning = Tuning(
        1e-4 if is_priced else None, dict.fromkeys(held, 0.1),
        dict.fromkeys(held, np.full(76, 1e-4, np.float32)) if is_priced else {}, {}, added,
    )  # fmt: skip
    with open_reader(out, cache="lru", capacity_neurons=held) as reader:
        note = ReaderNote.of(under(DEVICE), reader.simulation, reader.layout)
    for name, content in TunedRules({rule: TunedRule(rule, note, tuning, "size")}).files().items():
        (out / name).write_bytes(content)


def expected_tokens(source, n_tokens=N_TOKENS, dtype=torch.float32, prompt=PROMPT):
    """Return what transformers generates in memory."""
    model = load(source, dtype)
    given = torch.tensor([prompt])
    output = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=n_tokens, do_sample=False)
    return output[0, len(prompt) :].tolist()


def expected_nll(source, text, dtype=torch.float32):
    """Return the NLL of each token of a text but the first, with all of the model in memory."""
    with torch.no_grad():
        logits = load(source, dtype)(torch.tensor([text])).logits[0, :-1].float().log_softmax(-1)
    return [-float(row[token]) for row, token in zip(logits, text[1:], strict=True)]


def capacities(out, n):
    """Return a DRAM capacity of n neurons for every block."""
    from ripple_place.checkpoint.output.manifest import read_manifest

    return dict.fromkeys(read_output_layout("out", read_manifest(out)).extents, n)


def open_reader(out, *, depth=4, parts="whole", **simulation):
    """Return a reader of an output."""
    return LayoutReader.open(out, DEVICE, SimulationParams(**simulation), ReaderParams(depth=depth, parts=parts))


def steps_of(out, params=None, prompt=PROMPT, **reader):
    """Return all steps of a generation."""
    with open_reader(out, **reader) as opened:
        return list(Generator.open(out, opened, params or GenerationParams(N_TOKENS)).generate(prompt))


def tokens_of(steps):
    """Return what was generated."""
    return [step.token_id for step in steps if step.token_id is not None]
