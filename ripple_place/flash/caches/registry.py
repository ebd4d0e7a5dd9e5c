"""The cache policies by name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.flash.caches.belady import Belady
from ripple_place.flash.caches.fifo import Fifo
from ripple_place.flash.caches.greedydual import GreedyDual
from ripple_place.flash.caches.lfu import Lfu
from ripple_place.flash.caches.lru import Lru
from ripple_place.flash.caches.mask_first_belady import MaskFirstBelady
from ripple_place.flash.caches.mask_first_lfu import MaskFirstLfu
from ripple_place.flash.caches.mask_first_lru import MaskFirstLru
from ripple_place.flash.caches.none import NoCache
from ripple_place.flash.caches.pinned import Pinned
from ripple_place.flash.caches.pinned_lru import PinnedLru
from ripple_place.flash.caches.s3fifo import S3Fifo
from ripple_place.flash.caches.segmented import Segmented
from ripple_place.flash.caches.sieve import Sieve
from ripple_place.flash.caches.window import Window
from ripple_place.units import parse_count

if TYPE_CHECKING:
    from ripple_place.flash.caches.cache import CacheFactory

POLICIES: dict[str, CacheFactory] = {
    cache.policy: cache
    for cache in (
        NoCache, Lru, Fifo, Lfu, S3Fifo, Sieve, GreedyDual, Pinned, PinnedLru, Belady,
        MaskFirstLru, MaskFirstLfu, MaskFirstBelady,
    )
}  # fmt: skip
"""Policies without parameters."""
POLICY_NAMES = (*POLICIES, "window:K")
"""All of them, as messages and help list them."""


def find_policy(policy: str) -> CacheFactory:
    """Return what makes caches of a policy.

    Parameters
    ----------
    policy : str
        One of `POLICIES`, or ``window:K`` with a number of tokens.

    Raises
    ------
    UsageError
        If there is none by that name, its parameter is no number, or it needs more than a name (``segmented``).
    """
    name, has_parameter, parameter = policy.partition(":")
    if name == Window.policy:
        n_tokens = parse_count(parameter)
        if n_tokens is None or not 1 <= n_tokens < 2**31:
            raise UsageError(
                f"cache {policy}", found=f"{parameter!r} tokens" if has_parameter else "no number of tokens",
                expected="a whole number of at least 1", remedy="write, for instance, window:4",
            )  # fmt: skip
        return partial(Window, n_tokens=n_tokens)
    if policy == Segmented.policy:
        raise UsageError(
            f"cache {policy}", found="no plan of hot clusters, or no pool",
            expected="a layout that was made by a plan, whose hot clusters `simulate` keeps in a pool",
            remedy="make one with `ripple-place reorder --plan powerinfer2`, or name a policy that needs no plan, such "
            "as pinned+lru",
        )  # fmt: skip
    if policy not in POLICIES:
        raise UsageError(
            f"cache {policy}", found="no policy by that name", expected=f"one of {', '.join(POLICY_NAMES)}",
            remedy="name one of them",
        )  # fmt: skip
    return POLICIES[policy]
