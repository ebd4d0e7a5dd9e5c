"""A profile in which every granule of neighbouring neurons is one neuron."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.graph.profile import BlockProfile, Profile
from ripple_place.ordering.granule import granule_frequency, granule_trace


def coarse_profile(profile: Profile, names: list[str], granule: int) -> Profile:
    """Return the profile with granules in the named blocks: one fires when any of its neurons does."""
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
