"""Place neurons by a plan: the hot ones first and in sequence, the cold ones in an order made for them alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ripple_place.blocks import NEURON
from ripple_place.errors import UsageError
from ripple_place.placing.dram.split import budget_bytes_of
from ripple_place.placing.place import place_neurons
from ripple_place.systems.cold_profile import cold_profile
from ripple_place.systems.hot_first import are_hot, hot_first, hot_neurons
from ripple_place.systems.plan_params import POWERINFER2
from ripple_place.systems.planner import make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.flash.read_cost import ReadCosts
    from ripple_place.graph.profile import Profile
    from ripple_place.placement import ModelPlacement
    from ripple_place.placing.params import PlacingParams
    from ripple_place.placing.placed import Placed
    from ripple_place.systems.plan import NeuronPlan
    from ripple_place.systems.plan_params import PlanParams
    from ripple_place.tracking import Track

_OPTION = f"--plan {POWERINFER2}"


def check_plan(placing: PlacingParams, *, tunes: bool = False) -> None:
    """Refuse what a plan does not go with, before the long part.

    Raises
    ------
    UsageError
        If there is no DRAM budget, or options ask for what the plan decides itself, or (`tunes`) for rules to be tuned.
    """
    option = _OPTION
    if placing.dram_budget is None:
        raise UsageError(
            option, found="no DRAM budget", expected="what hot neurons are resident in", remedy="add --dram-budget 50%"
        )
    for flag, is_given in (
        ("--cache", placing.cache is not None), ("--copies 2", placing.copies == 2),
        ("--granule", placing.granule > 1), ("--break-even-gap", placing.break_even_gap is not None),
        ("--select", tunes),
    ):  # fmt: skip
        if is_given:
            raise UsageError(
                option, found=f"{flag} as well", expected="a plan, which decides by the device's rates what stays in "
                "DRAM, of one copy of single neurons", remedy=f"leave {flag.split()[0]} out",
            )  # fmt: skip


def place_by_plan(
    profile: Profile, names: Sequence[str], placing: PlacingParams, costs: ReadCosts, params: PlanParams, track: Track
) -> tuple[Placed, ModelPlacement, NeuronPlan]:  # fmt: skip
    """Return how the cold neurons were placed, the placement with the hot ones first, and the plan.

    Parameters
    ----------
    profile : Profile
    names : sequence of str
        Blocks, in model order.
    placing : PlacingParams
        Resolved; its DRAM budget is the plan's, and the cold neurons are ordered without regard to it. The rates of its
        device divide the neurons.
    costs : ReadCosts
    params : PlanParams
    track : Track
        Receives progress.

    Raises
    ------
    UsageError
        If the blocks are of columns, or their bundles have different sizes.
    TraceFormatError
        As `ripple_place.placing.place.place_neurons`.
    """
    if profile.unit != NEURON:
        raise UsageError(
            _OPTION, found=f"a profile of {profile.unit}s", expected="one of neurons",
            remedy="profile the model with --unit neuron, or leave --plan out",
        )  # fmt: skip
    plan = _plan(profile, names, placing, costs, params)
    hot = hot_neurons({name: profile.blocks[name].frequency for name in names}, plan)
    cold = cold_profile(profile, are_hot(hot, plan))
    ordering = replace(placing, dram_budget=None, cache=None)
    placed = place_neurons(cold, names, ordering, costs, track)
    counted = {
        name: replace(block, frequency=profile.blocks[name].frequency)
        for name, block in placed.placement.blocks.items()
    }
    origin = {**placed.placement.metadata, "profile": profile.digest}
    return placed, hot_first(replace(placed.placement, blocks=counted, metadata=origin), hot, plan), plan


def _plan(
    profile: Profile, names: Sequence[str], placing: PlacingParams, costs: ReadCosts, params: PlanParams
) -> NeuronPlan:  # fmt: skip
    """Return which neurons are hot, for a budget in neurons of one size."""
    if not costs.bundle_bytes:
        raise UsageError(
            _OPTION, found="nothing that says how long a neuron's weights are", expected="a bundle size",
            remedy="add --bundle-bytes 8KiB, or name the checkpoint",
        )  # fmt: skip
    sizes = {name: costs.bundle_bytes[name] for name in names}
    if len(set(sizes.values())) > 1:
        raise UsageError(
            _OPTION, found="blocks whose neurons differ in size", expected="one size: what is resident is "
            "counted in neurons of the whole model", remedy="plan the blocks of one size with --layers",
        )  # fmt: skip
    assert placing.dram_budget is not None
    assert placing.device_profile is not None
    n_neurons = {name: profile.blocks[name].n_neurons for name in names}
    dram_neurons = budget_bytes_of(placing.dram_budget, n_neurons, sizes) // next(iter(sizes.values()))
    frequency = {name: profile.blocks[name].frequency / _rows_of(profile, name) for name in names}
    return make_plan(frequency, sizes, min(dram_neurons, sum(n_neurons.values())), placing.device_profile, params)


def _rows_of(profile: Profile, name: str) -> int:
    """Return how many tokens reached a block; of imported counts, as many as its most frequent neuron fired for."""
    if profile.trace is not None:
        return max(1, profile.trace.blocks[name].n_rows)
    return max(1, int(profile.blocks[name].frequency.max(initial=0)))
