"""Count the reads of an order by their length, neuron by neuron along it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.kernels.bits import trailing_zeros
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


@compiled
def list_tokens(words: Array, n_neurons: int, indptr: Array, tokens: Array) -> None:
    """Write for which tokens each neuron fires, ascending, to ``tokens[indptr[i]:indptr[i + 1]]``; caller allocates.

    Parameters
    ----------
    words : ndarray of shape (>= n_neurons, n_words), uint64
        Neuron-major bits (`ripple_place.kernels.coactivation`).
    n_neurons : int
    indptr : ndarray of shape (n_neurons + 1,), int64
    tokens : ndarray of shape (n_active,), int32
    """
    for neuron in range(n_neurons):
        position = indptr[neuron]
        for w in range(words.shape[1]):
            word = words[neuron, w]
            while word != 0:
                tokens[position] = 64 * w + trailing_zeros(word)
                position += 1
                word &= word - np.uint64(1)


@compiled
def count_read_lengths(
    order: Array, indptr: Array, tokens: Array, gap: int, first_slot: Array, last_slot: Array, counts: Array
) -> None:
    """Add to ``counts[length]`` the reads of each length, in place.

    Parameters
    ----------
    order : ndarray of shape (n_neurons,), int32
    indptr, tokens
        As `list_tokens` leaves them.
    gap : int
        Unwanted neurons that are read through.
    first_slot, last_slot : ndarray of shape (n_tokens,), int64
        Scratch, -1 everywhere: the read under way.
    counts : ndarray of shape (n_neurons + 1,), int64
    """
    for slot in range(order.size):
        neuron = order[slot]
        for place in range(indptr[neuron], indptr[neuron + 1]):
            token = tokens[place]
            if first_slot[token] < 0 or slot - last_slot[token] - 1 > gap:
                if first_slot[token] >= 0:
                    counts[last_slot[token] - first_slot[token] + 1] += 1
                first_slot[token] = slot
            last_slot[token] = slot
    for token in range(first_slot.size):
        if first_slot[token] >= 0:
            counts[last_slot[token] - first_slot[token] + 1] += 1
