"""Counts a whole trace: each block's profile and its statistics. Imported counts become a profile as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.blocks import unit_metadata
from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.graph.pair_counts import graph_of_pairs
from ripple_place.graph.profile import BlockProfile, Profile
from ripple_place.graph.statistics import BlockStatistics, block_statistics, count_statistics
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.trace.firing_counts import FiringCounts


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
    """Return the profile of firing counts that were imported: it has no trace, and graphs of the pairs that are known.

    Parameters
    ----------
    counts : FiringCounts
    n_neighbors : int
        Neighbours kept of each neuron, of the pairs that the counts have.
    """
    blocks = {
        name: BlockProfile(frequency, graph_of_pairs(frequency.size, counts.pairs.get(name), n_neighbors))
        for name, frequency in counts.blocks.items()
    }
    statistics = {name: count_statistics(block.frequency, counts.n_tokens) for name, block in blocks.items()}
    counted_as = unit_metadata(counts.unit) | ({} if counts.model is None else {"model": counts.model})
    return Profile(blocks, n_neighbors, None, counted_as=counted_as), statistics
