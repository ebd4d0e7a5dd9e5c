"""Maximum spanning trees over all pairs of neurons under penalties: the inner step of the Held-Karp bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

HIGHEST = np.int32((1 << 31) - 1)
FAR = np.int32(1 << 30)
"""Weights and penalties stay below half of it in size."""
CHUNK = 512


@compiled
def mirror(counts: Array) -> None:
    """Copy what lies above the diagonal of a square matrix below it, in place, tile by tile."""
    n, tile = counts.shape[0], 64
    for i0 in range(0, n, tile):
        for j0 in range(i0, n, tile):
            for i in range(i0, min(i0 + tile, n)):
                for j in range(max(j0, i + 1), min(j0 + tile, n)):
                    counts[j, i] = counts[i, j]


@compiled
def _offer(row: Array, scale: Any, own: Any, neuron: Any, penalty: Array, best: Array, parent: Array) -> Any:
    """Offer a neuron that joined the tree to a stretch of others, in place; return the greatest weight there.

    All in 32 bits and without branches, so that the loop takes whole vectors.
    """
    top = np.int32(-HIGHEST)
    for j in range(row.size):
        offered = np.int32(np.int32(scale * row[j]) - own)
        known = best[j]
        is_better = offered > known
        known = offered if is_better else known
        parent[j] = neuron if is_better else parent[j]
        best[j] = known
        weight = np.int32(known - penalty[j])
        top = weight if weight > top else top
    return top


@compiled
def spanning_tree(counts: Array, scale: int, penalty: Array, remaining: Array, best: Array, parent: Array) -> Any:
    """Find a maximum spanning tree for the weights ``scale * f(i, j) - penalty[i] - penalty[j]``; return its weight.

    Parameters
    ----------
    counts : ndarray of shape (>= n_neurons, >= n_neurons), int32
        Symmetric off the diagonal.
    scale : int
    penalty : ndarray of shape (n_neurons,), int32
        Absolutely, ``scale * f(i, j) + 2 * penalty[i]`` stays below `FAR`.
    remaining, best : ndarray of shape (n_neurons,), int32
        Scratch.
    parent : ndarray of shape (n_neurons,), int32
        Written: each neuron's neighbour on the way to neuron 0; -1 for that one.

    Notes
    -----
    Prim's algorithm by whole rows: O(n^2) time, n reads of a row. Of equal weights the lowest neuron joins first.
    """
    n = parent.size
    scale_32 = np.int32(scale)
    # A neuron in the tree takes no offer and weighs less than any other.
    best[:] = -FAR
    remaining[:] = penalty
    best[0], remaining[0], parent[0] = FAR, HIGHEST, -1
    weight = np.int64(0)
    neuron = np.int32(0)
    for _ in range(1, n):
        row = counts[neuron]
        own = penalty[neuron]
        top, top_start = np.int32(-HIGHEST), 0
        for start in range(0, n, CHUNK):
            end = min(start + CHUNK, n)
            chunk_top = _offer(
                row[start:end], scale_32, own, neuron, remaining[start:end], best[start:end], parent[start:end]
            )
            if chunk_top > top:
                top, top_start = chunk_top, start
        following = top_start
        while np.int64(best[following]) - remaining[following] != top:
            following += 1
        weight += np.int64(top)
        best[following], remaining[following] = FAR, HIGHEST
        neuron = np.int32(following)
    return weight
