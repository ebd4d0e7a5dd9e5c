"""Compare greedy path, path search and Held-Karp bound on real training traces: reads per token, gap to bound, seconds.

    RIPPLE_PLACE_DATA=... python -m benchmarks.bench_path
    RIPPLE_PLACE_DATA=... python -m benchmarks.bench_path --effort 100 --seconds 30

To reach: a gap to the bound of at most 4 % on opt-relu's block 1. Seconds are processor time of one thread. Where
fast-tsp is installed (MIT, `pip install fast-tsp`; for development only), it searches the same tours for `--seconds`.
"""

from __future__ import annotations

import argparse
import time

import numba
import numpy as np

from benchmarks.timing import data_folder
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.objective import reads_per_token
from ripple_place.ordering.path_bound import PairTable, path_bound
from ripple_place.ordering.path_search import PathParams, path_order
from ripple_place.trace.sources import read_source

try:
    import fast_tsp
except ImportError:
    fast_tsp = None


def solve_by_fast_tsp(bits: NeuronBits, seconds: float) -> np.ndarray:
    """Return the order that fast-tsp finds for the Hamming metric, with a node that never fires."""
    n_neurons = bits.n_neurons
    counts = np.triu(bits.dense_counts()[:n_neurons, :n_neurons], 1)
    frequency = np.append(bits.frequency(), 0)
    distance = np.add.outer(frequency, frequency)
    distance[:n_neurons, :n_neurons] -= 2 * (counts + counts.T)
    np.fill_diagonal(distance, 0)
    tour = np.array(fast_tsp.find_tour(distance.astype(np.int32), duration_seconds=seconds), np.int32)
    cut = int(np.flatnonzero(tour == n_neurons)[0])
    return np.concatenate([tour[cut + 1 :], tour[:cut]])


def compare(model: str, name: str, block, effort: int, seconds: float) -> None:
    bits = NeuronBits.of_block(block)
    marks = [time.process_time()]
    greedy = greedy_path(bits)
    marks.append(time.process_time())
    greedy_reads = reads_per_token(bits, greedy)
    table = PairTable.of_bits(bits)
    bound = path_bound(table, round(bits.frequency().sum() - greedy_reads * bits.n_rows))
    marks.append(time.process_time())
    result = path_order(bits, {"greedy": greedy}, PathParams(effort), np.random.default_rng(0))
    marks.append(time.process_time())
    first, second, third = np.diff(marks)
    print(
        f"{model} {name}: greedy {greedy_reads:.3f} ({greedy_reads / bound.reads - 1:.2%} over the bound, "
        f"{first:.1f} s), path {result.reads:.3f} ({result.gap_to_bound:.3%}, {third:.1f} s with its bound), "
        f"bound {bound.reads:.3f} ({second:.1f} s, last tenth {bound.last_tenth_gain:.4%}"
        f"{'' if bound.is_converged else ', not converged'})",
        end="" if fast_tsp else "\n",
        flush=True,
    )
    if fast_tsp:
        reads = reads_per_token(bits, solve_by_fast_tsp(bits, seconds))
        print(f", fast-tsp {reads:.3f} ({reads / bound.reads - 1:.2%}, {seconds:.0f} s)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--effort", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--model", help="only traces whose names begin so")
    options = parser.parse_args()
    numba.set_num_threads(1)
    if fast_tsp is None:
        print("fast-tsp is not installed: not compared")
    folder = data_folder()
    if folder is None:
        return
    for path in sorted(folder.glob(f"traces/{options.model or ''}*train.trace.safetensors")):
        blocks = read_source(path).blocks
        # The first turn compiles.
        path_order(
            NeuronBits.of_block(next(iter(blocks.values()))),
            {"original": np.arange(next(iter(blocks.values())).n_neurons, dtype=np.int32)},
            PathParams(0, n_steps=1),
            np.random.default_rng(0),
        )
        for name, block in blocks.items():
            compare(path.name.partition(".")[0], name, block, options.effort, options.seconds)


if __name__ == "__main__":
    main()
