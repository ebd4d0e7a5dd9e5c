"""PowerInfer-2's ladder on a workload of Bamboo-7B's shape: one read a neuron, a cache, the pipeline, the NPU."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.paper.figures import CONSISTENCY, PREDICTION, Figure
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import load_device
from ripple_place.flash.gate_first import GateFirst
from ripple_place.flash.layout import Layout
from ripple_place.flash.pipeline.params import PipelineParams
from ripple_place.flash.simulator import SimulationParams, serve_blocks, simulate
from ripple_place.flash.token_time import ComputeParams
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.scoring.bundle_forms import FormChoice, with_forms
from ripple_place.systems.plan_params import PlanParams
from ripple_place.systems.planner import make_plan
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array

SOURCE = "arXiv 2406.06282, ablation on Bamboo-7B, OnePlus 12, half of the FFN in DRAM"
DEVICE = "ufs4-oneplus12-powerinfer2"
LAYERS, N_NEURONS = 32, 14336
BUNDLE_BYTES, ROW_BYTES = 7680, 2560
"""Gate, up and down of a neuron in four bits, scales included; one of them."""
ACTIVE, ZIPF, REDRAWN = 0.15, 0.57, 0.145
"""Share of neurons that are asked for, skew of their rates, and share of them drawn anew for a token on average. The
share is what a predictor names (12 % fire); the skew is fitted to 72 % of them in the hotter half, the last to a hit
ratio of 95 % behind a cache of half the neurons."""
SPREAD = 0.9
"""Standard deviation of the logarithm of the share drawn anew: so that the 99th percentile of a lognormal number is 5.4
times its mean, as PowerInfer-2 reports of Mixtral's misses (18.9 % to 3.5 %)."""
STATIC_HITS, LRU_HITS = 0.72, 0.95
"""Of what is asked for, with the hotter half pinned, and behind a cache of half the neurons."""
OF_TOKEN = 0.5
"""Part of the variance that all layers of a token have in common; the rest is a layer's own."""
FIRES = 0.8
"""Share of what is asked for whose gate lets it fire."""
CPU_MS, XPU_MS = 92.0, 78.0
"""Computing a token without and with the NPU, derived from the last two steps and the published 13.7 % of I/O."""
ATTENTION_MS = 14.0
"""Of a token: 1.34 G parameters at 4.5 to 5 bits and 59.6 GB/s."""
THREADS, KIB = 4, 1024
N_TOKENS, WARM_UP = 1100, 100
PUBLISHED = {"base": 0.40, "bundle": 1.09, "cache": 4.18, "pipeline": 9.60, "xpu": 11.07}
PERCENTILES = {"mean": 90.32, "p50": 86.88, "p90": 115.02, "p99": 162.02}

INTRODUCTION = f"""\
`{DEVICE}`; Bamboo-7B's {LAYERS} layers of {N_NEURONS:,} neurons, {N_TOKENS - WARM_UP:,} tokens after
{WARM_UP} that fill the cache, half of the neurons in DRAM. Fitted to the ladder (*consistency*): the share of the
neurons asked for times the latency of a lone read, 72 % of them in the hotter half, 95 % behind an LRU cache, and the
time of computing without and with the NPU. How much the share that is new varies is taken from Mixtral's misses, not
from Bamboo's latencies; half of that variance is the token's, half the layer's, which is our choice: with a quarter or
three quarters for the token the 99th percentile is 127 or 194 ms, and nothing else moves by more than 3 ms. The first
three steps read one piece after the other (`--access sync`); from the pipeline on reads are asynchronous, gates first,
and hide behind computing.
"""


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the ladder: the time of each token in ms, and the share of what is asked for that DRAM had."""

    token_ms: Float64Array
    hit_ratio: float

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second."""
        return 1e3 / float(self.token_ms.mean())


class Ladder:
    """Simulates the steps of the ladder."""

    def __init__(self) -> None:
        self.device = load_device(DEVICE)
        self.trace, self.layout = workload()
        self.ffn_us = (CPU_MS - ATTENTION_MS) * 1e3 / LAYERS
        """Computing the FFN of a layer on the CPU."""
        assert self.device.compute_rates.npu_bytes_per_s is not None
        self.npu_us = N_NEURONS / 2 * BUNDLE_BYTES * 1e6 / self.device.compute_rates.npu_bytes_per_s
        """Half of a layer's rows on the NPU."""

    def steps(self) -> dict[str, Step]:
        """Return the steps by name."""
        page, bundle = 4 * KIB, 8 * KIB
        attention_us = ATTENTION_MS * 1e3 / LAYERS
        asked_bytes = ACTIVE * N_NEURONS * BUNDLE_BYTES
        rate = asked_bytes * 1e6 / (self.ffn_us * THREADS)
        # With the NPU, threads have the cold neurons and the upkeep of the cache: together as long as published.
        cold_rate = asked_bytes * (1 - STATIC_HITS) * 1e6 / ((XPU_MS * 1e3 / LAYERS - attention_us) * THREADS)
        return {
            "base": self._lone_reads("pinned", 3, page),
            "bundle": self._lone_reads("pinned", 1, bundle),
            "cache": self._lone_reads("lru", 1, bundle),
            "pipeline": self._pipelined(
                PipelineParams(attention_us=attention_us, thread_bytes_per_s=rate)
            ),
            "xpu": self._pipelined(
                PipelineParams(
                    attention_us=attention_us, thread_bytes_per_s=cold_rate, npu_us=self.npu_us,
                    npu_neurons=round(STATIC_HITS * ACTIVE * N_NEURONS),
                )
            ),
        }  # fmt: skip

    def hot_shares(self) -> dict[int, float]:
        """Return the share of rows that the planner gives to the NPU, by batch size, where all of it fits in DRAM."""
        frequency = {name: values / 1e6 for name, values in _rates(self.layout).items()}
        sizes = dict.fromkeys(frequency, BUNDLE_BYTES)
        params = PlanParams((1, 4), cold_share=0.0)
        plan = make_plan(frequency, sizes, LAYERS * N_NEURONS, self.device, params)
        return {size: plan.hot_share(size) for size in plan.batch_sizes}

    def _lone_reads(self, cache: str, n_reads: int, read_bytes: int) -> Step:
        """Return a step that reads each missing neuron in `n_reads` pieces, one after the other, then computes."""
        lone_us = float(under(self.device, ReadConditions(access="sync")).request_us(read_bytes))
        params = SimulationParams(cache, gap=0, n_threads=2, pool_neurons=LAYERS * N_NEURONS // 2)
        asked = self.trace.as_predicted()
        served = [rows for _, rows in serve_blocks(asked, self.layout, self.device, params)]
        n_missed = sum(rows.n_misses[WARM_UP:].astype(np.float64) for rows in served)
        n_asked = sum(int(rows.n_hits[WARM_UP:].sum() + rows.n_misses[WARM_UP:].sum()) for rows in served)
        hit_ratio = 1 - float(n_missed.sum()) / n_asked
        return Step(CPU_MS + n_missed * n_reads * lone_us / 1e3, hit_ratio)

    def _pipelined(self, params: PipelineParams) -> Step:
        """Return a step whose asynchronous reads, gates first, hide behind computing."""
        device = under(self.device, span_bytes=LAYERS * N_NEURONS * 8 * KIB)
        simulation = SimulationParams(
            "lru", gap=0, n_threads=2, pool_neurons=LAYERS * N_NEURONS // 2, gate_first=GateFirst("predicted"),
            compute=ComputeParams(0.0, "pipeline", pipeline=params),
        )  # fmt: skip
        (layout,) = with_forms([self.layout], FormChoice("int4", 4096), {}, device.page_bytes)
        result = simulate(self.trace, layout, device, simulation)
        assert result.token_time is not None
        return Step(
            result.token_time.token_us[WARM_UP:] / 1e3,
            result.totals.n_hits / result.totals.n_active,
        )


def workload() -> tuple[ActivationTrace, Layout]:
    """Return what a predictor names and what fires of it, and bundles in checkpoint order that know their rates.

    A neuron stays as it was at the token before, or is drawn anew by its own rate. The share that is drawn anew varies
    from token to token, for all layers alike: texts turn, layers do not.
    """
    rng = np.random.default_rng(0)
    rates = _zipf_rates()
    mean = np.log(REDRAWN) - SPREAD**2 / 2
    of_token = np.sqrt(OF_TOKEN) * rng.standard_normal(N_TOKENS)
    blocks, placements = {}, {}
    for block in range(LAYERS):
        own = rng.permutation(rates)
        asked, fires = np.empty((2, N_TOKENS, N_NEURONS // 8), np.uint8)
        now = np.zeros(N_NEURONS, bool)
        of_layer = np.sqrt(1 - OF_TOKEN) * rng.standard_normal(N_TOKENS)
        redrawn = np.minimum(1.0, np.exp(mean + SPREAD * (of_token + of_layer)))
        redrawn[0] = 1.0
        for token, share in enumerate(redrawn):
            is_drawn = rng.random(N_NEURONS, np.float32) < share
            now = np.where(is_drawn, rng.random(N_NEURONS, np.float32) < own, now)
            asked[token] = np.packbits(now, bitorder="little")
            fires[token] = np.packbits(now & (rng.random(N_NEURONS, np.float32) < FIRES), bitorder="little")
        blocks[f"layers.{block}"] = BlockTrace(N_NEURONS, fires, predicted=asked)
        placements[f"layers.{block}"] = NeuronPlacement.original(N_NEURONS, np.rint(own * 1e6).astype(np.int64))
    layout = Layout.from_placement("bamboo-7b", ModelPlacement(placements), BUNDLE_BYTES)
    return ActivationTrace(blocks, N_TOKENS, np.zeros(1, np.int64)), layout


def _zipf_rates() -> Float64Array:
    """Return the share of tokens for which each neuron is asked for: a Zipf law, at most 98 %, `ACTIVE` on average."""
    weights = np.arange(1, N_NEURONS + 1) ** -ZIPF
    low, high = 0.0, 1e6
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(0.98, middle * weights).mean() < ACTIVE else (low, middle)
    return np.minimum(0.98, high * weights)


def _rates(layout: Layout) -> dict[str, Float64Array]:
    frequency = {name: block.placement.frequency for name, block in layout.blocks.items()}
    return {name: values.astype(np.float64) for name, values in frequency.items() if values is not None}


def section() -> tuple[str, list[Figure]]:
    """Return the introduction and the figures of the ladder."""
    ladder = Ladder()
    steps = ladder.steps()
    figures = []
    for name, published in PUBLISHED.items():
        kind, why = EXPLANATIONS[name]
        figures.append(
            Figure(f"powerinfer2-ladder-{name}", SOURCE, published, steps[name].tokens_per_s, "tok/s", kind, why)
        )
    for before, after in pairwise(PUBLISHED):
        figures.append(
            Figure(
                f"powerinfer2-ladder-{before}-to-{after}", SOURCE, PUBLISHED[after] / PUBLISHED[before],
                steps[after].tokens_per_s / steps[before].tokens_per_s, "x", RATIOS[after][0], RATIOS[after][1],
            )
        )  # fmt: skip
    for name, cache, published in (("static", "base", STATIC_HITS), ("lru", "cache", LRU_HITS)):
        figures.append(
            Figure(
                f"powerinfer2-ladder-hits-{name}", SOURCE if name == "lru" else f"derived from {SOURCE}", published,
                steps[cache].hit_ratio, "share of what is asked for", CONSISTENCY, "The workload is fitted to it.",
            )
        )  # fmt: skip
    times = steps["xpu"].token_ms
    simulated = {"mean": float(times.mean()), **{f"p{at}": float(np.percentile(times, at)) for at in (50, 90, 99)}}
    for name, published in PERCENTILES.items():
        figures.append(
            Figure(
                f"powerinfer2-latency-{name}", "arXiv 2406.06282, latency of a token, Bamboo-7B", published,
                simulated[name], "ms", PREDICTION if name in ("p50", "p90") else CONSISTENCY,
                LATENCIES[name],
            )
        )  # fmt: skip
    shares = ladder.hot_shares()
    for size, published, where in ((1, 0.5, "batch size 1"), (4, 0.7, "large batches; planned up to 4")):
        figures.append(
            Figure(
                f"powerinfer2-npu-share-{size}", f"arXiv 2406.06282, NPU's share of each FFN matrix, {where}",
                published, shares[size], "share of rows", PREDICTION,
                "Both units end together: the NPU at its bandwidth, the CPU at the rate that the ladder implies.",
            )
        )  # fmt: skip
    return INTRODUCTION, figures


EXPLANATIONS = {
    "base": (CONSISTENCY, "Neurons asked for times the time of a lone read are fitted to this step and the two next."),
    "bundle": (CONSISTENCY, "As the step before, with one read a neuron."),
    "cache": (CONSISTENCY, "The hit ratio of 95 % is fitted; the time of a read is that of the step before."),
    "pipeline": (PREDICTION, "Computing time is fitted; how much of the reads it hides is simulated."),
    "xpu": (PREDICTION, "Computing time is fitted; how much of the reads it hides is simulated."),
}
LATENCIES = {
    "mean": "Follows from the fitted computing time and hit ratio.",
    "p50": "The spread of what is new from token to token is that of Mixtral's misses.",
    "p90": "The spread of what is new from token to token is that of Mixtral's misses.",
    "p99": "Of the spread of Mixtral's misses, half is taken to be the token's, with this figure in view.",
}
RATIOS = {
    "bundle": (PREDICTION, "Three reads a neuron to one; computing is the rest."),
    "cache": (CONSISTENCY, "The hit ratios before and after are fitted."),
    "pipeline": (
        PREDICTION, "Asynchronous reads take a ninth of the time of lone ones, and hide behind computing. The paper's "
        "text says 1.29 for this step, its figure 2.30.",
    ),
    "xpu": (PREDICTION, "The computing times of both steps are fitted; the rest of the reads shows in both."),
}  # fmt: skip


if __name__ == "__main__":
    for figure in section()[1]:
        print(f"{figure.id:40s} {figure.published:8.3f} {figure.simulated:8.3f} {figure.deviation:+6.1%} {figure.kind}")
