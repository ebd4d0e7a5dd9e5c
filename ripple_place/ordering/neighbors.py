"""Candidate neighbours by similarity: who fires when a neuron does, whatever their rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.graph.pair_panels import PairPanels
from ripple_place.kernels.similarity import counts_to_similarity
from ripple_place.kernels.top_neighbors import LOW_BITS, update_top_neighbors

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array
    from ripple_place.graph.neuron_bits import NeuronBits


def nearest_by_cosine(bits: NeuronBits, n_neighbors: int) -> Int32Array:
    """Return each neuron's most similar neurons by ``f(i, j) / sqrt(f(i) f(j))``.

    Raw counts would point all neurons to the hottest ones, which have room beside two neighbours only.

    Parameters
    ----------
    bits : NeuronBits
    n_neighbors : int

    Returns
    -------
    ndarray of shape (n_neurons, n_neighbors), int32
        Best first, ties by lowest neuron; -1 where a neuron fires together with fewer.

    Notes
    -----
    From the counts of all pairs that ever fire together (`ripple_place.graph.pair_panels`), which is what it costs;
    squares of cosines are compared in units of 2**-30.
    """
    n_neighbors = min(n_neighbors, bits.n_neurons - 1)
    nearest = np.full((bits.n_neurons, n_neighbors), -1, np.int32)
    if n_neighbors == 0:
        return nearest
    frequency = bits.frequency()
    pairs = PairPanels(bits, frequency=frequency)
    by_rank = frequency[pairs.neurons]
    heaps = np.zeros((by_rank.size, n_neighbors), np.int64)
    for start, panel in pairs.panels():
        counts_to_similarity(panel, start, by_rank)
        update_top_neighbors(panel, start, pairs.neurons, heaps)
    # Keys hold the similarity above, and below it what makes the lower of equal neurons the greater key.
    keys = -np.sort(-heaps, axis=1)
    nearest[pairs.neurons] = np.where(keys > 0, LOW_BITS - (keys & LOW_BITS), -1)
    return nearest
