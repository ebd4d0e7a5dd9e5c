"""Measure the simulator: neuron accesses a second on one core, by cache policy.

Policies take turns within each repeat, so that a slow moment of the machine hits all of them; the median counts. The
first trace is synthetic and seeded; where the environment variable RIPPLE_PLACE_DATA names a folder with
``traces/*.trace.safetensors``, those follow. To reach: 20 M accesses a second with LRU.

Run: ``python benchmarks/bench_simulator.py [--tokens 4096] [--repeats 5]``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

from ripple_place.flash.device_files import DEFAULT_DEVICE, load_device
from ripple_place.flash.layout import Layout
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.tensorfile import TensorFile
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace

POLICIES = ("none", "lru", "s3fifo", "pinned")
CAPACITY_SHARE = 0.1  # of each block in DRAM
BUNDLE_BYTES = 4096


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
        name: BlockTrace(n_neurons, np.array(file.memory_map(f"{name}.active")[:n_tokens]))
        for name, n_neurons in json.loads(file.metadata["blocks"]).items()
    }
    return ActivationTrace(blocks, next(iter(blocks.values())).n_rows, np.array([0]))


def measure(title: str, trace: ActivationTrace, n_repeats: int) -> None:
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
    seconds: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    n_active = 0
    for repeat in range(n_repeats + 1):
        for policy in POLICIES:
            params = SimulationParams(cache=policy, capacity_neurons=capacity)
            start = time.perf_counter()
            n_active = simulate(trace, layout, device, params).totals.n_active
            if repeat:  # the first turn compiles
                seconds[policy].append(time.perf_counter() - start)
    print(f"{title}: {trace.n_tokens} tokens, {len(trace.blocks)} blocks, {n_active / 1e6:.1f} M accesses")
    for policy in POLICIES:
        print(f"  {policy:8s} {n_active / statistics.median(seconds[policy]) / 1e6:7.1f} M accesses/s")


def main() -> None:
    """Measure on the synthetic trace, and on real ones where there are any."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--neurons", type=int, default=4096)
    parser.add_argument("--active-share", type=float, default=0.05)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    measure("synthetic", synthetic_trace(options.tokens, options.neurons, options.active_share), options.repeats)
    folder = os.environ.get("RIPPLE_PLACE_DATA")
    if folder is None:
        print("RIPPLE_PLACE_DATA is unset: no real traces measured")
        return
    for path in sorted(Path(folder).glob("traces/*.trace.safetensors")):
        measure(path.name, read_trace(path, options.tokens), options.repeats)


if __name__ == "__main__":
    main()
