"""Measure the innermost loop of counting as LLVM vectors, and as plain loops that numba vectorises itself.

    NUMBA_NUM_THREADS=1 python -m benchmarks.bench_pair_tile [--rounds 20] [--repeats 15]

Co-activations of all pairs of 64 neurons over 512 words: a tile of `ripple_place.kernels.coactivation`, which stays in
L2. *Vectors* is `ripple_place.kernels.pair_tile`; *plain* is the same 4 x 4 pairs in plain loops, with the popcount of
`ripple_place.kernels.bits`; *masks* has a popcount of shifts and masks instead. Each in a serial loop and in a parallel
one. One thread, processor time, medians of interleaved repeats, in G words of AND and popcount a second. To reach:
vectors at 1.5 times the rate of plain loops in the parallel loop, which is the one that counts.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numba
import numpy as np
from numba import njit, prange

from ripple_place.kernels.bits import popcount
from ripple_place.kernels.coactivation import ROW_MULTIPLE, WORD_TILE
from ripple_place.kernels.pair_tile import N_ROWS, add_pair_counts


@njit
def by_masks(word):
    """Return the set bits of a word (H. S. Warren, Hacker's Delight, 2nd ed., figure 5-2)."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit
def add_in_vectors(bits, i, j, word_start, word_end, counts, p, q):
    add_pair_counts(bits, i, j, word_start, word_end, counts, p, q)


@njit
def add_plainly(bits, i, j, word_start, word_end, counts, p, q):
    for a in range(N_ROWS):
        for b in range(N_ROWS):
            count = 0
            for w in range(word_start, word_end):
                count += popcount(bits[i + a, w] & bits[j + b, w])
            counts[p + a, q + b] += count


@njit
def add_by_masks(bits, i, j, word_start, word_end, counts, p, q):
    for a in range(N_ROWS):
        for b in range(N_ROWS):
            count = 0
            for w in range(word_start, word_end):
                count += by_masks(bits[i + a, w] & bits[j + b, w])
            counts[p + a, q + b] += count


def round_of(add, *, parallel: bool):
    """Return what counts the pairs of the tile some times, a stripe of columns to a thread."""

    @njit(parallel=parallel)
    def go(bits, n_rounds, counts):
        for stripe in prange(ROW_MULTIPLE // N_ROWS):
            j = N_ROWS * stripe
            for _ in range(n_rounds):
                for i in range(0, ROW_MULTIPLE, N_ROWS):
                    add(bits, i, j, 0, bits.shape[1], counts, i, j)

    return go


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    numba.set_num_threads(1)
    bits = np.random.default_rng(0).integers(0, 2**63, (ROW_MULTIPLE, WORD_TILE)).astype(np.uint64)
    expected = np.bitwise_count(bits[:, None] & bits).sum(axis=2, dtype=np.int64)
    print(f"{'G words/s':12s}{'vectors':>9s}{'plain':>9s}{'masks':>9s}   vectors over plain")
    for parallel in (False, True):
        goes = [round_of(add, parallel=parallel) for add in (add_in_vectors, add_plainly, add_by_masks)]
        for go in goes:
            counts = np.zeros((ROW_MULTIPLE, ROW_MULTIPLE), np.int32)
            go(bits, 1, counts)
            assert (counts == expected).all(), "all ways must agree"
        seconds: list[list[float]] = [[] for _ in goes]
        for _ in range(options.repeats):
            for go, times in zip(goes, seconds, strict=True):
                start = time.process_time()
                go(bits, options.rounds, np.zeros((ROW_MULTIPLE, ROW_MULTIPLE), np.int32))
                times.append(time.process_time() - start)
        n_words = options.rounds * ROW_MULTIPLE**2 * WORD_TILE
        rates = [n_words / statistics.median(times) / 1e9 for times in seconds]
        print(
            f"{'parallel' if parallel else 'serial':12s}{''.join(f'{rate:9.1f}' for rate in rates)}"
            f"   {rates[0] / rates[1]:.1f}x"
        )


if __name__ == "__main__":
    main()
