"""Keep each neuron's most frequent companions, and make a symmetric graph of them.

Neurons stand in some order, by rank; companions are named by id, which breaks ties whatever the order. A companion is
a key ``count << 32 | (2**32 - 1 - id)``: of equal counts the lower id is the greater key. 0 is no companion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import prange

from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

LOW_BITS = (1 << 32) - 1
_COLUMNS = 16
"""Counts of a cache line."""


class Companions(NamedTuple):
    """The companions that each neuron keeps.

    Attributes
    ----------
    heaps : ndarray of shape (n_ranked, n_neighbors), int64
        By rank, a min-heap of keys, as `update_top_neighbors` leaves it.
    neurons : ndarray of shape (n_ranked,), int32
        Ids by rank.
    rank_of : ndarray of shape (n_neurons,), int32
        Ranks by id.
    """

    heaps: Any
    neurons: Any
    rank_of: Any


@compiled
def _offer(heap: Array, key: Any) -> None:
    """Replace the least key of a min-heap by a greater one, in place."""
    size = heap.size
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[parent] = heap[child]
        parent = child
    heap[parent] = key


@compiled(parallel=True)
def update_top_neighbors(counts: Array, row_start: int, neurons: Array, heaps: Array) -> None:
    """Offer the counts of one panel to every neuron's heap of best neighbours, in place.

    Parameters
    ----------
    counts : ndarray of shape (n_panel, n_padded), int32
        ``counts[i - row_start, j]`` is the count of the neurons of rank i and j, for every j > i.
    row_start : int
        Rank of the panel's first neuron.
    neurons : ndarray of shape (n_neurons,), int32
        Ids by rank.
    heaps : ndarray of shape (n_neurons, n_neighbors), int64
        Min-heaps of keys by rank; initially 0. Pairs that never fire together are not kept.
    """
    n_neurons = neurons.size
    n_panel = min(counts.shape[0], n_neurons - row_start)
    for group in prange((n_neurons - row_start + _COLUMNS - 1) // _COLUMNS):
        start = row_start + _COLUMNS * group
        end = min(start + _COLUMNS, n_neurons)
        least = np.empty(_COLUMNS, np.int64)
        for j in range(start, end):
            least[j - start] = max(1, heaps[j, 0] >> 32)
        # Read the panel row by row, one cache line at a time.
        for p in range(min(n_panel, end - row_start)):
            i = row_start + p
            for j in range(max(start, i + 1), end):
                count = np.int64(counts[p, j])
                if count >= least[j - start]:
                    key = (count << 32) | (LOW_BITS - np.int64(neurons[i]))
                    if key > heaps[j, 0]:
                        _offer(heaps[j], key)
                        least[j - start] = max(1, heaps[j, 0] >> 32)
        for i in range(start, min(end, row_start + n_panel)):
            heap = heaps[i]
            lowest = max(1, heap[0] >> 32)
            for j in range(i + 1, n_neurons):
                count = np.int64(counts[i - row_start, j])
                if count >= lowest:
                    key = (count << 32) | (LOW_BITS - np.int64(neurons[j]))
                    if key > heap[0]:
                        _offer(heap, key)
                        lowest = max(1, heap[0] >> 32)


@compiled
def count_edges(companions: Companions, degree: Array) -> None:
    """Count the neighbours of each neuron where i and j are neighbours if either keeps the other.

    Parameters
    ----------
    companions : Companions
    degree : ndarray of shape (n_neurons,), int64
        By id; initially 0.
    """
    heaps, neurons, rank_of = companions
    for rank in range(heaps.shape[0]):
        i = np.int64(neurons[rank])
        for key in heaps[rank]:
            if key > 0:
                j = LOW_BITS - (key & LOW_BITS)
                degree[i] += 1
                # What keeps only the greatest keys keeps all that are no less than its least.
                degree[j] += ((key & ~LOW_BITS) | (LOW_BITS - i)) < heaps[rank_of[j], 0]


@compiled
def fill_edges(
    companions: Companions, place: Array, place_again: Array, unsorted: Array, indices: Array, counts: Array
) -> None:
    """Write the symmetric graph's rows with ascending neighbours.

    Parameters
    ----------
    companions : Companions
    place, place_again : ndarray of shape (n_neurons,), int64
        Where each row begins; overwritten. Two copies of the same.
    unsorted : ndarray of shape (n_edges,), int64
        Overwritten: keys, row by row.
    indices, counts : ndarray of shape (n_edges,), int32
        Written.
    """
    heaps, neurons, rank_of = companions
    for rank in range(heaps.shape[0]):
        i = np.int64(neurons[rank])
        for key in heaps[rank]:
            if key > 0:
                j = LOW_BITS - (key & LOW_BITS)
                unsorted[place[i]] = key
                place[i] += 1
                mirrored = (key & ~LOW_BITS) | (LOW_BITS - i)
                if mirrored < heaps[rank_of[j], 0]:
                    unsorted[place[j]] = mirrored
                    place[j] += 1
    # Row r now ends at place[r]. A symmetric matrix is its own transpose: written column by column, rows are sorted.
    start = 0
    for column in range(place.size):
        for edge in range(start, place[column]):
            key = unsorted[edge]
            row = LOW_BITS - (key & LOW_BITS)
            indices[place_again[row]] = column
            counts[place_again[row]] = key >> 32
            place_again[row] += 1
        start = place[column]
