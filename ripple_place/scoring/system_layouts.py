"""The layout of a system: its order made from a profile, and the DRAM that goes with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ripple_place.blocks import unit_metadata
from ripple_place.errors import UsageError
from ripple_place.flash.layout import BlockExtent, Layout
from ripple_place.flash.read_cost import ReadCosts
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.placing.dram.split import budget_bytes_of, split_evenly
from ripple_place.placing.params import PlacingParams
from ripple_place.placing.place import place_neurons
from ripple_place.placing.recorded_dram import RecordedDram
from ripple_place.scoring.layouts import read_layout
from ripple_place.systems.place import place_by_plan
from ripple_place.systems.plan import NeuronPlan
from ripple_place.systems.plan_params import PlanParams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import Int64Array
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.graph.profile import Profile
    from ripple_place.scoring.system_params import SystemParams
    from ripple_place.systems.knobs import Knobs
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.tracking import Track


@dataclass(frozen=True, eq=False)
class SystemLayout:
    """Where a system's units lie, and what it keeps in DRAM.

    Attributes
    ----------
    layout : Layout
    cache : str
        Policy.
    capacity_neurons : mapping of str to int
        By block, where each has a cache of its own.
    plan : NeuronPlan or None
        What is hot, if the system plans that.
    """

    layout: Layout
    cache: str
    capacity_neurons: Mapping[str, int]
    plan: NeuronPlan | None = None

    @property
    def pool_neurons(self) -> int:
        """What all blocks may hold together."""
        return sum(self.capacity_neurons.values())


class SystemLayouts:
    """Makes the layouts of systems of one unit; each order is made once.

    Parameters
    ----------
    trace : ActivationTrace
        Of what will be simulated; its blocks are laid out.
    sizes : mapping of str to int
        Bytes of a unit's weights by block.
    profile : Profile or None
        What orders are made from.
    params : SystemParams
    device : DeviceProfile
    track : Track
        Receives progress.
    """

    def __init__(
        self, trace: ActivationTrace, sizes: Mapping[str, int], profile: Profile | None, params: SystemParams,
        device: DeviceProfile, track: Track,
    ) -> None:  # fmt: skip
        self._trace, self._sizes, self._profile, self._params = trace, dict(sizes), profile, params
        self._device, self._track = device, track
        self._made: dict[tuple[str, ...], tuple[ModelPlacement, NeuronPlan | None]] = {}
        if profile is not None:
            _check_profile(trace, profile)

    def of(self, name: str, knobs: Knobs) -> SystemLayout:
        """Return the layout of a system.

        Raises
        ------
        UsageError
            If it orders units, or pins them, by a profile that is not given, or its layout was made for more DRAM.
        PlacementError, CheckpointError, TraceFormatError, OSError
            If its layout or the profile is malformed or of another model.
        """
        placement, plan = self._placement(name, knobs)
        blocks = {block: replace(placement.blocks[block], frequency=self._frequency(block)) for block in self._sizes}
        extents = {block: BlockExtent.packed(size) for block, size in self._sizes.items()}
        placed_blocks = ModelPlacement(blocks, unit_metadata(self._trace.unit))
        layout = Layout.from_extents(name, placed_blocks, extents)
        recorded = RecordedDram.of(name, placement) if knobs.for_dram == "yes" else None
        if knobs.for_dram == "yes" and knobs.layout:
            self._check_budget(name, recorded)
        if recorded is not None:
            capacity = {block: recorded.capacity_neurons.get(block, 0) for block in self._sizes}
            return SystemLayout(layout, recorded.cache, capacity, plan)
        n_neurons = {block: placed.n_neurons for block, placed in blocks.items()}
        capacity = split_evenly(self._params.budget, n_neurons, self._sizes)
        return SystemLayout(layout, knobs.cache, capacity, plan)

    def budget_bytes(self) -> int:
        """Return the DRAM budget in bytes."""
        n_neurons = {block: self._trace.blocks[block].n_neurons for block in self._sizes}
        return budget_bytes_of(self._params.budget, n_neurons, self._sizes)

    def _check_budget(self, name: str, recorded: RecordedDram | None) -> None:
        """Refuse a placement that was not made for DRAM, or for more of it than systems have here."""
        split = {} if recorded is None else recorded.capacity_neurons
        n_bytes = sum(split.get(block, 0) * size for block, size in self._sizes.items())
        if recorded is None or n_bytes > self.budget_bytes():
            raise UsageError(
                f"--system {name}: layout", found="no DRAM budget" if recorded is None else f"one of {n_bytes} bytes",
                expected=f"a placement made for at most {self.budget_bytes()} bytes of DRAM",
                remedy="reorder again with --dram-budget as here, or add for_dram=no and a cache, such as cache=s3fifo",
            )  # fmt: skip

    def _frequency(self, block: str) -> Int64Array | None:
        return None if self._profile is None else self._profile.blocks[block].frequency

    def _placement(self, name: str, knobs: Knobs) -> tuple[ModelPlacement, NeuronPlan | None]:
        """Return a system's order, made for it or for another one that orders alike."""
        if knobs.layout:
            placement = read_layout(knobs.layout, self._trace).placement
            return placement, NeuronPlan.of(knobs.layout, placement) if knobs.plan == "yes" else None
        if knobs.ordering == "original" and knobs.plan == "no":
            originals = {
                block: NeuronPlacement.original(active.n_neurons) for block, active in self._trace.blocks.items()
            }
            return ModelPlacement(originals, unit_metadata(self._trace.unit)), None
        if self._profile is None:
            raise UsageError(
                f"--system {name}", found=f"no profile of {knobs.unit}s", expected="one that its order is made from",
                remedy="add --profile FILE, made of other text than what is simulated",
            )  # fmt: skip
        key = (knobs.ordering, knobs.for_dram, knobs.cache if knobs.for_dram == "yes" else "", knobs.plan)
        if key not in self._made:
            self._made[key] = self._make(self._profile, knobs)
        return self._made[key]

    def _make(self, profile: Profile, knobs: Knobs) -> tuple[ModelPlacement, NeuronPlan | None]:
        """Order units by a profile."""
        budgeted = knobs.for_dram == "yes" or knobs.plan == "yes"
        placing = PlacingParams(
            ordering=knobs.ordering, seed=self._params.simulate.seed, device=self._device, effort=self._params.effort,
            n_threads=self._params.simulate.n_threads, dram_budget=self._params.budget if budgeted else None,
            cache=knobs.cache if knobs.for_dram == "yes" else None,
        ).resolved(has_rows=profile.trace is not None, has_sizes=True)  # fmt: skip
        costs, names = ReadCosts(self._device, None, self._sizes), list(self._sizes)
        if knobs.plan == "yes":
            _, placement, plan = place_by_plan(profile, names, placing, costs, PlanParams(), self._track)
            return placement, plan
        return place_neurons(profile, names, placing, costs, self._track).placement, None


def _check_profile(trace: ActivationTrace, profile: Profile) -> None:
    """Refuse a profile of another model than the trace."""
    for name, block in trace.blocks.items():
        learned = profile.blocks.get(name)
        if learned is None or learned.n_neurons != block.n_neurons:
            raise UsageError(
                "--profile", found=f"no {name}" if learned is None else f"{learned.n_neurons} neurons in {name}",
                expected=f"{block.n_neurons}, as in what is simulated", remedy="give a profile of the same model",
            )  # fmt: skip
