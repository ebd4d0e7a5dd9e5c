"""Run a model of OPT-1.3B's shape in less memory than it has weights: from flash, and memory-mapped.

    python -m benchmarks.bench_run_memory [--directory DIR] [--limit 1500MiB] [--tokens 24] [--dram 0.05]

1. A checkpoint of OPT-1.3B's shape in float16 is made (2.6 GB, random): neurons of a cluster share most of their
   weights, and biases are such that about 4 % of them fire. Predictors are the clusters' common weights.
2. It is written with the clusters side by side (the order that a path would find), and in checkpoint order.
3. Each of these runs in a process of its own, in a control group whose memory, page cache included, is limited:
   from storage, by what predictors say, in both orders; and by transformers with its weights mapped from the file, as
   an engine with mmap has them.

Printed: tokens a second, memory at its peak, and the bytes that were read from storage. Needs torch, root, control
groups of version 1, 9 GB of disk. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import PREDICTORS_FILE
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.rewrite import execute
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.predict.files import predictors_content
from ripple_place.predict.predictor import BlockPredictor, ModelPredictor, PredictorNote
from ripple_place.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array

N_LAYERS, HIDDEN, N_NEURONS, N_CLUSTERS = 24, 2048, 8192, 64
SHARED = 0.8
"""Share of a neuron's variance that is its cluster's."""
BIAS = -1.75
"""Inputs are normalised: a standard normal variable is above 1.75 in 4 % of cases."""
MEMORY_GROUP = Path("/sys/fs/cgroup/memory/ripple-place-bench")
PROMPT = list(range(10, 26))


def write_model(path: Path, clusters: np.ndarray) -> list[BlockPredictor]:
    """Write the checkpoint; return its predictors, in checkpoint order."""
    import torch
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(0)
    config = OPTConfig(
        hidden_size=HIDDEN, ffn_dim=N_NEURONS, num_hidden_layers=N_LAYERS, num_attention_heads=32,
        word_embed_proj_dim=HIDDEN, eos_token_id=None,
    )  # fmt: skip
    torch.set_default_dtype(torch.float16)
    model = OPTForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    predictors = []
    for layer in model.model.decoder.layers:
        common = torch.randn(N_CLUSTERS, HIDDEN) / HIDDEN**0.5
        own = torch.randn(N_NEURONS, HIDDEN) / HIDDEN**0.5
        up = SHARED**0.5 * common[torch.from_numpy(clusters)] + (1 - SHARED) ** 0.5 * own
        layer.fc1.weight.data.copy_(up)
        layer.fc1.bias.data.fill_(BIAS)
        layer.fc2.weight.data.normal_(std=0.02)
        which, bias = np.eye(N_CLUSTERS, dtype=np.float16)[clusters], np.full(N_NEURONS, BIAS, np.float32)
        down = (SHARED**0.5 * common).half().numpy()
        predictors.append(BlockPredictor(down, which, bias, np.array([-0.1], np.float32)))
    model.save_pretrained(path)
    return predictors


def write_outputs(folder: Path, clusters: np.ndarray, predictors: list[BlockPredictor]) -> dict[str, Path]:
    """Write the model in both orders, with predictors; return the outputs by order."""
    model, outputs = describe_ffn(Checkpoint.open(folder / "model")), {}
    orders = {"clusters": np.argsort(clusters, kind="stable"), "checkpoint": np.arange(N_NEURONS)}
    for name, slots in orders.items():
        order: Int32Array = slots.astype(np.int32)
        placement = ModelPlacement({block: NeuronPlacement(order) for block in model.blocks})
        execute(plan_rewrite(model, placement, folder / name, formats=("bundled",)))
        blocks = {
            block: BlockPredictor(each.down, each.up[order], each.bias[order], each.threshold, None)
            for block, each in zip(model.blocks, predictors, strict=True)
        }
        note = PredictorNote("activity", (0.99,), 100, dict.fromkeys(blocks, "regression"))
        (folder / name / PREDICTORS_FILE).write_bytes(predictors_content(ModelPredictor(blocks, note)))
        outputs[name] = folder / name
    return outputs


def run_limited(arguments: list[str], limit_bytes: int) -> tuple[dict[str, float], int, int]:
    """Run Python in a group of that much memory; return its document, its peak, and what it read from storage."""
    MEMORY_GROUP.mkdir(exist_ok=True)
    subprocess.run(["sync"], check=True)
    Path("/proc/sys/vm/drop_caches").write_text("3")
    (MEMORY_GROUP / "memory.limit_in_bytes").write_text(str(limit_bytes))
    (MEMORY_GROUP / "memory.max_usage_in_bytes").write_text("0")
    enter = f"import os; open('{MEMORY_GROUP}/cgroup.procs', 'w').write(str(os.getpid())); "
    after = "; print(open('/proc/self/io').read(), file=__import__('sys').stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{enter}from benchmarks.bench_run_memory import {arguments[0]}; "
         f"{arguments[0]}(*{arguments[1:]!r}){after}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    n_read = int(done.stderr.rpartition("read_bytes: ")[2].split()[0])
    peak = int((MEMORY_GROUP / "memory.max_usage_in_bytes").read_text())
    return json.loads(done.stdout), peak, n_read


def run_stored(out: str, n_tokens: str, dram: str) -> None:
    """Generate from an output; print what `run` measured."""
    from ripple_place.flash.device.conditions import under
    from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
    from ripple_place.flash.simulation_params import SimulationParams
    from ripple_place.generation.generator import Generator
    from ripple_place.generation.params import GenerationParams
    from ripple_place.runtime.layout_reader import LayoutReader, ReaderParams

    held = {f"layers.{layer}": int(N_NEURONS * float(dram)) for layer in range(N_LAYERS)}
    simulation = SimulationParams("lru", held)
    with LayoutReader.open(
        out, under(load_device(DEFAULT_DEVICE)), simulation, ReaderParams(16, check="header")
    ) as reader:
        params = GenerationParams(int(n_tokens), activity="predicted")
        steps = list(Generator.open(out, reader, params).generate(PROMPT))
        later = [step for step in steps if not step.is_prefill]
        print(json.dumps({
            "tokens_per_s": 1e6 * len(later) / sum(step.elapsed_us for step in later),
            "io_ms": sum(step.read_us for step in later) / 1e3 / len(later),
            "asked": sum(step.n_asked for step in later) / len(later) / N_LAYERS / N_NEURONS,
        }))  # fmt: skip


def run_mapped(model: str, n_tokens: str) -> None:
    """Generate by transformers with weights mapped from the file; print tokens a second."""
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig, OPTForCausalLM

    with torch.device("meta"):
        mapped = OPTForCausalLM(AutoConfig.from_pretrained(model))
    with safe_open(f"{model}/model.safetensors", "pt") as file:
        mapped.load_state_dict({name: file.get_tensor(name) for name in file.keys()}, strict=False, assign=True)  # noqa: SIM118
    mapped.tie_weights()
    mapped.eval()
    with torch.inference_mode():
        output = mapped(input_ids=torch.tensor([PROMPT]), use_cache=True)
        begun = time.perf_counter()
        for _ in range(int(n_tokens) - 1):
            token = output.logits[0, -1].argmax().view(1, 1)
            output = mapped(input_ids=token, past_key_values=output.past_key_values, use_cache=True)
        elapsed_s = time.perf_counter() - begun
    print(json.dumps({"tokens_per_s": (int(n_tokens) - 1) / elapsed_s}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--directory", type=Path, default=Path(), help="on the storage to read from")
    parser.add_argument("--limit", default="1500MiB")
    parser.add_argument("--tokens", default="24")
    parser.add_argument("--dram", default="0.05", help="share of each block's neurons")
    options = parser.parse_args()
    if find_spec("torch") is None or not os.access(MEMORY_GROUP.parent, os.W_OK):
        print("torch, or a control group to limit memory with, is missing: nothing is run")
        return
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, limit {options.limit}")
    with tempfile.TemporaryDirectory(dir=options.directory) as scratch:
        folder, clusters = Path(scratch), np.random.default_rng(0).permutation(N_NEURONS) % N_CLUSTERS
        outputs = write_outputs(folder, clusters, write_model(folder / "model", clusters))
        cases = {
            f"run, {name}": ["run_stored", str(out), options.tokens, options.dram] for name, out in outputs.items()
        }
        cases["mapped"] = ["run_mapped", str(folder / "model"), options.tokens]
        for name, arguments in cases.items():
            document, peak, n_read = run_limited(arguments, parse_bytes(options.limit))
            figures = ", ".join(f"{key} {value:.3f}" for key, value in document.items())
            print(f"{name:16s} {figures}; peak {format_bytes(peak)}, read {format_bytes(n_read)}", flush=True)
    MEMORY_GROUP.rmdir()


if __name__ == "__main__":
    main()
