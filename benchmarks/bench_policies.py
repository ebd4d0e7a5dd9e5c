"""Judge the DRAM cache policies: hits and cost per token of each, by model, block, lambda and capacity.

Order (Ripple's greedy search) and firing counts are learned on the training trace, policies are judged on the test
trace; ``--validate`` learns on the first three quarters of the training trace and judges on the rest, for whoever
tunes a policy. Cost is lambda x reads + neurons read, in units of one neuron. Belady's replacement, which knows the
future, is the yardstick: nobody has more hits. The last table has geometric means of the costs over models, blocks and
lambdas, relative to S3-FIFO's.

Needs the environment variable RIPPLE_PLACE_DATA, a folder with ``traces/MODEL.wikitext2-train.trace.safetensors`` and
``-test``; says so and measures nothing where it is unset.

Run: ``python -m benchmarks.bench_policies [--lambdas 1,2,5,20] [--shares 0.05,0.1,0.2] [--policies s3fifo,greedydual]
[--validate]``.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.caches.registry import find_policy
from ripple_place.flash.read_cost import ReadCost
from ripple_place.flash.replay import replay_block
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.kernels.read_state import RowReads
from ripple_place.kernels.reads import plan_rows
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.placement import NeuronPlacement
from ripple_place.trace.activation_trace import BlockTrace
from ripple_place.trace.files import read_trace

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS = ("opt-relu", "llama-reglu")
BLOCKS = (1, 2, 3)
POLICIES = ("lru", "s3fifo", "greedydual", "belady")
YARDSTICK = "s3fifo"
LEARNED_SHARE = 3 / 4  # of the training trace, with --validate


@dataclass(frozen=True)
class Case:
    """A block that was placed on some tokens and is judged on others."""

    model: str
    block: int
    placement: NeuronPlacement
    judged: BlockTrace


def cases(folder: Path, *, validate: bool) -> Iterator[Case]:
    """Yield the blocks of all models."""
    for model in MODELS:
        learned, judged = (
            read_trace(folder / "traces" / f"{model}.wikitext2-{part}.trace.safetensors")
            for part in ("train", "train" if validate else "test")
        )
        first = int(LEARNED_SHARE * learned.n_tokens) if validate else learned.n_tokens
        for block in BLOCKS:
            name = f"layers.{block}"
            n_neurons = learned.blocks[name].n_neurons
            bits = NeuronBits.of_block(BlockTrace(n_neurons, learned.blocks[name].active[:first]))
            placement = NeuronPlacement(greedy_path(bits), frequency=bits.frequency())
            rows = judged.blocks[name].active[first if validate else 0 :]
            yield Case(model, block, placement, BlockTrace(n_neurons, rows))


def judge(case: Case, policy: str, capacity: int, break_even_gap: float) -> tuple[float, float]:
    """Return the cost per token, in neurons, and the share of accesses that hit."""
    gap = int(break_even_gap)
    cache = find_policy(policy)(capacity, case.placement, ReadCost(break_even_gap, gap))
    n_reads = n_neurons_read = n_accesses = n_hits = 0
    for chunk in replay_block(case.judged, case.placement, cache):
        first_slot, last_slot = np.empty((2, chunk.slots.size), np.int32)
        reads = RowReads(first_slot, last_slot, np.empty(chunk.n_rows + 1, np.int64))
        plan_rows(chunk.accesses, gap, reads)
        n = int(reads.read_starts[-1])
        n_reads += n
        n_neurons_read += int((last_slot[:n] - first_slot[:n] + 1).sum(dtype=np.int64))
        n_accesses += chunk.is_hit.size
        n_hits += int(np.count_nonzero(chunk.is_hit))
    return (break_even_gap * n_reads + n_neurons_read) / case.judged.n_rows, n_hits / max(1, n_accesses)


def main() -> None:
    """Print a table for each model, lambda and capacity, and the means of all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lambdas", default="1,2,5,20")
    parser.add_argument("--shares", default="0.05,0.1,0.2", help="of each block's neurons in DRAM")
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--validate", action="store_true", help="judge on the end of the training trace")
    options = parser.parse_args()
    folder = os.environ.get("RIPPLE_PLACE_DATA")
    if folder is None:
        print("RIPPLE_PLACE_DATA is unset: nothing to judge policies on")
        return
    policies = [YARDSTICK, *(policy for policy in options.policies.split(",") if policy != YARDSTICK)]
    shares = [float(text) for text in options.shares.split(",")]
    lambdas = [float(text) for text in options.lambdas.split(",")]
    logs: dict[tuple[str, float], list[float]] = {(policy, share): [] for policy in policies for share in shares}
    all_cases = list(cases(Path(folder), validate=options.validate))
    blocks = " : ".join(map(str, BLOCKS))
    for model in MODELS:
        of_model = [case for case in all_cases if case.model == model]
        for break_even_gap in lambdas:
            print(f"{model}, lambda {break_even_gap:g}: cost per token (hits), blocks {blocks}")
            for share in shares:
                costs: dict[str, list[float]] = {}
                for policy in policies:
                    results = [
                        judge(case, policy, int(share * case.placement.n_neurons), break_even_gap) for case in of_model
                    ]
                    costs[policy] = [cost for cost, _ in results]
                    logs[policy, share] += np.log(np.divide(costs[policy], costs[YARDSTICK])).tolist()
                    cells = " : ".join(f"{cost:6.1f} ({hit_ratio:5.1%})" for cost, hit_ratio in results)
                    print(f"  {share:4.0%} in DRAM  {policy:12s} {cells}")
    print(f"geometric means of cost / {YARDSTICK}'s, by share in DRAM")
    print(16 * " " + "".join(f"{share:8.0%}" for share in shares))
    for policy in policies:
        print(f"  {policy:14s}" + "".join(f"{np.exp(np.mean(logs[policy, share])):8.4f}" for share in shares))


if __name__ == "__main__":
    main()
