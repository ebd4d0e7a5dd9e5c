"""Dynamic Input Pruning (DIP, arXiv 2412.01380): how its authors split a density over an FFN, and keep the largest.

A token's input x of the FFN is pruned to its largest entries, so that only these columns of up and gate are read; of
what comes out, h, again the largest entries are kept, and only these columns of down are read. No predictor is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

_SLOPE, _OFFSET = 0.9849930711017189, 0.29976477589716316
"""Of the fitted logit of the input's density over that of the FFN's (the authors' released code)."""


def split_density(keep: float, *, is_gated: bool = True) -> tuple[float, float]:
    """Return which share of the input columns and of the down columns to keep, for a density of the whole FFN.

    >>> [round(share, 4) for share in split_density(0.5)]
    [0.5744, 0.3512]

    Parameters
    ----------
    keep : float
        Share of the FFN's weights, above 0 and at most 1.
    is_gated : bool
        The split was fitted for gated FFNs, where two of three matrices take the input; others keep `keep` of both.

    Notes
    -----
    ``keep_in = expit(0.985 logit(keep) + 0.300)`` and ``keep_down = 3 (keep - 2/3 keep_in)``, so that the mean over up,
    gate and down is `keep`. Below a density of about .001 the fit leaves nothing for down.
    """
    if not is_gated or keep >= 1:
        return keep, keep
    logit = math.log(keep / (1 - keep))
    keep_in = 1 / (1 + math.exp(-(_SLOPE * logit + _OFFSET)))
    return keep_in, min(1.0, max(0.0, 3 * (keep - 2 / 3 * keep_in)))


@dataclass(frozen=True)
class KeepLargest:
    """Keeps the largest entries of each row.

    Parameters
    ----------
    keep : float
        Share of a row, 0 to 1.
    """

    keep: float

    def n_kept(self, n: int) -> int:
        """Return how many of `n` entries are kept: rounded down, as the authors do."""
        return min(n, int(self.keep * n))

    def active(self, values: Any, gate: Any = None, threshold: float | None = None) -> Any:
        """Return which entries are kept; parameters as of `ripple_place.trace.activity_rules.ActivityRule.active`.

        Exactly as many as asked for: of equal sizes the first ones are kept. Zeros never are, since a column that is
        multiplied by zero need not be read; there the authors' mask has more entries than this one.
        """
        sizes = abs(values)
        k = self.n_kept(sizes.shape[-1])
        if k == 0:
            return sizes < 0
        if k == sizes.shape[-1]:
            return sizes > 0
        least = kth_largest(sizes, k)
        is_larger, is_tied = sizes > least, sizes == least
        n_free = k - is_larger.sum(-1)[..., None]
        return (is_larger | (is_tied & (is_tied.cumsum(-1) <= n_free))) & (sizes > 0)


def kth_largest(sizes: Any, k: int) -> Any:
    """Return the k-th largest value of each row, shape (n_rows, 1); for arrays and tensors."""
    import numpy as np

    if isinstance(sizes, np.ndarray):
        return np.partition(sizes, sizes.shape[-1] - k, axis=-1)[..., sizes.shape[-1] - k, None]
    return sizes.topk(k, dim=-1, sorted=True).values[..., -1:]
