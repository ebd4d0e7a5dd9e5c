"""What a second copy of every block in a second order is worth, on text that nothing was made from.

First order: ``flash-time`` on the training trace. Second order: made for what the first leaves fragmented there
(`ripple_place.ordering.second_copy`). Both are judged on the test trace: lambda x reads + neurons read per token and
reads per token, from one copy, and with each token's reads planned over both. Without DRAM, and with --share of a
block's neurons in an S3-FIFO cache (then both orders are made for its misses). Also the planner's processor time.

To reach: the prototype's further 3 to 4 % (design.md, section 2), for twice the flash.

Needs the environment variable RIPPLE_PLACE_DATA, a folder with ``traces/opt-relu.wikitext2-train.trace.safetensors``
and ``-test``; says so and measures nothing where it is unset. At full effort, some minutes a line.

Run: ``python -m benchmarks.bench_copies [--model opt-relu] [--blocks 1,2,3] [--lambdas 5,20] [--share 0.1]
[--effort 10]``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np

from benchmarks.timing import data_folder
from ripple_place.flash.read_cost import ReadCost
from ripple_place.ordering.activity import Activity
from ripple_place.ordering.flash_time import FlashTimeParams
from ripple_place.ordering.registry import ORDERINGS
from ripple_place.ordering.second_copy import divide, second_order
from ripple_place.placing.cached_block import CachedBlock
from ripple_place.placing.dram.misses import order_behind_cache
from ripple_place.placing.orderer import BlockOrderer
from ripple_place.placing.search_clock import SearchClock
from ripple_place.trace.files import read_trace
from ripple_place.trace.split_block import SplitBlock


def measure(model: str, block: int, break_even_gap: float, share: float, effort: int) -> str:
    """Return a line of the table."""
    folder = data_folder()
    assert folder is not None
    name = f"layers.{block}"
    learned, judged = (
        read_trace(folder / "traces" / f"{model}.wikitext2-{part}.trace.safetensors").blocks[name]
        for part in ("train", "test")
    )
    capacity = int(share * learned.n_neurons)
    cost_of_reads = ReadCost.by_line(break_even_gap)
    training = CachedBlock.of_rows(name, SplitBlock.unsplit(learned), cost_of_reads)
    training = training.with_cache("s3fifo" if capacity else "none", capacity)
    orderer, flash_time = BlockOrderer(cost_of_reads, effort, (0, block), SearchClock(1)), ORDERINGS["flash-time"]
    activity = Activity.of_rows(training.rows)
    starts = orderer.plain(activity)
    orders = {**starts, "flash-time": orderer.make(flash_time, activity.with_starts(starts)).order}
    order = orders["flash-time"]
    if capacity:
        order = order_behind_cache(training, orders, orderer.misses_by(flash_time))[0].order
    misses = training.serve(order, with_trace=True).misses.trace
    started = time.process_time()
    order_2 = second_order(misses, order, FlashTimeParams(cost_of_reads, effort), np.random.default_rng(0))
    order_seconds = time.process_time() - started
    test = replace(training, rows=SplitBlock.unsplit(judged))
    one = test.serve(order, with_trace=True)
    started = time.process_time()
    two = divide(one.misses.trace, order, order_2, cost_of_reads)
    seconds = time.process_time() - started
    n_missed = int(np.bitwise_count(one.misses.trace.active).sum(dtype=np.int64))
    cost, reads = one.searched, float(one.misses.row_reads.mean())
    return (
        f"{block:5d} {break_even_gap:6g} {share:5.0%}  {cost:8.2f} {two.cost:8.2f}  {two.cost / cost:5.3f}  "
        f"{reads:6.1f} {two.reads:6.1f}  {two.reads / reads:5.3f}  {order_seconds:7.1f} {1e6 * seconds / n_missed:6.2f}"
    )


def main() -> None:
    """Print a line for each block, lambda and share in DRAM."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="opt-relu")
    parser.add_argument("--blocks", default="1,2,3")
    parser.add_argument("--lambdas", default="5,20")
    parser.add_argument("--share", type=float, default=0.0, help="of each block's neurons in DRAM")
    parser.add_argument("--effort", type=int, default=10)
    options = parser.parse_args()
    if data_folder() is None:
        return
    divide_small()
    print("block lambda  DRAM   cost: one     two  ratio  reads: one  two  ratio  order s  us/neuron")
    for block in map(int, options.blocks.split(",")):
        for break_even_gap in map(float, options.lambdas.split(",")):
            print(measure(options.model, block, break_even_gap, options.share, options.effort), flush=True)


def divide_small() -> None:
    """Compile the planner, which is not to be timed."""
    from ripple_place.trace.activation_trace import BlockTrace

    order = np.arange(8, dtype=np.int32)
    divide(BlockTrace(8, np.full((1, 1), 0b101, np.uint8)), order, order, ReadCost.by_line(1.0))


if __name__ == "__main__":
    main()
