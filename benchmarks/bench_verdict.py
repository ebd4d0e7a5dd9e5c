"""Time the verdict of ``profile``, and check its words against more text.

    RIPPLE_PLACE_DATA=... python -m benchmarks.bench_verdict

*Cost*: processor seconds of the verdict on the blocks of real traces (where RIPPLE_PLACE_DATA names them), and on one
block of 16,384 synthetic neurons, of which a large model has four judged.

*Promise*: what the verdict on half of the training text says greedy order saves, against what the greedy order of all
of that text saves on the test text.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.timing import data_folder
from ripple_place.flash.read_cost import ReadCost
from ripple_place.graph.counting import count_trace
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.ordering.flash_cost import FlashCost
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.trace.sources import read_source
from ripple_place.tracking import no_track
from ripple_place.verdict.judge import VerdictParams, judge

if TYPE_CHECKING:
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.verdict.verdict import Verdict


def timed_verdict(name: str, trace: ActivationTrace) -> Verdict:
    _, statistics = count_trace(trace, 64)
    start, process_start = time.perf_counter(), time.process_time()
    verdict = judge(trace, statistics, VerdictParams(), no_track)
    process_s, wall_s = time.process_time() - process_start, time.perf_counter() - start
    sizes = ", ".join(f"{block.n_neurons:,} x {block.n_rows:,}" for block in trace.blocks.values())
    print(f"{name} ({sizes}): {process_s:.1f} s of processor time, {wall_s:.1f} s")
    return verdict


def compare_with_test(verdict: Verdict, train: ActivationTrace, test: ActivationTrace) -> None:
    for name, block in verdict.blocks.items():
        cost = FlashCost(test.blocks[name], ReadCost.by_line(verdict.read_cost.break_even_gap))
        order = greedy_path(NeuronBits.of_block(train.blocks[name]))
        saved = 1 - cost(order) / cost(np.arange(order.size, dtype=np.int32))
        print(f"  {name}: promised {block.score.gain('greedy'):.1%}, on the test text {saved:.1%}")


def main() -> None:
    wide = read_source(Path("synthetic:opt-6.7b,tokens=8192"))
    timed_verdict("warming up", wide.select(list(wide.blocks)[:1]))
    timed_verdict("synthetic:opt-6.7b", wide.select(list(wide.blocks)[:1]))
    if folder := data_folder():
        for path in sorted(folder.glob("traces/*train.trace.safetensors")):
            train = read_source(path)
            verdict = timed_verdict(path.name, train)
            compare_with_test(verdict, train, read_source(path.with_name(path.name.replace("train", "test"))))


if __name__ == "__main__":
    main()
