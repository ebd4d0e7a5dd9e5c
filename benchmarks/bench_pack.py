"""Speed of packing experts against `cp -r`, and peak memory, on a generated mixture.

    python -m benchmarks.bench_pack --size 1GB --hidden 2048 --width 768 --directory /var/tmp

Prints, as medians over interleaved runs: seconds of `cp -r` (flushed to storage), of writing the pack alone
(``--format bundled``, the same bytes once) and the pack beside a copy, flushed likewise, and of hashing and proving
apart. Before each run the source is dropped from the page cache. Peak memory is that of a process of its own.
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
from ripple_place.units import format_bytes, parse_bytes

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


def bench(source: Path, directory: Path, n_repeats: int) -> None:
    """Print medians over interleaved runs, and peak memory."""
    formats = {"pack": ("bundled",), "pack and copy": ("drop-in", "bundled")}
    seconds: dict[str, list[float]] = {name: [] for name in ("cp -r", *formats)}
    pack_once(source, directory / "out", formats["pack"])  # The disk has seen the load.
    for _ in range(n_repeats):
        drop_cache(source)
        seconds["cp -r"].append(timed(copy, source, directory / "copy"))
        shutil.rmtree(directory / "copy")
        for name, which in formats.items():
            drop_cache(source)
            seconds[name].append(pack_once(source, directory / "out", which)["write"])
    size_bytes = sum(file.stat().st_size for file in source.iterdir())
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{format_bytes(size_bytes)}, median of {n_repeats}, interleaved")
    for name, median in medians.items():
        share = (2 if name == "pack and copy" else 1) * medians["cp -r"] / median
        spread = f"{min(seconds[name]):.2f}-{max(seconds[name]):.2f}"
        print(f"  {name:13} {median:7.2f} s ({spread}) {share:6.0%} of the rate of cp -r")
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
    parser.add_argument("--repeats", type=int, default=5)
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
        bench(Path(name) / "generated", Path(name), options.repeats)


if __name__ == "__main__":
    main()
