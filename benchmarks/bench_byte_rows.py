"""Measure the loops over rows of bytes: as LLVM vectors, and as plain loops that numba vectorises itself.

    python -m benchmarks.bench_byte_rows [--tokens 16384] [--rounds 50] [--repeats 15]

Three ways to write each of `pair_saving`, `insertion_saving` and `step_row` (`ripple_place.kernels.byte_rows`).
*Vectors* is what they are. *64-bit* is the loop that one writes first: numba adds bytes as 64-bit numbers. *Narrow* is
the best plain loop that was found: slices, whose indices are never negative, savings in bytes, and sums in 16 bits over
stretches too short to overflow. From one row to another, plain loops step as fast as vectors; in place they do not,
since the compiler must take two rows for rows that may overlap. All go through the same rows, which stay in L2. One
thread, processor time, medians of interleaved repeats. To reach: savings at twice the speed of the narrow loop.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from numba import njit

from ripple_place.kernels.byte_rows import N_LANES, insertion_saving, pair_saving, step_row

N_ROWS = 16
STRETCH = 256
"""Tokens whose savings fit 16 bits: 256 x 255 < 2**16."""
REACH = 23  # g = 20
CAP = 22
LENGTH = 4


@njit
def pair_wide(left, right, start, end, reach):
    """Return `pair_saving` as one writes it first."""
    total = 0
    for token in range(start, end):
        total += max(0, reach - left[token] - right[token])
    return total


@njit
def saved(left, right, reach):
    """Return what one token saves, all in bytes; sums saturate."""
    far = np.uint8(left + right)
    far = np.uint8(255) if far < left else far
    return np.uint8(max(reach, far) - far)


@njit
def pair_narrow(left, right, start, end, reach):
    """Return `pair_saving` with numbers that are cut back to 8 and 16 bits by hand."""
    total, reach_byte = np.int64(0), np.uint8(reach)
    for first in range(start, end, STRETCH):
        last = min(first + STRETCH, end)
        lefts, rights, part = left[first:last], right[first:last], np.uint16(0)
        for k in range(lefts.size):
            part = np.uint16(part + saved(lefts[k], rights[k], reach_byte))
        total += np.int64(part)
    return total


@njit
def insertion_wide(left, right, head, tail, is_active, start, end, reach, length):
    """Return `insertion_saving` as one writes it first."""
    total = 0
    for token in range(start, end):
        total += max(0, reach - left[token] - head[token]) + max(0, reach - right[token] - tail[token])
        total += max(0, reach - left[token] - right[token] - is_active[token] - length)
    return total


@njit
def insertion_narrow(left, right, head, tail, is_active, start, end, reach, length):
    """Return `insertion_saving` with numbers that are cut back to 8 and 16 bits by hand."""
    total, reach_byte, length_byte = np.int64(0), np.uint8(reach), np.uint8(length)
    for first in range(start, end, STRETCH // 4):
        last = min(first + STRETCH // 4, end)
        lefts, rights, part = left[first:last], right[first:last], np.uint16(0)
        heads, tails, actives = head[first:last], tail[first:last], is_active[first:last]
        for k in range(lefts.size):
            over = np.uint8(lefts[k] + rights[k])
            over = np.uint8(255) if over < lefts[k] else over
            beyond = np.uint8(actives[k] + length_byte)
            beyond = np.uint8(255) if beyond < length_byte else beyond
            part = np.uint16(part + saved(lefts[k], heads[k], reach_byte))
            part = np.uint16(part + saved(rights[k], tails[k], reach_byte))
            part = np.uint16(part + saved(over, beyond, reach_byte))
        total += np.int64(part)
    return total


@njit
def step_wide(source, cap, target):
    """Do what `step_row` does as one writes it first."""
    for token in range(source.size):
        target[token] = min(source[token] + 1, cap)


@njit
def step_narrow(source, cap, target):
    """Do what `step_row` does with numbers that are cut back to 8 bits by hand."""
    cap_byte = np.uint8(cap)
    for token in range(source.size):
        target[token] = min(np.uint8(source[token] + 1), cap_byte)


@njit
def pair_vectors(left, right, start, end, reach):
    return pair_saving(left, right, start, end, reach)


@njit
def insertion_vectors(left, right, head, tail, is_active, start, end, reach, length):
    return insertion_saving(left, right, head, tail, is_active, start, end, reach, length)


@njit
def step_vectors(source, cap, target):
    step_row(source, cap, target)


def round_of_pairs(function):
    """Return a compiled round of calls on neighbouring rows."""

    @njit
    def go(rows, n_rounds):
        total = 0
        for _ in range(n_rounds):
            for i in range(N_ROWS - 1):
                total += function(rows[i], rows[i + 1], 0, rows.shape[1], REACH)
        return total

    return go


def round_of_insertions(function):
    """Return the same of five rows."""

    @njit
    def go(rows, n_rounds):
        total = 0
        for _ in range(n_rounds):
            for i in range(1, N_ROWS - 3):
                total += function(
                    rows[i], rows[i + 1], rows[i + 2], rows[i + 3], rows[0], 0, rows.shape[1], REACH, LENGTH
                )
        return total

    return go


def round_of_steps(function):
    """Return the same of one row stepped to another."""

    @njit
    def go(rows, n_rounds):
        target, total = np.empty_like(rows[0]), 0
        for _ in range(n_rounds):
            for i in range(1, N_ROWS):
                function(rows[i], CAP, target)
                total += target[i]
        return total

    return go


def round_of_steps_in_place(function):
    """Return the same of one row stepped again and again."""

    @njit
    def go(rows, n_rounds):
        row, total = rows[1].copy(), 0
        for _ in range(n_rounds):
            for i in range(1, N_ROWS):
                row[i] = 1
                function(row, CAP, row)
                total += row[i]
        return total

    return go


KERNELS = {
    "pair_saving": (round_of_pairs, N_ROWS - 1, 2, (pair_vectors, pair_narrow, pair_wide)),
    "insertion_saving": (round_of_insertions, N_ROWS - 4, 5, (insertion_vectors, insertion_narrow, insertion_wide)),
    "step_row": (round_of_steps, N_ROWS - 1, 1, (step_vectors, step_narrow, step_wide)),
    "step_row in place": (round_of_steps_in_place, N_ROWS - 1, 1, (step_vectors, step_narrow, step_wide)),
}


def medians(functions, rows, options) -> list[float]:
    """Return the median seconds of each function's rounds, in turns, after one turn that compiles."""
    assert len({function(rows, 1) for function in functions}) == 1, "all ways must agree"
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(options.repeats):
        for function, times in zip(functions, seconds, strict=True):
            start = time.process_time()
            function(rows, options.rounds)
            times.append(time.process_time() - start)
    return [statistics.median(times) for times in seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=16384, help="of a row; rounded up to whole vectors")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    n_tokens = -(-options.tokens // N_LANES) * N_LANES
    rng = np.random.default_rng(0)
    rows = rng.integers(1, CAP, (N_ROWS, n_tokens), endpoint=True).astype(np.uint8)
    rows[0] = rng.choice([0, 255], n_tokens)

    print(f"rows of {n_tokens} tokens: ns for 64 tokens (GB of rows read a second)")
    print(f"{'':18s}{'vectors':>16s}{'narrow':>16s}{'64-bit':>16s}   vectors over narrow")
    for name, (round_of, n_calls, n_read, functions) in KERNELS.items():
        seconds = medians([round_of(function) for function in functions], rows, options)
        ns = [1e9 * each / (options.rounds * n_calls * n_tokens / N_LANES) for each in seconds]
        cells = "".join(f"{each:8.2f} ({n_read * N_LANES / each:5.1f})" for each in ns)
        print(f"{name:18s}{cells}   {ns[1] / ns[0]:.1f}x")


if __name__ == "__main__":
    main()
