"""Time each stage of placing a whole model: drawing, transposing, counting, greedy path, search; extrapolated to all.

    python -m benchmarks.bench_whole_model [--blocks 4 | --all] [--tokens 32768] [--threads 2] [--workload NAME]
        [--break-even-gap 5] [--effort 0]

The shapes are those of OPT-6.7B (32 blocks of 16,384 neurons, 3.2 % active) and Llama-2-7B (32 of 11,008, 24 %), drawn
by the synthetic workloads of these names. To reach, for OPT-6.7B on two cores: transposing, counting and greedy path
within 98 s (Ripple publishes 98 to 106 s on a server), with the flash-time search within 300 s and at least 80 % of the
gain that ten times its time finds, and 6 GB of memory. Effort 0 is the first descent alone. Drawing stands apart: it
takes the place of recording a trace. Prints wall clock and processor time, the latter over the threads used: on a busy
machine the second is the fairer one (`OMP_WAIT_POLICY=passive` keeps idle threads from counting as busy).

Beside each total stand the reads per token that the order leaves. On the first block, also those of a path through the
neighbour graph alone, whose fragments are joined by lowest ids: what a graph of few companions misses.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from ripple_place.flash.read_cost import ReadCost
from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.ordering.flash_time import FlashTimeParams, flash_time_order
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.objective import reads_per_token
from ripple_place.trace.activation_trace import BlockTrace
from ripple_place.trace.split_block import SplitBlock
from ripple_place.trace.synthetic import SyntheticSource, draw_trace

if TYPE_CHECKING:
    from collections.abc import Callable

N_BLOCKS = 32
"""Of both models."""
N_NEIGHBORS = 64
WORKLOADS = ("opt-6.7b", "llama-2-7b")


@dataclass
class Work:
    """What the stages hand on from one to the next."""

    block: BlockTrace
    params: FlashTimeParams
    done: dict[str, Any] = field(default_factory=dict)


STAGES: dict[str, Callable[[Work], Any]] = {
    "transposing": lambda work: NeuronBits.of_block(work.block),
    "counting": lambda work: neighbor_graph(work.done["transposing"], N_NEIGHBORS),
    "greedy path": lambda work: greedy_path(work.done["transposing"]),
    "flash-time": lambda work: flash_time_order(
        SplitBlock.unsplit(work.block), {"greedy": work.done["greedy path"]}, work.params, np.random.default_rng(0)
    ),
}
"""In this order; each sees the results of those before it. Another search is another entry."""


def run_stages(
    block: BlockTrace, params: FlashTimeParams, n_threads: int
) -> tuple[Work, dict[str, tuple[float, float]]]:
    """Return the results of all stages, and the seconds of each: wall clock, processor time over threads."""
    work, seconds = Work(block, params), {}
    for name, stage in STAGES.items():
        wall, processor = time.perf_counter(), time.process_time()
        work.done[name] = stage(work)
        seconds[name] = time.perf_counter() - wall, (time.process_time() - processor) / n_threads
    return work, seconds


def measure(workload: str, n_tokens: int, n_blocks: int, params: FlashTimeParams, n_threads: int) -> None:
    """Time the stages on some blocks of a workload and print what all blocks would take."""
    started = time.perf_counter()
    trace = draw_trace(SyntheticSource(workload, tokens=n_tokens, blocks=n_blocks))
    drawing = time.perf_counter() - started
    warming = np.random.default_rng(0).integers(0, 2**8, (512, 128), np.uint8)
    run_stages(BlockTrace(1024, warming), params, n_threads)
    runs, reads, gains = [], [], []
    sparse_reads = float("nan")
    for index, block in enumerate(trace.blocks.values()):
        work, seconds = run_stages(block, params, n_threads)
        runs.append([seconds[name] for name in STAGES])
        bits, graph = work.done["transposing"], work.done["counting"]
        reads.append(reads_per_token(bits, work.done["greedy path"]))
        cost = work.done["flash-time"].cost
        gains.append(1 - cost["flash-time"] / cost["greedy"])
        if index == 0:
            sparse_reads = reads_per_token(bits, greedy_path(None, graph)) / reads[0] - 1
    n_neurons = next(iter(trace.blocks.values())).n_neurons
    print(f"{workload}: {n_neurons} neurons, {n_tokens} tokens, {n_blocks} blocks, {n_threads} threads")
    print(f"  {'seconds a block, median':26s} {'wall':>7s} {'processor':>10s}")
    medians = np.median(np.array(runs), axis=0)
    for name, (wall, processor) in zip(STAGES, medians, strict=True):
        print(f"  {name:26s} {wall:7.2f} {processor:10.2f}")
    for what, last in (("without the search", -1), ("with it", None)):
        wall, processor = np.array(runs)[:, :last].sum(axis=(0, 1)) * N_BLOCKS / n_blocks
        print(f"  {f'all {N_BLOCKS} blocks, {what}':34s} {wall:7.1f} {processor:10.1f}")
    print(
        f"  flash-time at lambda {params.cost.break_even_gap:g}, effort {params.effort}: "
        f"{np.mean(gains):.2%} below greedy; it runs on one thread, blocks side by side"
    )
    print(f"  drawing {drawing / n_blocks:.2f} s a block, not in the total")
    print(f"  reads per token {np.mean(reads):.2f}; through the neighbour graph alone {sparse_reads:+.2%}")
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB so far")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--all", action="store_true", help=f"all {N_BLOCKS} blocks")
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workload", choices=WORKLOADS, action="append")
    parser.add_argument("--break-even-gap", type=float, default=5.0)
    parser.add_argument("--effort", type=int, default=0)
    options = parser.parse_args()
    params = FlashTimeParams(ReadCost.by_line(options.break_even_gap), options.effort)
    n_threads = min(options.threads, numba.config.NUMBA_NUM_THREADS)
    numba.set_num_threads(n_threads)
    for workload in options.workload or WORKLOADS:
        measure(workload, options.tokens, N_BLOCKS if options.all else options.blocks, params, n_threads)


if __name__ == "__main__":
    main()
