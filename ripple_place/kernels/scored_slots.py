"""Lists what a block's neurons put out in the order in which they lie in flash, with what each is worth."""

from __future__ import annotations

from typing import Any

import numpy as np

from ripple_place.kernels.bits import trailing_zeros
from ripple_place.kernels.compiled import compiled


@compiled
def list_scored_slots(
    starts: Any, neurons: Any, values: Any, slot_of: Any, weight: Any, row_weight: Any, is_squared: bool,
    slot_words: Any, worth_of: Any, slots: Any, worth: Any,
) -> None:  # fmt: skip
    """List the slots of each row whose neurons put out something, ascending; caller allocates.

    Parameters
    ----------
    starts : ndarray of shape (n_rows + 1,), int64
        Row t has the outputs from ``starts[t]`` to before ``starts[t + 1]``; its slots come to lie there, too.
    neurons : ndarray of shape (n_values,), int32
        No neuron twice in a row.
    values : ndarray of shape (n_values,), float32
        Their outputs.
    slot_of : ndarray of shape (n_neurons,), int32
    weight : ndarray of shape (n_neurons,), float32
        By neuron.
    row_weight : ndarray of shape (n_rows,), float32
    is_squared : bool
        Whether worth is the square of the output, or its absolute value, times both weights.
    slot_words : ndarray of shape (ceil(n_neurons / 64),), uint64
        Scratch: all 0, and 0 again afterwards.
    worth_of : ndarray of shape (n_neurons,), float64
        Scratch.
    slots : ndarray of shape (n_values,), int32
        Written.
    worth : ndarray of shape (n_values,), float64
        Written.
    """
    for row in range(starts.size - 1):
        for k in range(starts[row], starts[row + 1]):
            neuron = neurons[k]
            value = np.float64(values[k])
            _note(slot_of[neuron], value, weight[neuron] * row_weight[row], is_squared, slot_words, worth_of)
        _list(starts[row], slot_words, worth_of, slots, worth)


@compiled
def _note(slot: int, value: float, weight: float, is_squared: bool, slot_words: Any, worth_of: Any) -> None:
    """Mark a slot of the present row, and keep what it is worth."""
    slot_words[slot >> 6] |= np.uint64(1) << np.uint64(slot & 63)
    worth_of[slot] = (value * value if is_squared else abs(value)) * weight


@compiled
def _list(n_listed: int, slot_words: Any, worth_of: Any, slots: Any, worth: Any) -> int:
    """List the marked slots behind those before, ascending, and clear the marks; return how many there are by now.

    A bitmap of slots sorts them at the price of one pass over its words.
    """
    for w in range(slot_words.size):
        word = slot_words[w]
        slot_words[w] = 0
        while word != 0:
            slot = 64 * w + trailing_zeros(word)
            slots[n_listed] = slot
            worth[n_listed] = worth_of[slot]
            n_listed += 1
            word &= word - np.uint64(1)
    return n_listed
