"""The reader of a system: its layout, device and cache as the simulator takes them, and the trace as it serves it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.admission import Admission
from ripple_place.flash.pipeline.params import PipelineParams
from ripple_place.flash.simulator import SimulationParams
from ripple_place.flash.token_time import PIPELINE
from ripple_place.systems.knobs import NO
from ripple_place.trace.activation_trace import BlockTrace

if TYPE_CHECKING:
    from ripple_place.flash.device.conditions import ConditionedDevice
    from ripple_place.flash.layout import Layout
    from ripple_place.scoring.system_layouts import SystemLayout
    from ripple_place.scoring.system_params import SystemParams
    from ripple_place.systems.knobs import Knobs
    from ripple_place.trace.activation_trace import ActivationTrace


class SystemReader:
    """Serves a trace as a system does.

    Parameters
    ----------
    knobs : Knobs
    layout : SystemLayout
    device : ConditionedDevice
        Under the system's conditions.
    params : SystemParams
    n_threads : int
    """

    def __init__(
        self, knobs: Knobs, layout: SystemLayout, device: ConditionedDevice, params: SystemParams, n_threads: int
    ) -> None:
        self.knobs, self.layout, self.device = knobs, layout, device
        self._params, self._n_threads = params, n_threads

    @property
    def is_lossy(self) -> bool:
        """Whether a rule drops some of what fires."""
        return not self.knobs.is_lossless

    def served(self, trace: ActivationTrace) -> tuple[ActivationTrace, Layout, ConditionedDevice, SimulationParams]:
        """Return what `ripple_place.flash.simulator.simulate` takes for a trace of which nothing is dropped."""
        if self.knobs.uses_everything:
            trace = all_active(trace)
        return trace, self.layout.layout, self.device, self.simulation(trace)

    def simulation(self, trace: ActivationTrace) -> SimulationParams:
        """Return how the reader works."""
        knobs, params = self.knobs, self._params.simulate
        gap: int | str | None = None
        if knobs.collapse == "adaptive":
            gap = knobs.collapse
        elif knobs.collapse != "auto" and knobs.access != "mmap":
            gap = 0 if knobs.collapse == "off" else int(knobs.collapse)
        compute = None
        if params.compute is not None:
            pipeline = PipelineParams(barriers=knobs.barriers) if knobs.overlap == PIPELINE else None
            compute = replace(params.compute, overlap=knobs.overlap, pipeline=pipeline).on(self.device)
        return SimulationParams(
            self.layout.cache, self.layout.capacity_neurons, gap, self._n_threads, compute,
            admission=Admission.parse(knobs.admission, params.seed),
            reset_tokens=tuple(trace.segment_starts.tolist()) if params.reset_at_segments else (),
            pool_neurons=None if knobs.pool == NO else self.layout.pool_neurons,
        )  # fmt: skip


def all_active(trace: ActivationTrace) -> ActivationTrace:
    """Return a trace in which every neuron is used for every token that reaches its block."""
    blocks = {}
    for name, block in trace.blocks.items():
        row = np.packbits(np.ones(block.n_neurons, bool), bitorder="little")
        blocks[name] = BlockTrace(block.n_neurons, np.tile(row, (block.n_rows, 1)), block.token_index)
    return replace(trace, blocks=blocks)
