"""Compare the greedy path from the sparse graph with the one over all pairs: reads, and seconds.

    RIPPLE_PLACE_DATA=... python benchmarks/bench_greedy.py
    python benchmarks/bench_greedy.py --neurons 16384 --tokens 32768 --blocks 2

On real traces (where RIPPLE_PLACE_DATA names them), the sparse path is forced by a dense limit of 512 neurons; to
reach: total reads within 0.5 % of the dense result. With ``--neurons``, times counting and greedy path on synthetic
blocks of that shape instead (OPT-6.7B: 32 blocks of 16,384 neurons; Ripple publishes 98 to 106 s for them), and reports
peak memory.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from benchmarks.bench_simulator import synthetic_trace
from benchmarks.timing import data_folder
from ripple_place.graph.coactivation import NeuronBits, neighbor_graph
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.objective import reads_per_token
from ripple_place.trace.sources import read_source

OPT_67B_BLOCKS = 32


def compare(path) -> None:
    for name, block in read_source(path).blocks.items():
        bits = NeuronBits.of_block(block)
        graph = neighbor_graph(bits, 64)
        reads, seconds = [], []
        for limit in (bits.n_neurons, 512):
            start = time.perf_counter()
            order = greedy_path(bits, graph, dense_limit_neurons=limit)
            seconds.append(time.perf_counter() - start)
            reads.append(reads_per_token(bits, order))
        print(
            f"{path.name} {name}: dense {reads[0]:.2f} reads/token in {seconds[0]:.2f} s, "
            f"sparse {reads[1]:.2f} in {seconds[1]:.2f} s, {reads[1] / reads[0] - 1:+.3%}"
        )


def time_shape(n_neurons: int, n_tokens: int, n_blocks: int) -> None:
    totals = np.zeros(3)
    for index in range(n_blocks + 1):
        block = synthetic_trace(n_tokens, n_neurons, 0.032, seed=index).blocks["layers.0"]
        marks = [time.perf_counter()]
        bits = NeuronBits.of_block(block)
        marks.append(time.perf_counter())
        graph = neighbor_graph(bits, 64)
        marks.append(time.perf_counter())
        greedy_path(bits, graph)
        marks.append(time.perf_counter())
        if index:  # the first turn compiles
            totals += np.diff(marks)
    transposing, counting, linking = totals / n_blocks
    print(f"{n_neurons} neurons, {n_tokens} tokens: mean of {n_blocks} blocks")
    print(f"  transposing {transposing:.2f} s, counting and graph {counting:.2f} s, greedy path {linking:.2f} s")
    print(f"  {OPT_67B_BLOCKS} such blocks: {OPT_67B_BLOCKS * totals.sum() / n_blocks:.0f} s")
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--neurons", type=int)
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--blocks", type=int, default=2)
    options = parser.parse_args()
    if options.neurons is not None:
        time_shape(options.neurons, options.tokens, options.blocks)
    elif folder := data_folder():
        for path in sorted(folder.glob("traces/*train.trace.safetensors")):
            compare(path)


if __name__ == "__main__":
    main()
