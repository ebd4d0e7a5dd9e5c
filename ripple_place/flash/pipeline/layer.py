"""One layer in the pipeline: gathers what its blocks ask for, then schedules it for every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.kernels.pipeline import LayerRows, LayerShape, LayerTimes, schedule_rows

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array
    from ripple_place.flash.block_rows import BlockRows
    from ripple_place.flash.pipeline.params import PipelineParams


@dataclass(frozen=True, eq=False)
class PipelineTime:
    """What the threads did, by token, all layers together.

    Attributes
    ----------
    exposed_us : ndarray of shape (n_tokens,), float64
        Time in which no thread and no NPU computes: what of reading is not hidden.
    io_busy_us, compute_busy_us : ndarray of shape (n_tokens,), float64
        Busy times of the I/O thread, and of the compute threads together.
    least_us : ndarray of shape (n_tokens,), float64
        Computing alone: attention, then the longer of the NPU's part and the threads' work shared evenly by them.
    """

    exposed_us: Float64Array
    io_busy_us: Float64Array
    compute_busy_us: Float64Array
    least_us: Float64Array


class LayerWork:
    """What a layer's blocks ask for, block by block.

    Parameters
    ----------
    params : PipelineParams
        With the rates of a device.
    n_tokens : int
    layer_us : float
        Time of computing a layer on all threads evenly, attention included, whatever a token needs; it is shared by
        the token's active neurons. 0: each neuron takes its bytes at the rate of a thread.
    """

    def __init__(self, params: PipelineParams, n_tokens: int, layer_us: float = 0.0) -> None:
        self._params, self._layer_us, self._ahead_us = params, layer_us, 0.0
        self.rows = LayerRows(*np.zeros((2, n_tokens), np.int64), *np.zeros((4, n_tokens)))

    def add(self, rows: BlockRows, bundle_bytes: int) -> None:
        """Add what a block serves each token."""
        params = self._params
        # Where the whole layer's time is given, neurons share it by their bytes.
        neuron_us = float(bundle_bytes) if self._layer_us else params.neuron_us(bundle_bytes)
        self.rows.n_resident[:] += rows.n_hits
        self.rows.n_missed[:] += rows.n_misses
        self.rows.resident_us[:] += rows.n_hits * neuron_us
        self.rows.missed_us[:] += rows.n_misses * neuron_us
        read_share = params.gate_share if params.gate_read_share is None else params.gate_read_share
        asked_us = np.maximum(rows.flash_us - rows.ahead_us, 0.0)
        gate_us = asked_us * read_share if rows.gate_us is None else rows.gate_us
        self.rows.gate_read_us[:] += gate_us
        self.rows.rest_read_us[:] += asked_us - gate_us
        self._ahead_us += rows.ahead_us

    @property
    def shape(self) -> LayerShape:
        """The layer as kernels take it, with what its blocks read ahead."""
        shape = self._params.shape
        return shape._replace(prefetch_us=shape.prefetch_us + self._ahead_us)

    def finish(self) -> LayerRows:
        """Return what each token asks for, once every block was added."""
        n_resident = self.rows.n_resident
        n_threads = np.maximum(n_resident - self._params.npu_neurons, 0)
        of_threads = np.divide(n_threads, n_resident, out=np.ones(n_resident.size), where=n_resident > 0)
        self.rows = self.rows._replace(resident_us=self.rows.resident_us * of_threads)
        if self._layer_us:
            resident_us, missed_us = self.rows.resident_us, self.rows.missed_us
            thread_us = self._params.n_threads * (self._layer_us - self._params.attention_us)
            total = resident_us + missed_us
            scale = np.divide(thread_us, total, out=np.zeros(total.size), where=total > 0)
            self.rows = self.rows._replace(resident_us=resident_us * scale, missed_us=missed_us * scale)
            self._layer_us = 0.0
        return self.rows

    def times(self) -> LayerTimes:
        """Return when each token is through the layer, once every block was added."""
        rows = self.finish()
        times = LayerTimes(*np.zeros((4, rows.n_missed.size)))
        schedule_rows(rows, self.shape, self._params.order, times)
        return times


class PipelineClock:
    """Adds up the layers of each token, one after the other.

    Parameters
    ----------
    params : PipelineParams
        With the rates of a device.
    n_tokens : int
    layer_us : float
        As for `LayerWork`.
    """

    def __init__(self, params: PipelineParams, n_tokens: int, layer_us: float = 0.0) -> None:
        self._params, self._n_tokens, self._layer_us = params, n_tokens, layer_us
        self._layer: LayerWork | None = None
        self._time = PipelineTime(*np.zeros((4, n_tokens)))

    def add(self, rows: BlockRows, bundle_bytes: int) -> None:
        """Add a block to the layer under way."""
        if self._layer is None:
            self._layer = LayerWork(self._params, self._n_tokens, self._layer_us)
        self._layer.add(rows, bundle_bytes)

    def end_layer(self) -> Float64Array:
        """Return the times of the layer under way, and begin another."""
        assert self._layer is not None
        times, self._layer = self._layer.times(), None
        shape, total = self._params.shape, self._time
        total.exposed_us[:] += times.exposed_us
        total.io_busy_us[:] += times.io_busy_us
        total.compute_busy_us[:] += times.compute_busy_us
        threads_us = times.compute_busy_us / shape.n_threads - shape.attention_us
        total.least_us[:] += shape.attention_us + np.maximum(shape.npu_us, threads_us)
        finish_us: Float64Array = times.finish_us
        return finish_us

    def finish(self) -> PipelineTime:
        """Return what the threads did in all layers that were ended."""
        return self._time
