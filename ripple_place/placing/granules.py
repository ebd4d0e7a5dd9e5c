"""Placing granules: groups of neighbouring neurons that move as if each were a neuron."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from ripple_place.errors import UsageError
from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.graph.profile import BlockProfile, Profile
from ripple_place.ordering.granule import expand_order, granule_frequency, granule_trace
from ripple_place.placement import NeuronPlacement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.flash.read_cost import ReadCosts
    from ripple_place.placing.params import PlacingParams
    from ripple_place.placing.placed import Placed


def check_granules(params: PlacingParams) -> None:
    """Refuse granules with a DRAM budget or a second copy.

    Raises
    ------
    UsageError
        In these cases.
    """
    if params.dram_budget is not None or params.copies == 2:
        raise UsageError(
            "--granule", found="--dram-budget or --copies 2 as well", expected="one of the two",
            remedy="leave one out: caches and second copies are of neurons, not granules",
        )  # fmt: skip


def coarse_profile(profile: Profile, names: Sequence[str], granule: int) -> Profile:
    """Return the profile with granules in the named blocks: a granule fires when any of its neurons does."""
    blocks, traces = dict(profile.blocks), {}
    for name in names:
        frequency = granule_frequency(profile.blocks[name].frequency, granule)
        graph = csr_array((frequency.size, frequency.size), dtype=np.int32)
        if profile.trace is not None:
            traces[name] = granule_trace(profile.trace.blocks[name], granule)
            graph = neighbor_graph(NeuronBits.of_block(traces[name]), profile.n_neighbors)
        blocks[name] = BlockProfile(frequency, graph)
    trace = profile.trace and replace(profile.trace, blocks=traces)
    return Profile(blocks, profile.n_neighbors, trace)


def coarse_costs(costs: ReadCosts, granule: int) -> ReadCosts:
    """Return what reads cost where a bundle is a whole granule."""
    return replace(costs, bundle_bytes={name: size * granule for name, size in costs.bundle_bytes.items()})


def expand_placed(placed: Placed, profile: Profile, granule: int, origin: Mapping[str, str]) -> Placed:
    """Return the placement of the neurons, given that of their granules; the reports still count granules."""
    blocks = {}
    for name, block in placed.blocks.items():
        learned = profile.blocks[name]
        order = expand_order(block.placement.order, granule, learned.n_neurons)
        blocks[name] = replace(block, placement=NeuronPlacement(order, frequency=learned.frequency))
    return replace(placed, blocks=blocks, metadata={**origin, "granule": str(granule)})
