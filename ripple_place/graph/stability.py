"""Whether two texts agree on which neurons fire together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.graph.statistics import MIN_FIRINGS, N_BEST

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array, Int64Array
    from ripple_place.graph.neuron_bits import NeuronBits


MAX_SAMPLED = 256
"""Neurons whose companions are looked at: their mean is known to about 2 points."""
CHUNK_PAIRS = 2**20


def neighbors_kept(one: NeuronBits, other: NeuronBits) -> tuple[float, float] | None:
    """Return the share of best companions that two traces of a block agree on, and what chance would give.

    Parameters
    ----------
    one, other : NeuronBits
        Of the same block.

    Returns
    -------
    tuple of float, or None
        Of each neuron's 8 best companions in `one`, the share that is among its 8 best in `other`; neurons count by
        how often they fire, since that is how often their place matters. None if fewer than 16 neurons fire 8 times
        or more in both.

    Notes
    -----
    The best companions of i are those j that fire with it most above chance, by ``(f(i,j) - e) / sqrt(e)`` with e =
    f(i) f(j) / n_rows: where neurons fire by themselves it is spread alike whatever f(j), so that the two agree by
    chance alone. (Counts would prefer hot neurons, and agree on those; ratios to e prefer rare ones, which are noise.)
    All neurons that fire often enough are candidates, not those of a neighbour graph, which both traces would have
    chosen together. Of equal ones the lower neuron comes first. Up to `MAX_SAMPLED` neurons are looked at, spread
    evenly by id: n_neurons x n_rows / 64 popcounts each.
    """
    firings = [bits.frequency() for bits in (one, other)]
    often = np.flatnonzero(np.minimum(*firings) >= MIN_FIRINGS).astype(np.int32)
    if often.size < 2 * N_BEST:
        return None
    sampled = often[np.linspace(0, often.size - 1, min(often.size, MAX_SAMPLED)).round().astype(np.int64)]
    n_agreed = np.empty(sampled.size)
    step = max(1, CHUNK_PAIRS // often.size)
    for start in range(0, sampled.size, step):
        chunk = sampled[start : start + step]
        best = [_best(bits, firing, chunk, often) for bits, firing in zip((one, other), firings, strict=True)]
        n_agreed[start : start + chunk.size] = (best[0][:, :, None] == best[1][:, None, :]).sum((1, 2))
    weight = (firings[0] + firings[1])[sampled]
    return float(weight @ n_agreed / (N_BEST * weight.sum())), N_BEST / (often.size - 1)


def _best(bits: NeuronBits, firing: Int64Array, neurons: Int32Array, candidates: Int32Array) -> Int64Array:
    """Return places in `candidates` of each neuron's best companions; shape (n, 8)."""
    together = bits.pair_counts(np.repeat(neurons, candidates.size), np.tile(candidates, neurons.size))
    expected = np.outer(firing[neurons], firing[candidates]) / bits.n_rows
    excess = (together.reshape(expected.shape) - expected) / np.sqrt(expected)
    excess[neurons[:, None] == candidates[None, :]] = -np.inf
    return np.argsort(-excess, axis=1, kind="stable")[:, :N_BEST]
