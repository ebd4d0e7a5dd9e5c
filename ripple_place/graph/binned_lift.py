"""How often stretches of an order fire together, against chance: what a heat map of co-activation shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array, Int32Array
    from ripple_place.trace.activation_trace import BlockTrace


MAX_BINS = 128
"""About as many as a phone's screen shows."""
MIN_EXPECTED = 4.0
"""Bins whose neurons would fire together fewer times by chance are left out: their ratios are noise."""
CHUNK_ROWS = 256


def binned_lift(block: BlockTrace, order: Int32Array, n_bins: int = MAX_BINS) -> Float64Array:
    """Return the lift of pairs of neurons by the bins of slots that they lie in.

    Parameters
    ----------
    block : BlockTrace
    order : ndarray of shape (n_neurons,), int32
        ``order[slot] -> neuron``.
    n_bins : int
        Stretches of slots of equal length, or nearly; no more than neurons.

    Returns
    -------
    ndarray of shape (n_bins, n_bins), float64
        Symmetric: pairs of two different neurons, one of each bin, that fire together, over what their firing counts
        would give by chance; NaN where that is below `MIN_EXPECTED`.

    Notes
    -----
    Pairs are not counted one by one: with c[t, a] the active neurons of token t in bin a, bins a and b share
    ``sum_t c[t, a] c[t, b]``, less the pairs of a neuron with itself. Exact; costs O(n_rows x (n_neurons + n_bins^2)).
    """
    n_bins = min(n_bins, block.n_neurons)
    starts = np.arange(n_bins) * block.n_neurons // n_bins
    together = np.zeros((n_bins, n_bins))
    frequency = np.zeros(block.n_neurons)
    for row in range(0, block.n_rows, CHUNK_ROWS):
        rows = np.asarray(block.active[row : row + CHUNK_ROWS])
        active = np.unpackbits(rows, axis=1, bitorder="little")[:, : block.n_neurons][:, order]
        in_bin = np.add.reduceat(active, starts, axis=1, dtype=np.float64)
        together += in_bin.T @ in_bin
        frequency += active.sum(axis=0, dtype=np.float64)
    in_bin = np.add.reduceat(frequency, starts)
    n_rows = max(1, block.n_rows)
    expected = np.outer(in_bin, in_bin) / n_rows - np.diag(np.add.reduceat(frequency**2, starts)) / n_rows
    together -= np.diag(in_bin)
    return np.where(expected >= MIN_EXPECTED, together / np.maximum(expected, MIN_EXPECTED), np.nan)
