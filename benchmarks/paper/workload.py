"""A synthetic model under Neuralink's orders, and what its rungs score."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.paper.runs import line_device, run
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.ordering.frequency import frequency_order
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.trace.synthetic import MODELS, SyntheticSource, draw_trace

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.results import LayoutResult
    from ripple_place.trace.activation_trace import ActivationTrace

N_BLOCKS, N_TOKENS = 2, 8192
CACHE, CACHE_SHARE = "s3fifo", 0.05  # policy and cache ratio of arXiv 2410.19274v3 (v2: 0.1)
MODEL_BLOCKS = 32  # of OPT-6.7B and of Llama-2-7B
ORDERS = ("checkpoint", "frequency", "greedy")


@dataclass(frozen=True)
class Workload:
    """A synthetic model; orders are made from one of its texts, scores from another.

    Parameters
    ----------
    name : str
    n_neurons : int
        0 for the model's own width.
    active_share : float
        0 for the model's own.
    n_blocks : int
    """

    name: str
    n_neurons: int = 0
    active_share: float = 0.0
    n_blocks: int = N_BLOCKS

    @property
    def bundle_bytes(self) -> int:
        """Weights of a neuron of the real model in fp16."""
        return MODELS[self.name].bundle_bytes

    def draw(self, text: int) -> ActivationTrace:
        """Return the trace of a text."""
        return draw_trace(
            SyntheticSource(self.name, N_TOKENS, self.n_blocks, self.n_neurons, self.active_share, text=text)
        )

    @cached_property
    def test(self) -> ActivationTrace:
        """The text that is scored."""
        return self.draw(2)

    @cached_property
    def orders(self) -> dict[str, dict[str, np.ndarray]]:
        """Orders by name and block, from another text."""
        orders: dict[str, dict[str, np.ndarray]] = {name: {} for name in ORDERS}
        for block, trace in self.draw(1).blocks.items():
            bits = NeuronBits.of_block(trace)
            orders["checkpoint"][block] = np.arange(bits.n_neurons, dtype=np.int32)
            orders["frequency"][block] = frequency_order(bits.frequency())
            orders["greedy"][block] = greedy_path(bits)
        return orders

    def score(
        self, device: DeviceProfile, order: str, *, collapse: bool = False, cached: bool = False,
        admission: str = "all", bundle_bytes: int | None = None,
    ) -> LayoutResult:  # fmt: skip
        """Simulate one rung."""
        return run(
            self.test, device, bundle_bytes or self.bundle_bytes, orders=self.orders[order],
            gap=None if collapse else 0, cache=CACHE if cached else "none", cache_share=CACHE_SHARE if cached else 0.0,
            admission=admission,
        )  # fmt: skip


def model_ms(result: LayoutResult) -> float:
    """Return a token's flash time over all blocks of the model."""
    return float(result.token_us.mean()) / len(result.blocks) * MODEL_BLOCKS / 1e3


def speedup(before: LayoutResult, after: LayoutResult) -> float:
    """Return the ratio of flash times."""
    return float(before.token_us.sum() / after.token_us.sum())


def bandwidth(result: LayoutResult) -> float:
    """Return bytes of activated neurons read from flash, per microsecond of flash time."""
    return result.totals.bytes_active / result.totals.flash_time_us


def hit_ratio(result: LayoutResult) -> float:
    """Return the share of activated neurons that were in DRAM."""
    return result.totals.n_hits / result.totals.n_active


def overhead_behind(workload: Workload, device: DeviceProfile, measured_ms: float) -> DeviceProfile:
    """Return the line, with the device's final bandwidth, on which checkpoint order with cache takes `measured_ms`."""
    rate = (device.size_bytes[-1] - device.size_bytes[-2]) / (device.latency_us[-1] - device.latency_us[-2]) * 1e6

    def line(overhead_us: float) -> DeviceProfile:
        return line_device(overhead_us, rate, "derived from the published time in checkpoint order", 512 * 1024)

    # The time is linear in the overhead: the requests are the same.
    none, one = (model_ms(workload.score(line(us), "checkpoint", cached=True)) for us in (0.0, 1.0))
    return line((measured_ms - none) / (one - none))
