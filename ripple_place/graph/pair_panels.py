"""Counting all pairs of a block panel by panel: by popcounts where both fire often, token by token elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.kernels import coactivation, firing_lists

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.arrays import Int32Array, Int64Array
    from ripple_place.graph.neuron_bits import NeuronBits

PANEL_BYTES = 16 * 2**20
"""Largest panel of counts held at once: the fewer bytes, the likelier they are still in a cache when they are read."""

INCREMENTS_OF_A_POPCOUNT = 0.8
"""Increments of a counter in the time of one popcount of a vector of 8 words, as measured."""


class PairPanels:
    """The counts of all pairs of a block's neurons that ever fire, in panels of rows, most frequent neurons first.

    Parameters
    ----------
    bits : NeuronBits
    neurons : ndarray of int32, optional
        The neurons to count, ascending; all if not given.
    frequency : ndarray of int64, optional
        `NeuronBits.frequency` of all the bits, if it is known already.
    increments_of_a_popcount : float
        Pairs that are expected to fire together more rarely than this, for each 512 rows of the trace, are counted by
        going through the tokens; the others by popcounts. Counts are exact either way.

    Attributes
    ----------
    neurons : ndarray of shape (n_ranked,), int32
        Ids of the neurons that fire, by rank: descending frequency, then ascending id.

    Notes
    -----
    Neuron-major bits are good for pairs that fire often, lists of who fires for each token for pairs that do so
    rarely: most, where a few neurons make up much of the activity. With f(i) f(j) / n_rows expected co-activations,
    ranks by frequency make the border between the two a staircase. Lists hold only neurons that fire for a few per
    cent of the tokens, so they take no more memory than the bits.
    """

    def __init__(
        self,
        bits: NeuronBits,
        neurons: Int32Array | None = None,
        frequency: Int64Array | None = None,
        increments_of_a_popcount: float = INCREMENTS_OF_A_POPCOUNT,
    ) -> None:
        frequency = bits.frequency() if frequency is None else frequency
        neurons = np.arange(bits.n_neurons, dtype=np.int32) if neurons is None else neurons
        by_frequency = neurons[np.argsort(-frequency[neurons], kind="stable")]
        self.neurons: Int32Array = by_frequency[: np.count_nonzero(frequency[neurons])]
        self.words = bits.select(self.neurons).words
        tile = firing_lists.LIST_TILE
        n_padded, n_words = self.words.shape
        n_tiles = -(-n_padded // tile)
        sizes = np.zeros(n_tiles * tile, np.int64)
        sizes[: self.neurons.size] = frequency[self.neurons]
        mean = sizes.reshape(n_tiles, tile).mean(axis=1)
        expected = np.multiply.outer(mean, mean) / max(1, bits.n_rows)
        often = expected > increments_of_a_popcount * n_words / coactivation.WORD_MULTIPLE
        # The rows of tile c are counted by popcounts up to this tile, and token by token from there on.
        self._listed_from = np.maximum(often.sum(axis=1), np.arange(n_tiles))
        self._first_tile = int(self._listed_from.min(initial=n_tiles))
        self._starts = np.empty((n_tiles - self._first_tile + 1, 64 * n_words), np.int64)
        firing_lists.measure_lists(self.words, self._first_tile, self._starts)
        ends = np.cumsum(self._starts[-1])
        kind = np.uint16 if n_padded <= 2**16 else np.uint32
        self._lists = np.empty(int(ends[-1]), kind)
        self._starts += ends - self._starts[-1]
        firing_lists.fill_lists(self.words, tile * self._first_tile, self._starts[0], self._lists)

    @property
    def n_listed(self) -> int:
        """Entries of the lists: firings of the neurons that are counted token by token with some other."""
        return self._lists.size

    def panels(self, panel_bytes: int = PANEL_BYTES) -> Iterator[tuple[int, Int32Array]]:
        """Give the panels one after the other: the rank of the first row, and the counts.

        Parameters
        ----------
        panel_bytes : int
            Memory for one panel, which is used again for the next; at least 64 rows.

        Yields
        ------
        row_start : int
        counts : ndarray of shape (n_panel, n_padded), int32
            ``counts[i - row_start, j]`` is the count of the neurons of rank i and j for j > i; what else is there is
            undefined.
        """
        step, tile = coactivation.ROW_MULTIPLE, firing_lists.LIST_TILE
        n_padded = self.words.shape[0]
        n_panel = max(step, min(n_padded, panel_bytes // (4 * max(1, n_padded)) // step * step))
        panel = np.empty((n_panel, n_padded), np.int32)
        for start in range(0, n_padded, n_panel):
            end = min(start + n_panel, n_padded)
            listed_from = self._listed_from[np.arange(start, end) // tile]
            column_end = np.minimum(tile * listed_from[::step], n_padded)
            coactivation.count_panel(self.words, start, end, column_end, panel)
            firing_lists.count_listed(
                self.words, start, end, listed_from, self._first_tile, self._starts, self._lists, panel
            )
            yield start, panel[: end - start]
