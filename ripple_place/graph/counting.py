"""Counts a whole trace: each block's profile and its statistics. Imported counts become a profile as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.graph.profile import BlockProfile, Profile
from ripple_place.graph.statistics import BlockStatistics, block_statistics, count_statistics
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.trace.counts import FiringCounts


def count_trace(
    trace: ActivationTrace, n_neighbors: int, track: Track = no_track
) -> tuple[Profile, dict[str, BlockStatistics]]:
    """Count firings and co-firings of every block.

    Parameters
    ----------
    trace : ActivationTrace
    n_neighbors : int
        Neighbours kept of each neuron.
    track : Track
        Receives progress updates.

    Returns
    -------
    Profile
    dict of str to BlockStatistics
        By block, in model order.

    Notes
    -----
    Blocks are counted one after the other: memory is that of one block's bits and graph, besides the graphs kept.
    """
    blocks, statistics = {}, {}
    for name, block in track(trace.blocks.items(), "counting co-activations"):
        bits = NeuronBits.of_block(block)
        blocks[name] = BlockProfile(bits.frequency(), neighbor_graph(bits, n_neighbors))
        statistics[name] = block_statistics(blocks[name].frequency, blocks[name].graph, bits)
    return Profile(blocks, n_neighbors, trace), statistics


def profile_of_counts(counts: FiringCounts, n_neighbors: int) -> tuple[Profile, dict[str, BlockStatistics]]:
    """Return the profile of firing counts that were imported: its graphs are empty, and it has no trace.

    Parameters
    ----------
    counts : FiringCounts
    n_neighbors : int
        Recorded in the profile.
    """
    from scipy.sparse import csr_array

    blocks = {
        name: BlockProfile(frequency, csr_array((frequency.size, frequency.size), dtype=np.int32))
        for name, frequency in counts.blocks.items()
    }
    statistics = {name: count_statistics(block.frequency, counts.n_tokens) for name, block in blocks.items()}
    return Profile(blocks, n_neighbors, None), statistics
