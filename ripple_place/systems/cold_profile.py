"""A profile without its hot neurons: what is left for an ordering to bring together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.graph.profile import BlockProfile, Profile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import AnyArray, BoolArray
    from ripple_place.storedarray import StoredArray

CHUNK_ROWS = 1024
"""Rows of a trace that are cleared at a time."""


def cold_profile(profile: Profile, is_hot: Mapping[str, BoolArray]) -> Profile:
    """Return a profile in which hot neurons never fire.

    Parameters
    ----------
    profile : Profile
    is_hot : mapping of str to ndarray of shape (n_neurons,), bool
        By block; blocks that are not named stay as they are.

    Notes
    -----
    Costs the memory of the trace's bits once more, and time linear in them. Counts of pairs of which one is hot are 0,
    as they would be if the cleared bits were counted.
    """
    blocks, traces = dict(profile.blocks), {} if profile.trace is None else dict(profile.trace.blocks)
    for name, hot in is_hot.items():
        blocks[name] = _cold_block(profile.blocks[name], hot)
        if profile.trace is not None:
            block = profile.trace.blocks[name]
            traces[name] = replace(block, active=_cleared(block.active, hot), magnitudes=None, predicted=None)
    trace = None if profile.trace is None else replace(profile.trace, blocks=traces)
    return Profile(blocks, profile.n_neighbors, trace)


def _cold_block(block: BlockProfile, hot: BoolArray) -> BlockProfile:
    """Return the counts without hot neurons."""
    from scipy.sparse import coo_array

    pairs = block.graph.tocoo()
    kept = ~(hot[pairs.row] | hot[pairs.col])
    graph = coo_array((pairs.data[kept], (pairs.row[kept], pairs.col[kept])), shape=block.graph.shape).tocsr()
    return BlockProfile(np.where(hot, 0, block.frequency), graph)


def _cleared(active: AnyArray | StoredArray, hot: BoolArray) -> AnyArray:
    """Return packed bits with those of hot neurons cleared."""
    keep = ~np.packbits(hot, bitorder="little")
    cleared = np.empty(active.shape, np.uint8)
    for first in range(0, active.shape[0], CHUNK_ROWS):
        rows = slice(first, first + CHUNK_ROWS)
        cleared[rows] = np.asarray(active[rows]) & keep
    return cleared
