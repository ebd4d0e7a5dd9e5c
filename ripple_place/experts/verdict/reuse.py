"""Does the last token predict the next: how many of a token's experts the token before used, against a static list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ripple_place.arrays import BoolArray, Int64Array


@dataclass(frozen=True)
class Reuse:
    """What would have predicted the experts of a token, as shares of its experts.

    Attributes
    ----------
    last_token : float or None
        That the token before used; None where no token follows another.
    static_list : float or None
        That are among as many experts, the most frequent of the first half of the tokens; judged on the second.
    chance : float
        That as many experts drawn at random would hit.
    """

    last_token: float | None
    static_list: float | None
    chance: float


def reuse(uses: BoolArray, follows: BoolArray) -> Reuse:
    """Return what would have predicted the experts of a layer.

    Parameters
    ----------
    uses : ndarray of shape (n_tokens, n_experts), bool
        Of generated tokens, in order.
    follows : ndarray of shape (n_tokens,), bool
        Whether each follows the one before it, in the same text.
    """
    n_tokens, n_experts = uses.shape
    per_token = float(uses.sum(axis=1).mean()) if n_tokens else 0.0
    after = np.flatnonzero(follows[1:]) + 1
    n_wanted = int(uses[after].sum())
    last = int((uses[after] & uses[after - 1]).sum()) / n_wanted if n_wanted else None
    half = n_tokens // 2
    static = None
    if half and uses[half:].any():
        listed = hottest_of(uses[:half].sum(axis=0), max(1, round(per_token)))
        static = int(uses[half:, listed].sum()) / int(uses[half:].sum())
    return Reuse(last, static, per_token / n_experts)


def hottest_of(counts: Int64Array, n: int) -> Int64Array:
    """Return the `n` most frequent experts; of equals, the first."""
    return np.argsort(-counts, kind="stable")[:n]
