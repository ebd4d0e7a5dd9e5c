"""How a layer is computed and read in neuron clusters at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.kernels.pipeline import GATE, GATE_READ, N_STAGES, PREDICT, REST, REST_READ, LayerShape, StageOrder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.flash.device.profile import DeviceProfile

BARRIERS = ("none", "matrix", "serial")
MAX_COUNT = 1024
"""Of threads, and of clusters of a kind: more than any phone has, or than a layer is worth splitting into."""
MAX_US, MAX_RATE = 1e12, 1e15
"""Of times (and of bytes of the NPU), and of the rate of a thread: beyond them are slips of a unit."""


@dataclass(frozen=True)
class PipelineParams:
    """How one layer of one token runs on `n_threads` compute threads, one I/O thread and an NPU.

    Parameters
    ----------
    n_threads : int
        Compute threads. Default: 4, beside one core for I/O (PowerInfer-2, arXiv 2406.06282, Figure 6).
    n_resident_clusters, n_missed_clusters : int
        Clusters that a token's neurons in DRAM, and those to be read, are split into. Default: 4 and 4, as there.
    barriers : {"none", "matrix", "serial"}
        ``none``: a thread that is done with a cluster takes the next that is ready, of whichever matrix. ``matrix``:
        up and down begin once the gates of all clusters are computed. ``serial``: all that is missed is read once all
        clusters are predicted, and computing begins once all is read.
    attention_us : float
        Time of attention on all units, before the FFN.
    prefetch_us : float
        What the I/O thread reads from the layer's beginning on: hot rows that the NPU waits for.
    npu_us : float, optional
        Time of the dense rows on the NPU; None: `npu_bytes` at the device's rate.
    npu_bytes : int
    npu_neurons : int
        Neurons in DRAM, of a layer and token, that are among the NPU's dense rows, and take the threads no time.
    predict_us : float
        Time of one thread to predict which neurons of a layer are active, split evenly over its clusters.
    thread_bytes_per_s : float, optional
        Bytes of weights a second that one thread computes; None: the device's rate for picked rows, by thread.
    gate_share : float
        Share of a neuron's computing that its gate is. Default: a third, of gate, up and down.
    gate_read_share : float, optional
        Share of reading that is the gates', where gates are not timed apart; 1: neurons are read whole, before their
        gates are computed. None: `gate_share`.

    Raises
    ------
    UsageError
        If a number is out of range, or the kind of barriers unknown.
    """

    n_threads: int = 4
    n_resident_clusters: int = 4
    n_missed_clusters: int = 4
    barriers: str = "none"
    attention_us: float = 0.0
    prefetch_us: float = 0.0
    npu_us: float | None = None
    npu_bytes: int = 0
    npu_neurons: int = 0
    predict_us: float = 0.0
    thread_bytes_per_s: float | None = None
    gate_share: float = 1 / 3
    gate_read_share: float | None = None

    def __post_init__(self) -> None:
        if self.barriers not in BARRIERS:
            raise UsageError(
                f"--pipeline barriers={self.barriers}", found="no barriers by that name",
                expected=f"one of {', '.join(BARRIERS)}", remedy="name one of them",
            )  # fmt: skip
        counts = ("n_threads", "n_resident_clusters", "n_missed_clusters")
        times = ("attention_us", "prefetch_us", "npu_us", "npu_bytes", "npu_neurons", "predict_us")
        shares = ("gate_share", "gate_read_share")
        problems = [
            *_outside(self, counts, 1, MAX_COUNT), *_outside(self, times, 0, MAX_US),
            *_outside(self, shares, 0, 1), *_outside(self, ("thread_bytes_per_s",), 1, MAX_RATE),
        ]  # fmt: skip
        if problems:
            raise UsageError(
                "--pipeline", found=", ".join(problems),
                expected=f"counts from 1 to {MAX_COUNT}, times and bytes of at least 0, shares from 0 to 1, a rate "
                "of 1 or more", remedy="correct the number",
            )  # fmt: skip

    def on(self, device: DeviceProfile, *, needs_rate: bool = True) -> PipelineParams:
        """Return the same with the device's rates in place of what is None.

        Parameters
        ----------
        device : DeviceProfile
        needs_rate : bool
            False where the time of a layer is given, so that the threads need no rate.

        Raises
        ------
        UsageError
            If the device profile lacks a rate that is needed.
        """
        rates = device.compute_rates
        thread_rate = self.thread_bytes_per_s or rates.sparse_thread_bytes_per_s
        npu_us = self.npu_us
        if npu_us is None and self.npu_bytes == 0:
            npu_us = 0.0
        elif npu_us is None and rates.npu_bytes_per_s is not None:
            npu_us = self.npu_bytes / rates.npu_bytes_per_s * 1e6
        lacking = [
            *([("cpu_sparse_bytes_per_s", "rate=1.3GB/s")] if thread_rate is None and needs_rate else []),
            *([("npu_bytes_per_s", "npu=400us")] if npu_us is None else []),
        ]
        if lacking:
            raise UsageError(
                "--overlap pipeline", found=f"device {device.name} has no {' and no '.join(key for key, _ in lacking)}",
                expected="a rate for what computes",
                remedy=f"add {','.join(text for _, text in lacking)} to --pipeline, or name a device that has it",
            )  # fmt: skip
        return replace(self, thread_bytes_per_s=thread_rate, npu_us=npu_us)

    def neuron_us(self, bundle_bytes: int) -> float:
        """Return the time to compute one neuron on one thread; only after `on`."""
        assert self.thread_bytes_per_s is not None
        return bundle_bytes / self.thread_bytes_per_s * 1e6

    @property
    def shape(self) -> LayerShape:
        """What kernels take; only after `on`."""
        assert self.npu_us is not None
        return LayerShape(
            self.n_threads, self.n_resident_clusters, self.n_missed_clusters, float(self.attention_us),
            float(self.prefetch_us), float(self.npu_us), float(self.predict_us), float(self.gate_share),
        )  # fmt: skip

    @property
    def order(self) -> StageOrder:
        """The order of stages, and the barriers in it."""
        if self.barriers == "serial":
            stages, before = [PREDICT, GATE_READ, REST_READ, GATE, REST], [GATE_READ, GATE]
        else:
            stages, before = [PREDICT, GATE_READ, GATE, REST_READ, REST], [REST_READ]
        has_barrier = np.zeros(N_STAGES, np.uint8)
        if self.barriers != "none":
            has_barrier[[stages.index(stage) for stage in before]] = 1
        return StageOrder(np.array(stages, np.int64), has_barrier)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as `simulate --json` has them."""
        return asdict(self)


def _outside(params: PipelineParams, names: tuple[str, ...], lowest: float, highest: float) -> Iterator[str]:
    """Name each field that is set and lies outside a range; NaN lies outside of any."""
    for name in names:
        value = getattr(params, name)
        if value is not None and not lowest <= value <= highest:
            yield f"{name} = {value}"
