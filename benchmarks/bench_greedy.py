"""Compare the greedy path over all pairs with the one through the neighbour graph alone: reads, and seconds.

    RIPPLE_PLACE_DATA=... python -m benchmarks.bench_greedy

On real traces (where RIPPLE_PLACE_DATA names them). The graph, of 64 companions of each neuron, is what a profile of
imported counts has instead of activations; fragments that it leaves are joined by lowest ids. For whole models see
bench_whole_model.py.
"""

from __future__ import annotations

import time

from benchmarks.timing import data_folder
from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.objective import reads_per_token
from ripple_place.trace.sources import read_source


def compare(path) -> None:
    for name, block in read_source(path).blocks.items():
        bits = NeuronBits.of_block(block)
        graph = neighbor_graph(bits, 64)
        reads, seconds = [], []
        for known in (bits, None):
            start = time.perf_counter()
            order = greedy_path(known, graph)
            seconds.append(time.perf_counter() - start)
            reads.append(reads_per_token(bits, order))
        print(
            f"{path.name} {name}: all pairs {reads[0]:.2f} reads/token in {seconds[0]:.2f} s, "
            f"graph alone {reads[1]:.2f} in {seconds[1]:.2f} s, {reads[1] / reads[0] - 1:+.3%}"
        )


def main() -> None:
    if folder := data_folder():
        for path in sorted(folder.glob("traces/*train.trace.safetensors")):
            compare(path)


if __name__ == "__main__":
    main()
