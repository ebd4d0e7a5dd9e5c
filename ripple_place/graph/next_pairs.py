"""All pairs of a block in the order of descending co-activation, a part at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.graph.pair_panels import PANEL_BYTES, PairPanels
from ripple_place.kernels import pair_keys

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array, Int64Array
    from ripple_place.graph.neuron_bits import NeuronBits


@dataclass(frozen=True)
class PairOrder:
    """How pairs of neurons are ordered: those that fire together most often first, ties by ascending ids.

    A pair i < j is a 64-bit key that ascends in this order.

    Parameters
    ----------
    n_neurons : int
    n_rows : int
        No pair fires together more often.

    Raises
    ------
    ValueError
        If a key has too few bits: n_neurons^2 x n_rows is beyond 2^62.
    """

    n_neurons: int
    n_rows: int

    def __post_init__(self) -> None:
        if (self.n_rows + 1) << (2 * self.id_bits) >= 2**62:
            raise ValueError(f"{self.n_neurons} neurons and {self.n_rows} rows: too many pairs to be ordered")

    @property
    def id_bits(self) -> int:
        """Bits of a neuron's id."""
        return max(1, (self.n_neurons - 1).bit_length())

    def last_key(self, count: int) -> int:
        """Return a key that no pair with this count or a greater one exceeds, and all others do."""
        return ((self.n_rows - count + 1) << (2 * self.id_bits)) - 1


def next_pairs(
    bits: NeuronBits,
    neurons: Int32Array,
    frequency: Int64Array,
    order: PairOrder,
    first_key: int,
    last_key: int,
    max_pairs: int,
    panel_bytes: int = PANEL_BYTES,
) -> Int64Array:
    """Return the first pairs of some neurons in a range of the order.

    Parameters
    ----------
    bits : NeuronBits
    neurons : ndarray of int32
        Ascending.
    frequency : ndarray of int64
        `NeuronBits.frequency` of all the bits.
    order : PairOrder
    first_key, last_key : int
        The range; both belong to it.
    max_pairs : int
        How many to return at most.

    Returns
    -------
    ndarray of int64
        Keys, ascending: all in the range, or the first `max_pairs` of them.

    Notes
    -----
    Counts all pairs of `neurons`, exactly; memory is 16 bytes for each of `max_pairs`, and three panels.
    """
    pairs = PairPanels(bits, neurons, frequency)
    keys = np.empty(0, np.int64)
    n_keys = 0
    for start, panel in pairs.panels(panel_bytes):
        found = np.empty(panel.shape[0], np.int64)
        known = (panel, start, pairs.neurons, order.n_rows, order.id_bits, first_key, last_key)
        pair_keys.count_keys(*known, found)
        place = n_keys + np.concatenate(([0], np.cumsum(found)))
        if place[-1] > keys.size:
            keys = np.concatenate((keys[:n_keys], np.empty(2 * (int(place[-1]) - n_keys) + n_keys // 2, np.int64)))
        pair_keys.write_keys(*known, place, keys)
        n_keys = int(place[-1])
        if n_keys >= 2 * max_pairs:
            keys[:n_keys].partition(max_pairs - 1)
            n_keys, last_key = max_pairs, int(keys[max_pairs - 1])
    keys = keys[:n_keys]
    keys.sort()
    return keys[:max_pairs]
