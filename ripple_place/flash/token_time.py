"""The time of a token end to end: flash time and computation, one after the other or overlapped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import block_sort_key
from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array


OVERLAPS = ("serial", "layer", "cluster")
CLUSTERS = 14
"""Neuron clusters of an FFN block: PowerInfer-2 computes the 7168 neurons that it leaves to the CPU of Bamboo-7B's
14336 in clusters of 512 (arXiv 2406.06282, its example at batch size 1)."""


@dataclass(frozen=True)
class ComputeParams:
    """What computing costs, and how far reading hides under it.

    Parameters
    ----------
    us_per_layer : float
        Time to compute one layer for one token, attention included, with its weights in DRAM.
    overlap : {"serial", "layer", "cluster"}
        ``serial``: a layer is read, then computed. ``layer``: while a layer is computed, the next one is read, so that
        the activity of a layer must be known, or predicted, one layer ahead. ``cluster``: a layer is read and computed
        in `n_clusters` clusters of neurons, one computed while the next is read (PowerInfer-2's pipeline).
    n_clusters : int

    Raises
    ------
    UsageError
        If a number is out of range or the overlap unknown.
    """

    us_per_layer: float
    overlap: str = "serial"
    n_clusters: int = CLUSTERS

    def __post_init__(self) -> None:
        if self.overlap not in OVERLAPS:
            raise UsageError(
                f"--overlap {self.overlap}", found="no overlap by that name",
                expected=f"one of {', '.join(OVERLAPS)}", remedy="name one of them",
            )  # fmt: skip
        if not (0 <= self.us_per_layer < math.inf and self.n_clusters >= 1):
            raise UsageError(
                "compute time", found=f"{self.us_per_layer} us a layer, {self.n_clusters} clusters",
                expected="a time of at least 0 and one cluster or more", remedy="correct the number",
            )  # fmt: skip


@dataclass(frozen=True, eq=False)
class TokenTime:
    """Times of tokens, reading and computing.

    Attributes
    ----------
    params : ComputeParams
    compute_us_per_token : float
        Computation alone, the same for every token.
    token_us : ndarray of shape (n_tokens,), float64
        End to end.
    """

    params: ComputeParams
    compute_us_per_token: float
    token_us: Float64Array


class TokenClock:
    """Adds up the time of each token, block after block in model order, without keeping times of blocks.

    Notes
    -----
    With r and c the times to read and to compute a layer, in a model of L layers: serial ``sum(r + c)``; layer
    ``r_1 + sum over l > 1 of max(c, r_l) + c``; cluster ``sum(max(r, c) + min(r, c) / n_clusters)``, which is exact
    for clusters of equal times: the longer of the two and one cluster of the other. The first layer of a token is
    never read ahead, since the token is not known before the one before it is done. Blocks of one layer (experts) are
    read one after the other. Layers that are not simulated are not computed either. A DRAM copy is part of neither.
    """

    def __init__(self, params: ComputeParams, n_tokens: int) -> None:
        self.params = params
        self._token_us, self._layer_us = np.zeros(n_tokens), np.zeros(n_tokens)
        self._layer: tuple[str, int] | None = None
        self._n_layers = 0

    def add(self, block: str, read_us: Float64Array) -> None:
        """Add the flash time of each token in a block; blocks come in model order."""
        layer = block_sort_key(block)[:2]
        if layer != self._layer:
            self._end_layer()
            self._layer = layer
        self._layer_us += read_us

    def finish(self) -> TokenTime:
        """Return the times of the tokens, once every block was added."""
        self._end_layer()
        self._layer = None
        if self.params.overlap == "layer" and self._n_layers:
            self._token_us += self.params.us_per_layer
        return TokenTime(self.params, self._n_layers * self.params.us_per_layer, self._token_us)

    def _end_layer(self) -> None:
        """Put a layer that was read into the time of the tokens."""
        if self._layer is None:
            return
        read_us, compute_us = self._layer_us, self.params.us_per_layer
        if self.params.overlap == "serial":
            self._token_us += read_us + compute_us
        elif self.params.overlap == "cluster":
            self._token_us += np.maximum(read_us, compute_us) + np.minimum(read_us, compute_us) / self.params.n_clusters
        else:
            # While the layer before is computed; the first has none before it.
            self._token_us += read_us if self._n_layers == 0 else np.maximum(read_us, compute_us)
        self._n_layers += 1
        self._layer_us[:] = 0.0
