"""The reader of a system: its layout, device and cache as the simulator takes them, and the trace as it serves it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import ffn_of
from ripple_place.flash.admission import Admission
from ripple_place.flash.bundle_form import WHOLE
from ripple_place.flash.caches.lru import Lru
from ripple_place.flash.caches.none import NoCache
from ripple_place.flash.gate_first import FULL_GATE, RESIDENT
from ripple_place.flash.pipeline.params import PipelineParams
from ripple_place.flash.simulator import SimulationParams
from ripple_place.flash.token_time import PIPELINE, ComputeParams
from ripple_place.scoring.bundle_forms import FormChoice, with_forms
from ripple_place.scoring.dram import SimulatedDram
from ripple_place.scoring.gates import dram_behind_gates, read_gates
from ripple_place.scoring.hot_rows import HotRows
from ripple_place.systems.knobs import NO
from ripple_place.systems.plan_params import PlanParams
from ripple_place.trace.activation_trace import BlockTrace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.flash.device.conditions import ConditionedDevice
    from ripple_place.flash.layout import Layout
    from ripple_place.scoring.system_layouts import SystemLayout
    from ripple_place.scoring.system_params import SystemParams
    from ripple_place.systems.knobs import Knobs
    from ripple_place.systems.plan import NeuronPlan
    from ripple_place.trace.activation_trace import ActivationTrace

GATED_PARTS = 3


@dataclass(frozen=True, eq=False)
class ServedTrace:
    """What `ripple_place.flash.simulator.simulate` takes.

    Attributes
    ----------
    trace : ActivationTrace
        What is asked for.
    fires : ActivationTrace
        What of it is used: without candidates, and without what a dense unit computes beside.
    layout : Layout
    device : ConditionedDevice
    params : SimulationParams
    hot : HotRows or None
        What is computed densely, if the system plans that.
    """

    trace: ActivationTrace
    fires: ActivationTrace
    layout: Layout
    device: ConditionedDevice
    params: SimulationParams
    hot: HotRows | None = None

    @property
    def dram_bytes(self) -> int:
        """What is cached when all caches are full, and the gates that are always in DRAM."""
        mode = None if self.params.gate_first is None else self.params.gate_first.mode
        n_bytes, pool, cached_bytes = 0, self.params.pool_neurons, 0
        for name, block in self.layout.blocks.items():
            has_gates_apart = block.form is not None and mode in (FULL_GATE, RESIDENT)
            cached_bytes = block.form.rest_bytes if block.form and has_gates_apart else block.extent.bundle_bytes
            if block.form is not None and mode == RESIDENT:
                n_bytes += block.n_neurons * block.form.gate_bytes
            n_bytes += self.params.capacity_neurons.get(name, 0) * cached_bytes
        # Blocks that share a pool have neurons of one size.
        return n_bytes if pool is None else n_bytes + pool * cached_bytes


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
    n_parts : mapping of str to int, optional
        By block, 3 where a neuron has a gate. Default: where bundles have three equal parts.
    """

    def __init__(
        self, knobs: Knobs, layout: SystemLayout, device: ConditionedDevice, params: SystemParams, n_threads: int,
        n_parts: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        self.knobs, self.layout, self.device = knobs, layout, device
        self._params, self._n_threads, self._n_parts = params, n_threads, n_parts or {}

    @property
    def is_pooled(self) -> bool:
        """Whether all blocks share one cache."""
        return self.knobs.pool != NO

    @property
    def is_lossy(self) -> bool:
        """Whether a rule drops some of what fires."""
        return not self.knobs.is_lossless

    @property
    def has_form(self) -> bool:
        """Whether it matters where gates lie: neurons have one, and the system reads them first or stores them so."""
        sizes = {name: block.extent.bundle_bytes for name, block in self.layout.layout.blocks.items()}
        is_gated = all(
            self._n_parts.get(name, GATED_PARTS) == GATED_PARTS and n_bytes % GATED_PARTS == 0
            for name, n_bytes in sizes.items()
        )
        return is_gated and (self.knobs.gate_first != NO or self.knobs.bundle_form != WHOLE)

    def as_it_is(self, trace: ActivationTrace) -> ServedTrace:
        """Return what is simulated where a rule chooses of what fires, for each token anew."""
        return ServedTrace(trace, trace, self.layout.layout, self.device, self.simulation(trace))

    def served(self, trace: ActivationTrace) -> ServedTrace:
        """Return what is simulated where nothing of what fires is dropped.

        Raises
        ------
        UsageError
            If the DRAM is too small for gates that are to be resident.
        """
        if self.knobs.uses_everything:
            trace = all_active(trace)
        fires, layout, params = trace, self.layout.layout, self.simulation(trace)
        if self.has_form:
            gate_first = None if self.knobs.gate_first == NO else self.knobs.gate_first
            trace, gates = read_gates(trace, gate_first, self.knobs.bundle_form, self._params.simulate.seed)
            form = FormChoice.parse(self.knobs.bundle_form)
            (layout,) = with_forms([layout], form, {}, self.device.page_bytes)
            dram = SimulatedDram(params.cache, self._capacities(layout))
            dram = dram_behind_gates(dram, layout, gates, self._params.budget)
            params = replace(
                params, capacity_neurons={} if self.is_pooled else dram.capacity_neurons,
                pool_neurons=sum(dram.capacity_neurons.values()) if self.is_pooled else None,
                gate_first=None if gates is None else gates.gate_first,
            )  # fmt: skip
        if self.layout.plan is None:
            return ServedTrace(trace, fires, layout, self.device, params)
        hot = HotRows.of_plan(self.layout.plan, layout)
        compute = self._with_dense_unit(params.compute, self.layout.plan)
        params = replace(params, read_ahead_neurons=hot.read_ahead_neurons, compute=compute)
        return ServedTrace(hot.served(trace), fires, layout, self.device, params, hot)

    def _capacities(self, layout: Layout) -> dict[str, int]:
        """Return the neurons that DRAM holds where a form has changed their size: as many bytes."""
        capacities = {}
        for name, n_held in self.layout.capacity_neurons.items():
            block, given = layout.blocks[name], self.layout.layout.blocks[name]
            n_bytes = n_held * given.extent.bundle_bytes
            capacities[name] = min(block.n_neurons, n_bytes // block.extent.bundle_bytes)
        return capacities

    def simulation(self, trace: ActivationTrace) -> SimulationParams:
        """Return how the reader works, gates and hot rows apart."""
        knobs, params = self.knobs, self._params.simulate
        gap: int | str | None = None
        if knobs.collapse == "adaptive":
            gap = knobs.collapse
        elif knobs.collapse != "auto" and knobs.access != "mmap":
            gap = 0 if knobs.collapse == "off" else int(knobs.collapse)
        plan = self.layout.plan
        segments = None if plan is None else HotRows.of_plan(plan, self.layout.layout).segments
        cache = NoCache.policy if self._never_hits(trace) else self.layout.cache
        return SimulationParams(
            cache, {} if self.is_pooled else self.layout.capacity_neurons, gap, self._n_threads,
            self.compute(),
            admission=Admission.parse(knobs.admission, params.seed),
            reset_tokens=tuple(trace.segment_starts.tolist()) if params.reset_at_segments else (),
            pool_neurons=self.layout.pool_neurons if self.is_pooled else None,
            segments=segments,
        )  # fmt: skip

    def _never_hits(self, trace: ActivationTrace) -> bool:
        """Tell whether LRU drops each unit before it is used again, as where every token uses all and few have room.

        Then replaying it is spared: half of the time that such a system takes.
        """
        is_plain = self.layout.plan is None and not self.has_form and self.knobs.admission == "all"
        if not (self.knobs.uses_everything and self.layout.cache == Lru.policy and is_plain):
            return False
        n_neurons = {name: block.n_neurons for name, block in trace.blocks.items()}
        if self.is_pooled:
            reaches_all = all(block.token_index is None for block in trace.blocks.values())
            return reaches_all and self.layout.pool_neurons < sum(n_neurons.values())
        return all(self.layout.capacity_neurons.get(name, 0) < n for name, n in n_neurons.items())

    def compute(self) -> ComputeParams | None:
        """Return what computing costs: as given for a layer, else by the device's rates; None where it has none.

        A system that reads before it computes is a pipeline with barriers between the two, so that all systems are
        timed alike.
        """
        given, rates = self._params.simulate.compute, self.device.compute_rates
        if given is not None and self.knobs.overlap != PIPELINE:
            return replace(given, overlap=self.knobs.overlap, pipeline=None)
        barriers = self.knobs.barriers if self.knobs.overlap == PIPELINE else "serial"
        pipeline = PipelineParams(barriers=barriers)
        if given is not None:
            return replace(given, overlap=PIPELINE, pipeline=pipeline).on(self.device)
        sparse, dram = rates.sparse_thread_bytes_per_s, rates.dram_bytes_per_s
        if sparse is None or dram is None or rates.compute_threads is None:
            return None
        if self.knobs.uses_everything and rates.cpu_bytes_per_s is not None:
            sparse = rates.cpu_bytes_per_s / rates.compute_threads
        attention_us = PlanParams().attention_of(self._neuron_bytes(), dram)
        pipeline = replace(
            pipeline, n_threads=rates.compute_threads, thread_bytes_per_s=sparse, attention_us=attention_us
        )  # fmt: skip
        return ComputeParams(0.0, PIPELINE, pipeline=pipeline).on(self.device)

    def _with_dense_unit(self, compute: ComputeParams | None, plan: NeuronPlan) -> ComputeParams | None:
        """Return what computing costs where a dense unit takes the hot rows of a layer, on average over layers."""
        if compute is None or compute.pipeline is None:
            return compute
        counts = [block.hot[plan.batch_sizes[0]] for block in plan.blocks.values()]
        npu_us = sum(each.npu_us for each in counts) / len(counts)
        n_resident = round(sum(each.n_resident for each in counts) / len(counts))
        return replace(compute, pipeline=replace(compute.pipeline, npu_us=npu_us, npu_neurons=n_resident))

    def _neuron_bytes(self) -> int:
        """Return the bytes of a neuron's weights: of columns, those of the FFN over its neurons."""
        blocks = self.layout.layout.blocks
        ffn = ffn_of(next(iter(blocks)))
        parts = [block for name, block in blocks.items() if ffn_of(name) == ffn]
        n_bytes = sum(part.n_neurons * part.extent.bundle_bytes for part in parts)
        return n_bytes // blocks[ffn].n_neurons


def all_active(trace: ActivationTrace) -> ActivationTrace:
    """Return a trace in which every neuron is used for every token that reaches its block."""
    blocks = {}
    for name, block in trace.blocks.items():
        row = np.packbits(np.ones(block.n_neurons, bool), bitorder="little")
        blocks[name] = BlockTrace(block.n_neurons, np.tile(row, (block.n_rows, 1)), block.token_index)
    return replace(trace, blocks=blocks)
