"""The time of a token: reading experts and computing layers, one after the other or overlapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array

SERIAL, LAYER = "serial", "layer"
OVERLAPS = (SERIAL, LAYER)


@dataclass(frozen=True)
class TokenTiming:
    """What computing costs, and what of reading hides under it.

    Parameters
    ----------
    us_per_layer : float
        To compute one layer for one token, with its experts in DRAM.
    overlap : {"serial", "layer"}
        ``serial``: the router of a layer says what is missing; it is read, then the layer is computed. What is
        prefetched is read while the layer before is computed. ``layer``: everything that a layer misses is read while
        the layer before is computed, as if its routing were known one layer ahead.
    """

    us_per_layer: float
    overlap: str = SERIAL

    def token_us(self, missed_us: Float64Array, ahead_us: Float64Array) -> Float64Array:
        """Return the time of each token.

        Parameters
        ----------
        missed_us, ahead_us : ndarray of shape (n_tokens, n_layers), float64
            Reading what a layer misses once its routing is known, and what was read ahead for it.

        Notes
        -----
        With m, a and c the times of missing, reading ahead and computing: serial ``sum(max(0, a - c) + m + c)``, since
        misses wait for what is being read ahead; the first layer's is read while the last layer of the token before is
        computed. Layer: ``m_1 + sum over l > 1 of max(c, m_l) + c``, as for neurons
        (`ripple_place.flash.token_time.TokenClock`).
        """
        compute_us = np.full(missed_us.shape[0], self.us_per_layer)
        if self.overlap == SERIAL:
            waiting_us = np.maximum(0.0, ahead_us - self.us_per_layer)
            missed_us = waiting_us + missed_us
        return steps_us(missed_us, compute_us, self.overlap)


def steps_us(missed_us: Float64Array, compute_us: Float64Array, overlap: str) -> Float64Array:
    """Return the time of each step, which reads what each layer misses and computes it.

    Parameters
    ----------
    missed_us : ndarray of shape (n_steps, n_layers), float64
        Time to read.
    compute_us : ndarray of shape (n_steps,), float64
        Time to compute one layer in each step: for one token, or for all of a chunk of a prompt.
    overlap : {"serial", "layer"}
        As of `TokenTiming`.
    """
    if overlap == SERIAL:
        return np.asarray((missed_us + compute_us[:, None]).sum(axis=1))
    later_us = np.maximum(missed_us[:, 1:], compute_us[:, None]).sum(axis=1)
    return np.asarray(missed_us[:, 0] + later_us + compute_us)
