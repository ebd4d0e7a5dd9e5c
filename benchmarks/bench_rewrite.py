"""Rewrite speed against `cp -r`, and peak memory, on a generated checkpoint.

    python -m benchmarks.bench_rewrite --size 2GiB --hidden 4096 --neurons 11008 --directory /var/tmp
    python -m benchmarks.bench_rewrite --size 8GB --hidden 8192 --neurons 28672 --shard-size 1GB --directory /var/tmp

Prints, as medians over interleaved runs: seconds of `cp -r` (flushed to storage), of writing each format (flushed
likewise), of hashing and verifying apart, the ratio of rates, and the CPU time that each took. Both formats are as many
bytes as two copies, and are compared with two. Before each run the source is dropped from the page cache. Peak memory
is that of a process of its own, the largest tensor beside it; --memory-only measures nothing else, such as under a
limit: `systemd-run --scope -p MemoryMax=1300M python -m benchmarks.bench_rewrite --memory-only ...`. With
RIPPLE_PLACE_DATA set, and without --size, the models under its `models/` are rewritten instead.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.journal import Journal
from ripple_place.checkpoint.output.outdir import replacing_directory
from ripple_place.checkpoint.output.plan import FORMATS, RewritePlan, plan_rewrite
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.rewrite import seal_output, write_output
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.tensorfile import TensorSource, write_tensor_file
from ripple_place.units import format_bytes, parse_bytes


def generate(path: Path, size_bytes: int, hidden: int, n_neurons: int, shard_bytes: int | None = None) -> None:
    """Write a bf16 checkpoint of Llama's shape: an embedding of 32,000, and layers until the size is reached.

    With `shard_bytes`, it is cut into shards of at least that size.
    """
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2**16, 8 << 20, dtype=np.uint16)

    def tensor(name: str, *shape: int) -> TensorSource:
        n_items = int(np.prod(shape))
        pieces = (noise[: min(noise.size, n_items - begin)] for begin in range(0, n_items, noise.size))
        return TensorSource(name, "BF16", shape, pieces)

    path.mkdir()
    tensors = [tensor("model.embed_tokens.weight", 32000, hidden)]
    layer, n_bytes = 0, 2 * 32000 * hidden
    while n_bytes < size_bytes:
        module = f"model.layers.{layer}"
        for name in "qkvo":
            tensors.append(tensor(f"{module}.self_attn.{name}_proj.weight", hidden, hidden))
        tensors.append(tensor(f"{module}.mlp.down_proj.weight", hidden, n_neurons))
        tensors.append(tensor(f"{module}.mlp.gate_proj.weight", n_neurons, hidden))
        tensors.append(tensor(f"{module}.mlp.up_proj.weight", n_neurons, hidden))
        layer, n_bytes = layer + 1, n_bytes + 2 * hidden * (4 * hidden + 3 * n_neurons)
    _write_shards(path, tensors, shard_bytes)
    config = {"model_type": "llama", "intermediate_size": n_neurons, "num_hidden_layers": layer}
    (path / "config.json").write_text(json.dumps(config))


def _write_shards(path: Path, tensors: list[TensorSource], shard_bytes: int | None) -> None:
    if shard_bytes is None:
        write_tensor_file(path / "model.safetensors", tensors, {"format": "pt"})
        return
    shards: list[list[TensorSource]] = [[]]
    for tensor in tensors:
        if sum(other.length_bytes for other in shards[-1]) >= shard_bytes:
            shards.append([])
        shards[-1].append(tensor)
    weight_map = {}
    for number, inside in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_tensor_file(path / name, inside, {"format": "pt"})
        weight_map |= {tensor.name: name for tensor in inside}
    index = {"metadata": {"total_size": sum(tensor.length_bytes for tensor in tensors)}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def drop_cache(path: Path) -> None:
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy(source: Path, *targets: Path) -> None:
    for target in targets:
        subprocess.run(["cp", "-r", str(source), str(target)], check=True)
        for file in target.rglob("*"):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def plan_random(source: Path, out: Path, formats: tuple[str, ...]) -> RewritePlan:
    model = describe_ffn(Checkpoint.open(source))
    rng = np.random.default_rng(1)
    blocks = {name: NeuronPlacement(rng.permutation(block.n_neurons)) for name, block in model.blocks.items()}
    return plan_rewrite(model, ModelPlacement(blocks), out, formats=formats)


def timed(function: Any, *arguments: Any, **options: Any) -> float:
    start = time.perf_counter()
    function(*arguments, **options)
    return time.perf_counter() - start


def rewrite_once(source: Path, out: Path, formats: tuple[str, ...], *, prove: bool = False) -> dict[str, float]:
    """Return seconds of each stage of one rewrite."""
    plan = plan_random(source, out, formats)
    seconds = {}
    with replacing_directory(out) as directory, Journal(plan, directory) as journal:
        seconds["write"] = timed(write_output, plan, journal)
        seconds["seal and prove"] = timed(seal_output, plan, journal, verify=True) if prove else 0.0
        journal.remove()
    if prove:
        seconds["verify again"] = timed(verify, source, out)
    shutil.rmtree(out)
    return seconds


def bench(source: Path, directory: Path, n_repeats: int) -> None:
    size_bytes = sum(file.stat().st_size for file in source.rglob("*") if file.is_file())
    variants: dict[str, Any] = {
        "cp -r": 1, "cp -r twice": 2, "drop-in": ("drop-in",), "bundled": ("bundled",), "both": FORMATS,
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    rewrite_once(source, directory / "out", FORMATS)  # Kernels are compiled, and the disk has seen the load.
    for _ in range(n_repeats):
        for name, formats in variants.items():
            drop_cache(source)
            start = cpu_seconds()
            if isinstance(formats, int):
                targets = [directory / f"copy-{number}" for number in range(formats)]
                seconds[name].append(timed(copy, source, *targets))
                for target in targets:
                    shutil.rmtree(target)
            else:
                seconds[name].append(rewrite_once(source, directory / "out", formats)["write"])
            cpu[name].append(cpu_seconds() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{source.name}: {format_bytes(size_bytes)}, median of {n_repeats}, interleaved")
    for name, median in medians.items():
        share = medians["cp -r twice" if name in ("both", "cp -r twice") else "cp -r"] / median
        spread = f"{min(seconds[name]):.2f}-{max(seconds[name]):.2f}"
        cpu_median = statistics.median(cpu[name])
        print(f"  {name:11} {median:7.2f} s ({spread}) {share:6.0%} of the rate of cp -r, {cpu_median:.2f} CPU s")
    for stage, stage_seconds in rewrite_once(source, directory / "out", FORMATS, prove=True).items():
        print(f"  both, {stage}: {stage_seconds:.2f} s")
    bench_memory(source, directory)


def bench_memory(source: Path, directory: Path) -> None:
    for prove in (False, True):
        command = [
            sys.executable,
            "-m",
            "benchmarks.bench_rewrite",
            "--measure-memory",
            str(source),
            "--directory",
            str(directory),
        ]
        measured = subprocess.run(
            [*command, *(["--prove"] if prove else [])], check=True, capture_output=True, text=True
        )
        print(f"  peak memory, both{', proved' if prove else ''}: {measured.stdout.strip()}")


def peak_rss_kib() -> int:
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_bytes, help="size of the generated checkpoint, such as 2GiB")
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--neurons", type=int, default=11008)
    parser.add_argument("--shard-size", type=parse_bytes, help="cut it into shards of at least this size")
    parser.add_argument("--memory-only", action="store_true", help="measure memory, not speed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="storage to measure on")
    parser.add_argument("--measure-memory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--prove", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_memory:
        base = peak_rss_kib()
        seconds = timed(
            rewrite_once, options.measure_memory, options.directory / "out-memory", FORMATS, prove=options.prove
        )
        peak = peak_rss_kib()
        shards = Checkpoint.open(options.measure_memory).shards.values()
        largest = max(extent.length_bytes for shard in shards for extent in shard.tensors.values())
        print(
            f"{format_bytes(peak << 10)} in {seconds:.0f} s (imports alone {format_bytes(base << 10)}, "
            f"largest tensor {format_bytes(largest)}; twice that and 300 MB are {format_bytes(2 * largest + 300e6)})"
        )
        return
    data = os.environ.get("RIPPLE_PLACE_DATA")
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        if options.size:
            generate(directory / "generated", options.size, options.hidden, options.neurons, options.shard_size)
            if options.memory_only:
                bench_memory(directory / "generated", directory)
            else:
                bench(directory / "generated", directory, options.repeats)
        elif data:
            for source in sorted((Path(data) / "models").iterdir()):
                bench(source, directory, options.repeats)
        else:
            sys.exit("give --size, or set RIPPLE_PLACE_DATA to a directory with models/")


if __name__ == "__main__":
    main()
