"""Systems at one DRAM budget: each with its own order, cache, reads and rule, on one trace or in one model."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import COLUMN, NEURON, select_layers
from ripple_place.bundle_sizes import sizes_of_blocks
from ripple_place.errors import UsageError
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import load_device
from ripple_place.flash.simulator import simulate
from ripple_place.graph.profile import read_profile
from ripple_place.predict.params import PREDICTED
from ripple_place.scoring.hot_rows import fired_accesses
from ripple_place.scoring.layouts import existing_profile
from ripple_place.scoring.predictions import PredictedActivity, activity_to_json
from ripple_place.scoring.score import trace_warnings
from ripple_place.scoring.source import open_source
from ripple_place.scoring.system_checks import check_chosen, has_no_zeros
from ripple_place.scoring.system_layouts import SystemLayouts
from ripple_place.scoring.system_reader import SystemReader
from ripple_place.scoring.system_result import SystemResult
from ripple_place.scoring.system_rules import RulesOfSystems
from ripple_place.tracking import no_track

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ripple_place.capture.rules_in_model import ModelText
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.results import LayoutResult
    from ripple_place.graph.profile import Profile
    from ripple_place.scoring.system_params import SystemParams
    from ripple_place.scoring.system_reader import ServedTrace
    from ripple_place.systems.knobs import Knobs
    from ripple_place.systems.system import System
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.tracking import Track


@dataclass(frozen=True, eq=False)
class SystemScores:
    """What systems cost.

    Attributes
    ----------
    device : DeviceProfile
    params : SystemParams
    traces : tuple of str
        Names of the sources' files.
    n_tokens : int
    budget_bytes : int
        DRAM of each system.
    model_bytes : int
        Of all units.
    results : tuple of SystemResult
        In the order in which systems were named.
    warnings : tuple of str
    predicted : PredictedActivity or None
        None: what fires is served.
    """

    device: DeviceProfile
    params: SystemParams
    traces: tuple[str, ...]
    n_tokens: int
    budget_bytes: int
    model_bytes: int
    results: tuple[SystemResult, ...]
    warnings: tuple[str, ...] = ()
    predicted: PredictedActivity | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``simulate --system --json``."""
        first = self.results[0].result
        return {
            "device": self.device.name,
            "traces": list(self.traces),
            "n_tokens": self.n_tokens,
            "dram_budget_bytes": self.budget_bytes,
            "model_bytes": self.model_bytes,
            **activity_to_json(self.predicted),
            "baseline": self.results[0].system.name,
            "layouts": [result.to_json(first) for result in self.results],
            "warnings": list(self.warnings),
        }


def score_systems(sources: Sequence[Path], params: SystemParams, track: Track = no_track) -> SystemScores:
    """Return what systems cost at one DRAM budget.

    Parameters
    ----------
    sources : sequence of Path
        Traces, or one model, which reads the text of ``params.simulate.capture``; then rules that drop something run
        inside it.
    params : SystemParams
    track : Track
        Receives progress updates.

    Raises
    ------
    UsageError
        If a system does not fit the sources, or lacks a profile, a text to tune on, or a size of bundles.
    TraceFormatError, PlacementError, CheckpointError, DeviceConfigError, UnsupportedError, OSError
        As `ripple_place.scoring.score.score`.
    """
    systems, profiles = params.parsed(), _profiles(params)
    tuned = RulesOfSystems(sources, params, track)
    results: dict[str, SystemResult] = {}
    summary: dict[str, Any] = {}
    # Neurons first: their activity says whether activations are ever zero, on which knobs depend.
    chosen: dict[str, Knobs] | None = None
    for unit in (NEURON, COLUMN):
        if chosen is not None and not any(knobs.unit == unit for knobs in chosen.values()):
            continue
        simulation = params.simulate
        if simulation.capture is not None:
            simulation = replace(simulation, capture=replace(simulation.capture, unit=unit))
        with open_source(sources, simulation, track) as (trace, model):
            trace = trace.select(select_layers(trace.blocks, simulation.layers))
            if chosen is None:
                is_dense = has_no_zeros(trace)
                chosen = {system.name: system.dense if is_dense else system.knobs for system in systems}
                check_chosen(chosen, trace, is_dense=is_dense, is_model=model is not None)
            scorer = _UnitScorer(trace, model, profiles.get(trace.unit), params, tuned, track)
            for system in systems:
                if (knobs := chosen[system.name]).unit == trace.unit:
                    scorer.add(system, knobs)
            results |= scorer.results()
            summary = summary or scorer.summary()
        if model is None:
            break
    return SystemScores(
        results=tuple(results[system.name] for system in systems), params=params,
        traces=tuple(path.name for path in sources), **summary,
    )  # fmt: skip


class _UnitScorer:
    """Scores the systems of one unit."""

    def __init__(
        self, trace: ActivationTrace, model: ModelText | None, profile: Profile | None, params: SystemParams,
        tuned: RulesOfSystems, track: Track,
    ) -> None:  # fmt: skip
        self._params, self._model, self._tuned, self._track = params, model, tuned, track
        self._predicted = None
        if params.simulate.activity == PREDICTED and model is None:
            self._predicted, trace = PredictedActivity(trace.predicted_recall), trace.as_predicted()
        self._trace, self._profile = trace, profile
        sizes = _sizes(trace, model, params)
        span_bytes = sum(size * trace.blocks[name].n_neurons for name, size in sizes.items())
        self._span_bytes = span_bytes
        self._profile_of_device = load_device(str(params.simulate.device))
        at_rest = under(self._profile_of_device, ReadConditions(), span_bytes)
        self._layouts = SystemLayouts(trace, sizes, profile, params, at_rest, track)
        self._readers: dict[str, tuple[System, SystemReader]] = {}

    def add(self, system: System, knobs: Knobs) -> None:
        """Prepare a system: order its units, and set up its reader."""
        layout = self._layouts.of(system.name, knobs)
        conditions = replace(
            self._params.simulate.conditions, access=knobs.access,
            queue_depth=int(knobs.queue_depth) if knobs.queue_depth else None,
        )  # fmt: skip
        device = under(self._profile_of_device, conditions, self._span_bytes)
        n_threads = self._params.simulate.n_threads or os.cpu_count() or 1
        n_parts = None if self._model is None else self._model.n_parts
        reader = SystemReader(knobs, layout, device, self._params, n_threads, n_parts)
        self._readers[system.name] = system, reader

    def results(self) -> dict[str, SystemResult]:
        """Return what each system costs."""
        results = {}
        lossy = {name: (system, reader) for name, (system, reader) in self._readers.items() if reader.is_lossy}
        for name, (system, reader) in self._track(
            [(name, pair) for name, pair in self._readers.items() if name not in lossy], "simulating systems"
        ):
            served = reader.served(self._trace)
            results[name] = self._result(system, reader, served, *_simulated(served))
        readers = {name: reader for name, (_, reader) in lossy.items()}
        found = self._tuned.run(readers, self._trace, self._model, self._profile)
        for name, result in found.items():
            system, reader = lossy[name]
            results[name] = self._result(system, reader, reader.as_it_is(self._trace), result)
        return results

    def _result(
        self, system: System, reader: SystemReader, served: ServedTrace, result: LayoutResult,
        hit_ratio: float | None = None,
    ) -> SystemResult:  # fmt: skip
        predictor = None if self._profile is None else self._profile.predictor
        known = {} if predictor is None else predictor.blocks
        n_bytes = sum(block.n_bytes for name, block in known.items() if name in self._trace.blocks) or None
        return SystemResult(system, reader.knobs, reader.layout, result, served.dram_bytes, n_bytes, hit_ratio)

    def summary(self) -> dict[str, Any]:
        """Return the fields of `SystemScores` that do not depend on systems."""
        device = under(self._profile_of_device, self._params.simulate.conditions, self._span_bytes)
        return {
            "device": device, "n_tokens": self._trace.n_tokens, "budget_bytes": self._layouts.budget_bytes(),
            "model_bytes": self._span_bytes, "warnings": tuple(trace_warnings(self._trace, device)),
            "predicted": self._predicted,
        }  # fmt: skip


def _simulated(served: ServedTrace) -> tuple[LayoutResult, float | None]:
    """Return what serving a trace costs, and the hit ratio of what fires where other rows are asked for as well."""
    result = simulate(served.trace, served.layout, served.device, served.params)
    if served.hot is not None:
        return result, served.hot.hit_ratio(result, served.fires, served.params.reset_tokens)
    n_fired, n_hits = fired_accesses(result)
    return result, n_hits / n_fired if n_fired else None


def _profiles(params: SystemParams) -> dict[str, Profile]:
    """Read the profiles, one a unit."""
    profiles: dict[str, Profile] = {}
    for path in params.profiles:
        profile = read_profile(existing_profile(path))
        if profile.unit in profiles:
            raise UsageError(
                f"--profile {path}", found=f"a second profile of {profile.unit}s", expected="one a unit",
                remedy="leave one out",
            )  # fmt: skip
        profiles[profile.unit] = profile
    return profiles


def _sizes(trace: ActivationTrace, model: ModelText | None, params: SystemParams) -> Mapping[str, int]:
    """Return the bytes of a unit's weights by block: as asked for, else as the model has them."""
    if params.simulate.bundle_bytes is not None:
        return sizes_of_blocks(params.simulate.bundle_bytes, trace.unit, trace.blocks)
    if model is not None and model.bundle_bytes.keys() >= trace.blocks.keys():
        return {name: model.bundle_bytes[name] for name in trace.blocks}
    raise UsageError(
        "--system", found="nothing that says how long a neuron's weights are", expected="a bundle size",
        remedy="add --bundle-bytes (for instance 2 x hidden size x bytes per weight)",
    )  # fmt: skip
