"""Is there a hot set: how unevenly a layer's experts are used, and how fast new ones appear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array, Int32Array, Int64Array
    from ripple_place.experts.accesses import ExpertAccesses

HOT_SHARES = (0.1, 0.25, 0.5)
"""Of the experts, the most frequent first."""
_DRAWS = 8


@dataclass(frozen=True)
class HotSet:
    """How unevenly the experts of a layer, or of all layers, are used.

    Attributes
    ----------
    top_shares : tuple of float
        Share of routings that go to the hottest `HOT_SHARES` of the experts.
    even_shares : tuple of float
        The same where every expert was as likely, drawn for as many routings: short traces look uneven by chance.
    seen_share : float
        Share of the experts that were used at all.
    tokens_to_half_seen : int or None
        Generated tokens after which half of the experts had been used; None if they never were.
    """

    top_shares: tuple[float, ...]
    even_shares: tuple[float, ...]
    seen_share: float
    tokens_to_half_seen: int | None


def top_shares(counts: Int64Array) -> tuple[float, ...]:
    """Return the share of routings of the hottest `HOT_SHARES` of the experts.

    >>> top_shares(np.array([8, 1, 1, 0, 0, 0, 0, 0, 0, 0]))
    (0.8, 0.9, 1.0)
    """
    ranked = np.sort(counts)[::-1]
    total = max(1, int(ranked.sum()))
    return tuple(float(ranked[: max(1, round(share * counts.size))].sum() / total) for share in HOT_SHARES)


def hot_set(experts: Int32Array, tokens: Int32Array, n_experts: int, per_token: int, seed: int = 0) -> HotSet:
    """Return how unevenly the experts of one layer are used.

    Parameters
    ----------
    experts, tokens : ndarray of shape (n_routings,), int32
        In the order of tokens.
    n_experts : int
    per_token : int
        Experts that a token uses.
    seed : int
        Of the draws without preference.
    """
    counts = np.bincount(experts, minlength=n_experts)
    rng = np.random.default_rng(seed)
    n_tokens = max(1, experts.size // max(1, per_token))
    even = np.zeros(len(HOT_SHARES))
    for _ in range(_DRAWS):
        drawn = rng.multinomial(n_tokens * per_token, np.full(n_experts, 1 / n_experts))
        even += np.array(top_shares(drawn)) / _DRAWS
    seen, half = np.zeros(n_experts, bool), None
    first = _first_uses(experts, tokens, n_experts)
    if np.isfinite(first).sum() * 2 >= n_experts:
        ordered = np.sort(first[np.isfinite(first)])
        half = int(ordered[-(-n_experts // 2) - 1] - tokens.min()) + 1
    seen[experts] = True
    return HotSet(top_shares(counts), tuple(even.tolist()), float(seen.mean()), half)


def new_experts(accesses: ExpertAccesses) -> Float64Array:
    """Return by generated token the share of its routings that go to experts that no token used before.

    Returns
    -------
    ndarray of shape (n_decoded,), float64
        In order; what prompts used counts as used.
    """
    first = np.unique(accesses.items, return_index=True)[1]
    is_first = np.zeros(accesses.items.size, bool)
    is_first[first] = True
    tokens, place = np.unique(accesses.tokens[accesses.is_decode], return_inverse=True)
    n_new = np.bincount(place, weights=is_first[accesses.is_decode], minlength=tokens.size)
    return np.asarray(n_new / np.maximum(1, np.bincount(place, minlength=tokens.size)))


def _first_uses(experts: Int32Array, tokens: Int32Array, n_experts: int) -> Float64Array:
    """Return the first token that uses each expert, infinity where none does."""
    first = np.full(n_experts, np.inf)
    np.minimum.at(first, experts, tokens.astype(np.float64))
    return first
