"""Speed of packing experts against `cp -r`, and peak memory, on a generated mixture.

    python -m benchmarks.bench_pack --size 1GB --hidden 2048 --width 768 --directory /var/tmp

Writes the pack alone (``--format bundled``, the same bytes once), and the pack beside a copy (twice), each in pairs
with a `cp -r`, of which now one and now the other comes first; all are flushed to storage. Prints the median of the
ratios of rates within pairs, their spread, and rates; hashing and proving apart. Before each run the source is dropped
from the page cache. Peak memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.bench_rewrite import copy, drop_cache, peak_rss_kib, timed
from ripple_place.blocks import EXPERT, unit_metadata
from ripple_place.checkpoint.model.experts import open_experts
from ripple_place.checkpoint.output.expert_plan import plan_pack
from ripple_place.checkpoint.output.journal import Journal
from ripple_place.checkpoint.output.outdir import replacing_directory
from ripple_place.checkpoint.pack import seal_pack, write_pack
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.tensorfile import TensorSource, write_tensor_file
from ripple_place.units import format_bytes, format_rate, parse_bytes

if TYPE_CHECKING:
    from ripple_place.checkpoint.output.expert_plan import PackPlan

N_EXPERTS = 64


def generate(path: Path, size_bytes: int, hidden: int, width: int) -> None:
    """Write a bf16 mixture of Qwen3-MoE's names: layers of 64 experts until the size is reached."""
    noise = np.random.default_rng(0).integers(0, 2**16, 8 << 20, dtype=np.uint16)

    def tensor(name: str, *shape: int) -> TensorSource:
        n_items = int(np.prod(shape))
        pieces = (noise[: min(noise.size, n_items - begin)] for begin in range(0, n_items, noise.size))
        return TensorSource(name, "BF16", shape, pieces)

    path.mkdir()
    tensors = [tensor("model.embed_tokens.weight", 32000, hidden)]
    layer, n_bytes = 0, 2 * 32000 * hidden
    while n_bytes < size_bytes:
        for expert in range(N_EXPERTS):
            module = f"model.layers.{layer}.mlp.experts.{expert}"
            tensors.append(tensor(f"{module}.down_proj.weight", hidden, width))
            tensors.append(tensor(f"{module}.gate_proj.weight", width, hidden))
            tensors.append(tensor(f"{module}.up_proj.weight", width, hidden))
        layer, n_bytes = layer + 1, n_bytes + 2 * N_EXPERTS * 3 * hidden * width
    write_tensor_file(path / "model.safetensors", tensors, {"format": "pt"})
    config = {"model_type": "qwen3_moe", "moe_intermediate_size": width, "num_hidden_layers": layer}
    (path / "config.json").write_text(json.dumps(config))


def plan_random(source: Path, out: Path, formats: tuple[str, ...]) -> PackPlan:
    """Plan a pack with the experts of each layer in random order."""
    model, rng = open_experts(source), np.random.default_rng(1)
    blocks = {name: NeuronPlacement(rng.permutation(block.n_neurons)) for name, block in model.blocks.items()}
    return plan_pack(model, ModelPlacement(blocks, unit_metadata(EXPERT)), out, formats=formats)


def pack_once(source: Path, out: Path, formats: tuple[str, ...], *, prove: bool = False) -> dict[str, float]:
    """Return seconds of each stage of one pack."""
    plan, seconds = plan_random(source, out, formats), {}
    with replacing_directory(out) as directory, Journal(plan, directory) as journal:
        seconds["write"] = timed(write_pack, plan, journal)
        seconds["seal and prove"] = timed(seal_pack, plan, journal, verify=True) if prove else 0.0
        journal.remove()
    shutil.rmtree(out)
    return seconds


def bench(source: Path, directory: Path, n_pairs: int) -> None:
    """Print medians over pairs, and peak memory."""
    formats = {"pack": ("bundled",), "pack and copy": ("drop-in", "bundled")}

    def copied() -> float:
        drop_cache(source)
        seconds = timed(copy, source, directory / "copy")
        shutil.rmtree(directory / "copy")
        return seconds

    def packed(which: tuple[str, ...]) -> float:
        drop_cache(source)
        return pack_once(source, directory / "out", which)["write"]

    size_bytes = sum(file.stat().st_size for file in source.iterdir())
    packed(formats["pack"])  # The disk has seen the load.
    print(f"{format_bytes(size_bytes)}, {n_pairs} pairs of a pack and a `cp -r`, one after the other, by turns first")
    for name, which in formats.items():
        n_bytes = len(which) * size_bytes
        ratios, rates = [], []
        for pair in range(n_pairs):
            if pair % 2:
                pack_s, copy_s = packed(which), copied()
            else:
                copy_s, pack_s = copied(), packed(which)
            ratios.append(len(which) * copy_s / pack_s)
            rates.append((n_bytes / pack_s, size_bytes / copy_s))
        ours, theirs = (format_rate(statistics.median(of)) for of in zip(*rates, strict=True))
        print(
            f"  {name:13} {statistics.median(ratios):4.0%} of the rate of cp -r, median of the ratios "
            f"({min(ratios):.0%} to {max(ratios):.0%}); {ours} against {theirs}"
        )
    proved = pack_once(source, directory / "out", formats["pack"], prove=True)
    print(f"  pack, seal and prove: {proved['seal and prove']:.2f} s")
    command = [sys.executable, "-m", "benchmarks.bench_pack", "--measure-memory", str(source)]
    done = subprocess.run([*command, "--directory", str(directory)], check=True, capture_output=True, text=True)
    print(f"  peak memory, proved: {done.stdout.strip()}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_bytes, default=parse_bytes("1GB"))
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="storage to measure on")
    parser.add_argument("--measure-memory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_memory:
        base = peak_rss_kib()
        pack_once(options.measure_memory, options.directory / "out-memory", ("bundled",), prove=True)
        print(f"{format_bytes(peak_rss_kib() << 10)} (imports alone {format_bytes(base << 10)})")
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        generate(Path(name) / "generated", options.size, options.hidden, options.width)
        bench(Path(name) / "generated", Path(name), options.pairs)


if __name__ == "__main__":
    main()
