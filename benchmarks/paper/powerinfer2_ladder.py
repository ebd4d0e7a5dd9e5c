"""PowerInfer-2's ladder on a workload of Bamboo-7B's shape: one read a neuron, a cache, the pipeline, the NPU."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.paper.figures import CONSISTENCY, PREDICTION, Figure
from ripple_place.flash.bundle_form import INT4
from ripple_place.flash.candidates import draw_candidates
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import load_device
from ripple_place.flash.gate_first import GateFirst
from ripple_place.flash.layout import Layout
from ripple_place.flash.pipeline.params import PipelineParams
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.flash.token_time import ComputeParams
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.scoring.bundle_forms import with_form
from ripple_place.systems.plan_params import PlanParams
from ripple_place.systems.planner import make_plan
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace

if TYPE_CHECKING:
    from ripple_place.flash.results import LayoutResult

SOURCE = "arXiv 2406.06282, ablation on Bamboo-7B, OnePlus 12, half of the FFN in DRAM"
DEVICE = "ufs4-oneplus12-powerinfer2"
LAYERS, N_NEURONS, N_BLOCKS = 32, 14336, 4
"""Of the model, of a layer, and layers that are drawn: times of a token are scaled from the last to the first."""
BUNDLE_BYTES, ROW_BYTES = 7680, 2560
"""Gate, up and down of a neuron in four bits, scales included; one of them."""
ACTIVE, ZIPF, REDRAWN = 0.15, 0.57, 0.145
"""Share of neurons that are asked for, skew of their rates, and share of them drawn anew for a token on average. The
share is what a predictor names (12 % fire); the skew is fitted to 72 % of them in the hotter half, the last to a hit
ratio of 95 % behind a cache of half the neurons."""
SPREAD = 0.9
"""Standard deviation of the logarithm of the share drawn anew: so that the 99th percentile of a lognormal number is 5.4
times its mean, as PowerInfer-2 reports of Mixtral's misses (18.9 % to 3.5 %)."""
FIRES = 0.8
"""Share of what is asked for whose gate lets it fire."""
CPU_MS, XPU_MS = 92.0, 78.0
"""Computing a token without and with the NPU, derived from the ladder's last two steps and the published 13.7 % of I/O."""
ATTENTION_MS = 14.0
"""Of a token: 1.34 G parameters at 4.5 to 5 bits and 59.6 GB/s."""
N_TOKENS, WARM_UP = 1100, 100
PUBLISHED = {"base": 0.40, "bundle": 1.09, "cache": 4.18, "pipeline": 9.60, "xpu": 11.07}
PERCENTILES = {"mean": 90.32, "p50": 86.88, "p90": 115.02, "p99": 162.02}

INTRODUCTION = f"""\
`{DEVICE}`; {N_BLOCKS} of Bamboo-7B's {LAYERS} layers of {N_NEURONS:,} neurons, {N_TOKENS - WARM_UP:,} tokens after
{WARM_UP} that fill the cache, half of the neurons in DRAM. Fitted to the ladder (*consistency*): the share of the
neurons asked for times the latency of a lone read, 72 % of them in the hotter half, 95 % behind an LRU cache, and the
time of computing without and with the NPU. How much the share that is new varies from token to token is taken from
Mixtral's misses, not from Bamboo's latencies. The first three steps read one piece after the other (`--access sync`);
from the pipeline on reads are asynchronous, gates first, and hide behind computing.
"""


class Ladder:
    """The steps of the ladder, in ms a token each."""

    def __init__(self) -> None:
        self.device = load_device(DEVICE)
        self.trace, self.layout = _workload(np.random.default_rng(0))
        self.half = N_BLOCKS * N_NEURONS // 2

    @cached_property
    def base(self) -> np.ndarray:
        """Return the time of each token with the hotter half pinned, three lone reads a neuron."""
        return CPU_MS + 3 * self._lone_reads_ms("pinned", ROW_BYTES)

    @cached_property
    def bundle(self) -> np.ndarray:
        """Return it with one lone read a neuron."""
        return CPU_MS + self._lone_reads_ms("pinned", BUNDLE_BYTES)

    @cached_property
    def cache(self) -> np.ndarray:
        """Return it with a cache of the same size that keeps what was used last."""
        return CPU_MS + self._lone_reads_ms("lru", BUNDLE_BYTES)

    @cached_property
    def pipeline(self) -> np.ndarray:
        """Return it with asynchronous reads, gates first, that hide behind the CPU's computing."""
        ffn_us = (CPU_MS - ATTENTION_MS) * 1e3 / LAYERS
        computed = ACTIVE * N_NEURONS * (1 / 3 + FIRES * 2 / 3) * BUNDLE_BYTES
        rate = computed / ffn_us * 1e6 / 4
        return self._pipeline_ms(PipelineParams(attention_us=ATTENTION_MS * 1e3 / LAYERS, thread_bytes_per_s=rate))

    @cached_property
    def xpu(self) -> np.ndarray:
        """Return it with the hot rows on the NPU, and upkeep that makes computing as long as published."""
        upkeep_ms = XPU_MS - ATTENTION_MS - self._npu_us * LAYERS / 1e3
        before_us = (ATTENTION_MS + upkeep_ms) * 1e3 / LAYERS
        return self._pipeline_ms(
            PipelineParams(attention_us=before_us, npu_us=self._npu_us, npu_hit_share=0.72 / 0.95)
        )  # fmt: skip

    @property
    def _npu_us(self) -> float:
        """Time of half of a layer's rows on the NPU."""
        assert self.device.compute_rates.npu_bytes_per_s is not None
        return N_NEURONS / 2 * BUNDLE_BYTES / self.device.compute_rates.npu_bytes_per_s * 1e6

    def misses(self, cache: str) -> np.ndarray:
        """Return the neurons that each token reads, all layers together."""
        return self.read[cache]

    @cached_property
    def read(self) -> dict[str, np.ndarray]:
        """Return by policy the neurons that each token reads: its time where a read takes 1 us."""
        result = {}
        for cache in ("pinned", "lru"):
            params = SimulationParams(cache, gap=0, n_threads=2, pool_neurons=self.half, compute=ComputeParams(0.0))
            result[cache] = simulate(self.trace, self.layout, under(self.device), params)
        return result  # type: ignore[return-value]

    def hit_ratio(self, cache: str) -> float:
        """Return the share of what is asked for that is in DRAM."""
        raise NotImplementedError
