"""The policies of an expert cache by name, each replayed on the accesses of a model or of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.kernels.sized_caches import (
    BELADY,
    FIFO,
    GREEDYDUAL,
    LFU,
    LRU,
    PROBE,
    next_uses,
    replay_ranked,
    replay_s3fifo,
    replay_sieve,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.arrays import BoolArray, Float64Array, Int32Array, Int64Array, UInt8Array

PINNED_SHARE = 0.5
"""Of the capacity of ``pinned+lru``, for the most frequent experts."""
BOUND = "belady"
"""The policy that knows the future. With experts of one size no policy hits more often; sizes within a fifth of each
other make next to no difference."""


@dataclass(frozen=True, eq=False)
class CacheInput:
    """What a policy is replayed on.

    Attributes
    ----------
    items : ndarray of shape (n_accesses,), int32
    sizes : ndarray of shape (n_items,), int64
        Bytes.
    admitted : ndarray of shape (n_accesses,), uint8
        1 where an item that misses may enter; `PROBE` where only is asked whether it is there.
    capacity_bytes : int
    frequency : ndarray of shape (n_items,), int64
        What the hottest are told by: counts of a profile.
    costs : ndarray of shape (n_items,), float64
        Time of reading each again, for ``greedydual``.
    """

    items: Int32Array
    sizes: Int64Array
    admitted: UInt8Array
    capacity_bytes: int
    frequency: Int64Array
    costs: Float64Array


def replay(policy: str, cache: CacheInput) -> BoolArray:
    """Return which accesses find their expert in DRAM; shape (n_accesses,).

    Raises
    ------
    UsageError
        If there is no such policy.
    """
    if policy not in POLICIES:
        raise UsageError(
            f"--cache {policy}", found="no policy of experts by that name", expected=f"one of {', '.join(POLICIES)}",
            remedy="name one of them",
        )  # fmt: skip
    is_hit = np.zeros(cache.items.size, np.uint8)
    POLICIES[policy](cache, is_hit)
    return is_hit.astype(bool)


def hottest(cache: CacheInput, capacity_bytes: int) -> BoolArray:
    """Return which items a capacity holds if the most frequent ones stay in it; of equals, the first."""
    order = np.argsort(-cache.frequency, kind="stable")
    fits = np.cumsum(cache.sizes[order]) <= capacity_bytes
    chosen = np.zeros(cache.sizes.size, bool)
    chosen[order[fits & (cache.frequency[order] > 0)]] = True
    return chosen


def _ranked(rule: int) -> Callable[[CacheInput, UInt8Array], None]:
    def run(cache: CacheInput, is_hit: UInt8Array) -> None:
        following = np.empty(cache.items.size if rule == BELADY else 1, np.int64)
        if rule == BELADY:
            uses = cache.admitted != PROBE
            next_of_uses = np.empty(int(uses.sum()), np.int64)
            next_uses(cache.items[uses], cache.sizes.size, next_of_uses)
            following[uses] = next_of_uses
        replay_ranked(
            cache.items, cache.sizes, cache.admitted, cache.capacity_bytes, rule, cache.costs, following, is_hit
        )  # fmt: skip

    return run


def _none(cache: CacheInput, is_hit: UInt8Array) -> None:
    is_hit[:] = 0


def _sieve(cache: CacheInput, is_hit: UInt8Array) -> None:
    replay_sieve(cache.items, cache.sizes, cache.admitted, cache.capacity_bytes, is_hit)


def _s3fifo(cache: CacheInput, is_hit: UInt8Array) -> None:
    replay_s3fifo(cache.items, cache.sizes, cache.admitted, cache.capacity_bytes, is_hit)


def _pinned(cache: CacheInput, is_hit: UInt8Array) -> None:
    is_hit[:] = hottest(cache, cache.capacity_bytes)[cache.items]


def _pinned_lru(cache: CacheInput, is_hit: UInt8Array) -> None:
    pinned = hottest(cache, int(PINNED_SHARE * cache.capacity_bytes))
    left = cache.capacity_bytes - int(cache.sizes[pinned].sum())
    others = ~pinned[cache.items]
    other_hit = np.zeros(int(others.sum()), np.uint8)
    replay_ranked(
        cache.items[others], cache.sizes, cache.admitted[others], left, LRU, cache.costs, np.empty(1, np.int64),
        other_hit,
    )  # fmt: skip
    is_hit[:] = 1
    is_hit[others] = other_hit


POLICIES: dict[str, Callable[[CacheInput, UInt8Array], None]] = {
    "none": _none,
    "lru": _ranked(LRU),
    "fifo": _ranked(FIFO),
    "lfu": _ranked(LFU),
    "s3fifo": _s3fifo,
    "sieve": _sieve,
    "greedydual": _ranked(GREEDYDUAL),
    "pinned": _pinned,
    "pinned+lru": _pinned_lru,
    BOUND: _ranked(BELADY),
}
"""Policies by name, in the order in which tables show them."""
