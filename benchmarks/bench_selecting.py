"""How long a rule takes to choose: microseconds a token and block, on one core.

    .venv/bin/python -m benchmarks.bench_selecting

A made-up block of 4096 neurons of which each token has 5 % active, in random places: no layout gathers them, so that
runs are as short as they can be. Beside each rule stands the plain simulation of everything that fires, on the same
device, cache and tokens: the difference is what choosing costs. Median of five, interleaved, one thread.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import load_device
from ripple_place.flash.layout import Layout
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.select.registry import parse_rule
from ripple_place.select.rule import Tuning
from ripple_place.select.simulate import simulate_selected
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace, Magnitudes

N_NEURONS, N_TOKENS, ACTIVE, BUNDLE_BYTES, REPEATS = 4096, 4096, 0.05, 4096, 5
DEVICES = ("ufs4-oneplus12-neuralink", "ufs4-oneplus12-powerinfer2")
RULES = ("threshold=0.1", "fisher,price=1e-4", "flash-aware,price=1e-4")


def make_trace(generator: np.random.Generator) -> ActivationTrace:
    """Return a trace of one block, with magnitudes."""
    outputs = np.where(
        generator.random((N_TOKENS, N_NEURONS)) < ACTIVE, generator.exponential(size=(N_TOKENS, N_NEURONS)), 0
    ).astype(np.float32)
    row, neuron = np.nonzero(outputs)
    starts = np.searchsorted(row, np.arange(N_TOKENS + 1)).astype(np.int64)
    values = Magnitudes(starts, neuron.astype(np.int32), outputs[row, neuron])
    block = BlockTrace(N_NEURONS, np.packbits(outputs != 0, axis=1, bitorder="little"), None, values)
    return ActivationTrace({"layers.0": block}, N_TOKENS, np.zeros(1, np.int64))


def main() -> None:
    """Time each rule on each device, with and without a cache."""
    generator = np.random.default_rng(0)
    trace = make_trace(generator)
    order = generator.permutation(N_NEURONS).astype(np.int32)
    frequency = np.ones(N_NEURONS, np.int64)
    placement = ModelPlacement({"layers.0": NeuronPlacement(order, frequency=frequency)})
    layout = Layout.from_placement("random", placement, BUNDLE_BYTES)
    importance = {"layers.0": generator.exponential(1e-3, N_NEURONS).astype(np.float32)}
    tuning = Tuning(None, {}, importance, {}, {})
    for name in DEVICES:
        device = under(load_device(name), ReadConditions())
        for cache in ("none", "s3fifo", "greedydual"):
            params = SimulationParams(cache, {} if cache == "none" else {"layers.0": N_NEURONS // 10})

            def run(rule: str | None, params: SimulationParams = params, device=device) -> float:  # type: ignore[no-untyped-def]
                start_s = time.process_time()
                if rule is None:
                    simulate(trace, layout, device, params)
                else:
                    simulate_selected(trace, layout, device, params, parse_rule(rule), tuning)
                return (time.process_time() - start_s) / N_TOKENS * 1e6

            runs = (None, *RULES)
            for rule in runs:
                run(rule)  # compiles
            times_us = [[run(rule) for rule in runs] for _ in range(REPEATS)]
            medians = [statistics.median(column) for column in zip(*times_us, strict=True)]
            shown = "  ".join(f"{rule or 'exact'} {us:.1f}" for rule, us in zip(runs, medians, strict=True))
            print(f"{name}, {cache}: us a token and block: {shown}", flush=True)


if __name__ == "__main__":
    main()
