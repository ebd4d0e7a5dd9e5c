"""Capturing a trace: memory and speed layer by layer, and what activity rules cost a SwiGLU model.

    .venv-torch/bin/python -m benchmarks.bench_capture --part memory --directory /var/tmp
    RIPPLE_PLACE_DATA=... .venv-torch/bin/python -m benchmarks.bench_capture --part rules --svg docs/rules.svg

*memory*: writes a checkpoint of Llama's shape with 1.5 billion random bf16 weights, removed afterwards, and profiles it
layer by layer in a process of its own. Printed are the peak memory beyond what torch and transformers take themselves
(to reach: <= 1.5 GB), and positions a second against a plain transformers forward of the same windows with the whole
model in memory (to reach: >= 0.7x), by wall clock and by processor time, loading included and not.

*rules*: perplexity of llama-swiglu on WikiText-2's test text against the share of active neurons, for top-k, CATS and
TEAL, as a table and with --svg as curves.

Needs the extra `capture`; says so and does nothing without it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import data_folder
from ripple_place.tensorfile import TensorSource, write_tensor_file

HIDDEN, NEURONS, LAYERS, VOCABULARY = 2048, 8192, 20, 32000
PERCENTS = (10, 20, 30, 40, 50, 60, 70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["all", "memory", "rules"], default="all")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="Where 3 GB have room.")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--child", choices=["layers", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if find_spec("torch") is None or find_spec("transformers") is None:
        print("torch or transformers is not installed: nothing measured (see the first lines of this script)")
        return
    if options.child:
        run_child(options)
        return
    if options.part in ("all", "memory"):
        measure_memory(options)
    if options.part in ("all", "rules") and (data := data_folder()) is not None:
        measure_rules(data, options)


def generate(path: Path) -> int:
    """Write the checkpoint, a tokenizer and a text; return the number of weights."""
    import transformers
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    rng = np.random.default_rng(0)
    noise = (rng.standard_normal(1 << 22, np.float32) * 0.02).view(np.uint32) >> 16
    noise = noise.astype(np.uint16)

    def tensor(name: str, *shape: int) -> TensorSource:
        n_items = int(np.prod(shape))
        pieces = (noise[: min(noise.size, n_items - begin)] for begin in range(0, n_items, noise.size))
        return TensorSource(name, "BF16", shape, pieces)

    def ones(name: str) -> TensorSource:
        return TensorSource(name, "BF16", (HIDDEN,), [np.full(HIDDEN, 0x3F80, np.uint16)])

    tensors = [
        tensor("model.embed_tokens.weight", VOCABULARY, HIDDEN), tensor("lm_head.weight", VOCABULARY, HIDDEN),
        ones("model.norm.weight"),
    ]  # fmt: skip
    for layer in range(LAYERS):
        module = f"model.layers.{layer}"
        tensors += [tensor(f"{module}.self_attn.{name}_proj.weight", HIDDEN, HIDDEN) for name in "qkvo"]
        tensors += [tensor(f"{module}.mlp.{name}_proj.weight", NEURONS, HIDDEN) for name in ("gate", "up")]
        tensors.append(tensor(f"{module}.mlp.down_proj.weight", HIDDEN, NEURONS))
        tensors += [ones(f"{module}.{name}_layernorm.weight") for name in ("input", "post_attention")]
    per_shard = -(-len(tensors) // 4)
    shards = [tensors[i : i + per_shard] for i in range(0, len(tensors), per_shard)]
    weight_map = {}
    for i, shard in enumerate(shards):
        name = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write_tensor_file(path / name, shard, {"format": "pt"})
        weight_map |= {tensor.name: name for tensor in shard}
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    transformers.LlamaConfig(
        hidden_size=HIDDEN, intermediate_size=NEURONS, num_hidden_layers=LAYERS, num_attention_heads=16,
        num_key_value_heads=16, vocab_size=VOCABULARY, dtype="bfloat16", architectures=["LlamaForCausalLM"],
        hidden_act="relu", tie_word_embeddings=False,
    ).save_pretrained(path)  # fmt: skip
    tokenizer = Tokenizer(WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    tokenizer.pre_tokenizer = Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(path)
    (path / "text.txt").write_text(" ".join(f"w{i}" for i in rng.integers(1, VOCABULARY, 20_000)))
    return sum(int(np.prod(tensor.shape)) for tensor in tensors)


def measure_memory(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        n_weights = generate(Path(directory))
        print(f"{n_weights / 1e9:.2f} billion weights, {options.tokens} tokens, {options.threads} threads")
        # The second way finds the files in the page cache, as the first does: they were just written.
        results = {child: spawn(child, Path(directory), options) for child in ("layers", "plain")}
    for child, result in results.items():
        print(
            f"{child}: {result['positions']} positions; peak {result['peak_gb']:.2f} GB beyond torch's "
            f"{result['torch_gb']:.2f} GB; loading {result['load_s']:.1f} s, running {result['run_s']:.1f} s, "
            f"processor {result['process_s']:.1f} s (of it loading {result['load_process_s']:.1f} s)"
        )
    layers, plain = results["layers"], results["plain"]
    whole = (plain["load_s"] + plain["run_s"]) / (layers["load_s"] + layers["run_s"])
    forward = plain["run_s"] / (layers["load_s"] + layers["run_s"])
    print(f"layer by layer against plain, wall clock: {forward:.2f}x its forward, {whole:.2f}x with its loading")
    forward = (plain["process_s"] - plain["load_process_s"]) / layers["process_s"]
    print(f"layer by layer against plain, processor: {forward:.2f}x its forward, "
          f"{plain['process_s'] / layers['process_s']:.2f}x with its loading")  # fmt: skip


def spawn(child: str, model: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run one way in a process of its own, so that its peak memory is its own."""
    arguments = ["--child", child, "--directory", str(model), "--tokens", str(options.tokens)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_capture", *arguments, "--threads", str(options.threads)],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def peak_gb() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def run_child(options: argparse.Namespace) -> None:
    """Profile, or run plainly, and print what it took."""
    import torch
    import transformers

    from ripple_place.capture.batches import layout_of
    from ripple_place.capture.model import read_config, read_tokenizer
    from ripple_place.capture.params import DEFAULT_RULE, CaptureParams, WindowParams
    from ripple_place.capture.run import run_capture
    from ripple_place.capture.text import CalibrationText, read_texts
    from ripple_place.tracking import no_track

    torch.set_num_threads(options.threads)
    # What torch takes to compute anything at all; and transformers its classes.
    torch.nn.functional.linear(torch.ones(64, 64), torch.ones(64, 64))
    _ = transformers.LlamaForCausalLM
    torch_gb = peak_gb()
    path, windows = options.directory, WindowParams(max_tokens=options.tokens)
    text = path / "text.txt"
    start, process_start = time.perf_counter(), time.process_time()
    if options.child == "layers":
        with tempfile.TemporaryDirectory(dir=path.parent) as work:
            params = CaptureParams((text,), windows, DEFAULT_RULE, layer_by_layer=True)
            run_capture(path, params, Path(work) / "rows", resume=False, thresholds=None, track=no_track)
        loaded, process_loaded = start, process_start
    else:
        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        loaded, process_loaded = time.perf_counter(), time.process_time()
    batches = CalibrationText.of_texts(read_texts([text], read_tokenizer(path)), windows).batches(
        layout_of(read_config(path))
    )
    if options.child == "plain":
        with torch.inference_mode():
            for batch in batches:
                model.model(torch.from_numpy(batch.inputs()["input_ids"]), use_cache=False)
    result = {
        "positions": sum(batch.inputs()["input_ids"].size for batch in batches),
        "torch_gb": torch_gb,
        "peak_gb": peak_gb() - torch_gb,
        "load_s": loaded - start,
        "run_s": time.perf_counter() - loaded,
        "load_process_s": process_loaded - process_start,
        "process_s": time.process_time() - process_start,
    }
    print(json.dumps(result))


def measure_rules(data: Path, options: argparse.Namespace) -> None:
    """Print by how much each kind of rule raises the perplexity, against the active share, and draw it.

    Each is compared with the unchanged model on the tokens on which it was scored: rules with thresholds leave out
    those that they were fitted on.
    """
    import torch

    from ripple_place.capture.params import CaptureParams, WindowParams
    from ripple_place.capture.run import run_capture
    from ripple_place.trace.activity_rules import ActivityRule
    from ripple_place.tracking import no_track

    torch.set_num_threads(options.threads)
    curves: dict[str, list[tuple[float, float]]] = {"top-k": [], "CATS": [], "TEAL": []}
    print("| active | " + " | ".join(curves) + " |\n|---|---|---|---|")
    for percent in PERCENTS:
        cells = []
        for name, curve in curves.items():
            kept = percent if name == "top-k" else 100 - percent
            rule = ActivityRule(name.lower(), kept, is_percent=True)
            params = CaptureParams(
                (data / "text" / "wikitext2-test.txt",), WindowParams(max_tokens=options.tokens), rule, device="cpu"
            )
            with tempfile.TemporaryDirectory() as work:
                done = run_capture(data / "models" / "llama-swiglu", params, Path(work) / "rows", resume=False,
                                   thresholds=None, track=no_track)  # fmt: skip
                blocks = done.trace.blocks.values()
                share = sum(int(np.bitwise_count(np.asarray(block.active)).sum()) for block in blocks) / sum(
                    block.n_rows * block.n_neurons for block in blocks
                )
            assert done.perplexity is not None
            assert done.perplexity_without_rule is not None
            rise = done.perplexity / done.perplexity_without_rule - 1
            curve.append((share, rise))
            cells.append(f"{rise:+.2%} ({share:.1%})")
        print(f"| {percent} % | " + " | ".join(cells) + " |", flush=True)
    print(f"{options.tokens} tokens")
    if options.svg is not None:
        draw(curves, options.svg)


def draw(curves: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draw by how much each rule raises the perplexity; a rule that lowers it by a hair lies on the axis."""
    from ripple_place.pages.charts import line_chart
    from ripple_place.pages.svg import standalone

    raised = [[(share, max(0.0, rise)) for share, rise in curve] for curve in curves.values()]
    picture = line_chart(
        raised, list(curves), 560, title="What an activity rule costs llama-swiglu",
        x_title="share of neurons active", y_title="rise of perplexity", write_x="{:.0%}".format,
        write_y="{:.0%}".format,
    )  # fmt: skip
    path.write_text(standalone(picture), encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
