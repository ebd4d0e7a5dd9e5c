"""Measure the simulator: neuron accesses a second on one core, by cache policy, beside libCacheSim where it is there.

Three speeds for each policy: of the whole simulator (bits of the trace to slots, cache, read plan, flash time), of its
cache alone, and of libCacheSim's policy of that name, on the same accesses in its own binary trace format. Everything
takes turns within each repeat, so that a slow moment of the machine hits all of it; the median counts, in processor
time, so that other programs do not. Hits are compared on the way. libCacheSim (GPL-3) is never a dependency: install
``libcachesim`` into an environment of its own, together with this package, to have its column.

The first trace is synthetic and seeded; where the environment variable RIPPLE_PLACE_DATA names a folder with
``traces/*.trace.safetensors``, those follow. To reach: 20 M accesses a second with LRU and with S3-FIFO.

Run: ``python -m benchmarks.bench_simulator [--tokens 4096] [--repeats 5] [--policies lru,s3fifo]``.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.flash.caches.cache import Accesses
from ripple_place.flash.caches.none import NoCache
from ripple_place.flash.caches.registry import find_policy
from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
from ripple_place.flash.layout import Layout
from ripple_place.flash.read_cost import ReadCost
from ripple_place.flash.replay import replay_block
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.tensorfile import TensorFile
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

POLICIES = ("none", "lru", "fifo", "lfu", "s3fifo", "sieve", "greedydual", "pinned", "pinned+lru", "window:4", "belady")
THEIR_NAMES = {"lru": "LRU", "fifo": "FIFO", "lfu": "LFU", "s3fifo": "S3FIFO", "sieve": "Sieve"}
CAPACITY_SHARE = 0.1  # of each block in DRAM
BUNDLE_BYTES = 4096
READS = ReadCost.by_line(5.0)
COLUMNS = ("simulator", "with bound", "cache alone", "libCacheSim")


def synthetic_trace(n_tokens: int, n_neurons: int, active_share: float, seed: int = 0) -> ActivationTrace:
    """Return one block whose neurons fire independently, with rates that fall off like those of a ReLU model."""
    rng = np.random.default_rng(seed)
    rates = rng.permutation(np.arange(1, n_neurons + 1) ** -0.5)
    rates = np.minimum(0.9, rates * active_share * n_neurons / rates.sum())
    packed = np.empty((n_tokens, (n_neurons + 7) // 8), np.uint8)
    for token in range(n_tokens):
        packed[token] = np.packbits(rng.random(n_neurons, np.float32) < rates, bitorder="little")
    return ActivationTrace({"layers.0": BlockTrace(n_neurons, packed)}, n_tokens, np.array([0]))


def read_trace(path: Path, n_tokens: int) -> ActivationTrace:
    """Return the first tokens of a trace file without routed blocks."""
    file = TensorFile.open(path)
    blocks = {
        name: BlockTrace(n_neurons, np.array(file.stored_array(f"{name}.active")[:n_tokens]))
        for name, n_neurons in json.loads(file.metadata["blocks"]).items()
    }
    return ActivationTrace(blocks, next(iter(blocks.values())).n_rows, np.array([0]))


class OurCache:
    """Replays accesses through one of our caches alone."""

    def __init__(
        self, policy: str, chunks: dict[str, list[Accesses]], capacity: dict[str, int], layout: Layout
    ) -> None:
        self.policy, self.chunks, self.capacity, self.layout = policy, chunks, capacity, layout
        self.is_hit = np.empty(max(chunk.neurons.size for block in chunks.values() for chunk in block), np.uint8)

    def __call__(self) -> int:
        """Return the hits of all blocks."""
        n_hits = 0
        for name, chunks in self.chunks.items():
            cache = find_policy(self.policy)(self.capacity[name], self.layout.blocks[name].placement, READS)
            for chunk in chunks:
                is_hit = self.is_hit[: chunk.neurons.size]
                cache.replay(chunk, is_hit)
                n_hits += np.count_nonzero(is_hit)
        return n_hits


class TheirCache:
    """Replays the same accesses through libCacheSim, from one of its binary traces for each block."""

    record = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])

    def __init__(self, lcs: Any, policy: str, traces: dict[str, Path], capacity: dict[str, int]) -> None:
        self.make = getattr(lcs, THEIR_NAMES[policy])
        self.readers = {
            name: lcs.TraceReader(str(path), lcs.TraceType.ORACLE_GENERAL_TRACE) for name, path in traces.items()
        }
        self.sizes = {name: path.stat().st_size // self.record.itemsize for name, path in traces.items()}
        self.capacity = capacity

    def __call__(self) -> int:
        """Return the hits of all blocks."""
        n_hits = 0
        for name, reader in self.readers.items():
            reader.reset()
            miss_ratio, _ = self.make(self.capacity[name], hashpower=14).process_trace(reader)
            n_hits += round((1 - miss_ratio) * self.sizes[name])
        return n_hits

    @classmethod
    def write(cls, path: Path, chunks: list[Accesses]) -> Path:
        """Write accesses as libCacheSim's oracleGeneral trace, every object of size 1."""
        records = np.zeros(sum(chunk.neurons.size for chunk in chunks), cls.record)
        records["id"] = np.concatenate([chunk.neurons for chunk in chunks])
        records["size"], records["next"] = 1, -2
        records.tofile(path)
        return path


class Recorder(NoCache):
    """Keeps the accesses that it is asked for."""

    needs_future = True

    def __init__(self, capacity: int, placement: NeuronPlacement) -> None:
        super().__init__(capacity, placement)
        self.chunks: list[Accesses] = []

    def replay(self, accesses: Accesses, is_hit: np.ndarray) -> None:
        """Copy them."""
        is_hit[:] = 0
        self.chunks.append(Accesses(*(array.copy() for array in vars(accesses).values())))


def record(trace: ActivationTrace, layout: Layout) -> dict[str, list[Accesses]]:
    """Return the accesses of each block, as the simulator hands them to a cache."""
    recorded = {}
    for name, block in trace.blocks.items():
        recorder = Recorder(0, layout.blocks[name].placement)
        for _ in replay_block(block, layout.blocks[name].placement, recorder):
            pass
        recorded[name] = recorder.chunks
    return recorded


def measure(title: str, trace: ActivationTrace, policies: Sequence[str], n_repeats: int, lcs: Any) -> None:
    """Print accesses a second of each policy on one trace, neurons in a random order."""
    rng = np.random.default_rng(1)
    placements = {
        name: NeuronPlacement(
            rng.permutation(block.n_neurons),
            frequency=np.unpackbits(block.active, axis=1, count=block.n_neurons, bitorder="little").sum(
                axis=0, dtype=np.int64
            ),
        )
        for name, block in trace.blocks.items()
    }
    layout = Layout.from_placement("random", ModelPlacement(placements), BUNDLE_BYTES)
    device = load_device(DEFAULT_DEVICE)
    capacity = {name: int(CAPACITY_SHARE * block.n_neurons) for name, block in trace.blocks.items()}
    chunks = record(trace, layout)
    n_active = sum(chunk.neurons.size for block in chunks.values() for chunk in block)

    def simulated(params: SimulationParams) -> Callable[[], int]:
        return lambda: simulate(trace, layout, device, params).totals.n_hits

    with TemporaryDirectory() as folder:
        runs: dict[tuple[str, str], Callable[[], int]] = {}
        paths = {name: TheirCache.write(Path(folder) / name, block) for name, block in chunks.items()} if lcs else {}
        for policy in policies:
            runs[policy, "simulator"] = simulated(SimulationParams(policy, capacity))
            if policy not in ("none", "belady"):
                runs[policy, "with bound"] = simulated(SimulationParams(policy, capacity, with_bound=True))
            runs[policy, "cache alone"] = OurCache(policy, chunks, capacity, layout)
            if lcs and policy in THEIR_NAMES:
                runs[policy, "libCacheSim"] = TheirCache(lcs, policy, paths, capacity)
        seconds: dict[tuple[str, str], list[float]] = {run: [] for run in runs}
        n_hits = {}
        for repeat in range(n_repeats + 1):
            for run, function in runs.items():
                start = time.process_time()
                n_hits[run] = function()
                if repeat:  # the first turn compiles
                    seconds[run].append(time.process_time() - start)
    print(f"{title}: {trace.n_tokens} tokens, {len(trace.blocks)} blocks, {n_active / 1e6:.1f} M accesses")
    print("  M accesses/s  " + "".join(f"{column:>13s}" for column in COLUMNS) + "   hits   libCacheSim's")
    for policy in policies:
        speeds = [
            f"{n_active / statistics.median(seconds[policy, column]) / 1e6:13.1f}"
            if (policy, column) in runs
            else 13 * " "
            for column in COLUMNS
        ]
        equal = ""
        if (policy, "libCacheSim") in runs:
            equal = "equal" if n_hits[policy, "libCacheSim"] == n_hits[policy, "simulator"] else "DIFFERENT"
        print(f"  {policy:14s}" + "".join(speeds) + f"{n_hits[policy, 'simulator'] / n_active:8.1%}  {equal}")


def main() -> None:
    """Measure on the synthetic trace, and on real ones where there are any."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--neurons", type=int, default=4096)
    parser.add_argument("--active-share", type=float, default=0.05)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--policies", default=",".join(POLICIES))
    options = parser.parse_args()
    policies = options.policies.split(",")
    lcs = importlib.import_module("libcachesim") if importlib.util.find_spec("libcachesim") else None
    print(f"libcachesim {lcs.__version__}" if lcs else "libcachesim is not installed: its column is empty")
    synthetic = synthetic_trace(options.tokens, options.neurons, options.active_share)
    measure("synthetic", synthetic, policies, options.repeats, lcs)
    folder = os.environ.get("RIPPLE_PLACE_DATA")
    if folder is None:
        print("RIPPLE_PLACE_DATA is unset: no real traces measured")
        return
    for path in sorted(Path(folder).glob("traces/*.trace.safetensors")):
        measure(path.name, read_trace(path, options.tokens), policies, options.repeats, lcs)


if __name__ == "__main__":
    main()
