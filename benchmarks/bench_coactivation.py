"""Measure co-activation counting against BLAS and against the machine's popcount rate.

    python benchmarks/bench_coactivation.py [--neurons 4096] [--tokens 16384] [--repeats 5]

Prints the seconds of: transposing the bits; counting all pairs; the same with the neighbour graph; float32
``M.T @ M`` (which numpy gives to BLAS's symmetric product) on a dense matrix made beforehand. And words of AND and
popcount a second, beside the rate of the innermost loop over tiles that stay in L1. To reach, with AVX-512
VPOPCNTQ: ten times BLAS, and a quarter of that peak.
"""

from __future__ import annotations

import argparse

import numpy as np
from numba import get_num_threads, njit, prange

from benchmarks.timing import interleaved_seconds
from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.kernels.pair_tile import add_pair_counts
from ripple_place.trace.activation_trace import BlockTrace

N_PEAK_ROUNDS, N_PEAK_TILES = 600, 16


@njit(parallel=True)
def peak(bits, counts):
    """Run the innermost loop over tiles that stay in L1, on all threads."""
    for tile in prange(N_PEAK_TILES):
        for _ in range(N_PEAK_ROUNDS):
            for i in range(0, 16, 4):
                for j in range(0, 16, 4):
                    add_pair_counts(bits, i, j, 0, 256, counts[tile], i, j)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--neurons", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--active-share", type=float, default=0.05)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    active = rng.random((options.tokens, options.neurons), dtype=np.float32) < options.active_share
    dense = active.astype(np.float32)
    block = BlockTrace(options.neurons, np.packbits(active, axis=1, bitorder="little"))
    bits = NeuronBits.of_block(block)
    assert (np.triu(dense.T @ dense) == np.triu(bits.dense_counts()[: options.neurons, : options.neurons])).all()
    n_threads = get_num_threads()
    few = rng.integers(0, 2**63, (16, 256)).astype(np.uint64)
    sums = np.zeros((N_PEAK_TILES, 64, 64), np.int32)
    seconds = interleaved_seconds(
        {
            "transposing": lambda: NeuronBits.of_block(block),
            "counting": bits.dense_counts,
            "counting, top-64 graph": lambda: neighbor_graph(bits, 64),
            "BLAS float32": lambda: dense.T @ dense,
            "peak": lambda: peak(few, sums),
        },
        options.repeats,
    )
    words = bits.words.shape[0] * (bits.words.shape[0] + 64) / 2 * bits.words.shape[1]
    rate = words / seconds["counting"] / 1e9
    peak_rate = N_PEAK_TILES * N_PEAK_ROUNDS * 16 * 16 * 256 / seconds.pop("peak") / 1e9
    print(f"{options.neurons} neurons, {options.tokens} tokens, {n_threads} threads")
    for name, value in seconds.items():
        print(f"  {name:24s} {value:8.3f} s   {seconds['BLAS float32'] / value:6.1f} x BLAS")
    print(f"  {rate:.1f} G words/s, {rate / peak_rate:.0%} of the peak of {peak_rate:.1f}")


if __name__ == "__main__":
    main()
