"""Which neurons to keep in DRAM for good: those whose accesses would cost most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.caches.pinned import Pinned, hottest
from ripple_place.flash.caches.pinned_lru import PINNED_SHARE, PinnedLru

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array, Int32Array
    from ripple_place.placing.cached_block import CachedBlock


PINNED_SHARES = {Pinned.policy: 1.0, PinnedLru.policy: PINNED_SHARE}
"""Policies that pin, and the share of their capacity that they pin by frequency."""
MAX_TRIES = 16
"""Sets that are tried; each costs a replay."""


def pins(policy: str) -> bool:
    """Return whether a policy keeps neurons for good."""
    return policy in PINNED_SHARES


def hottest_pinned(block: CachedBlock) -> Int32Array:
    """Return what the block's policy pins of itself: the neurons that fire most often."""
    return hottest(block.frequency, int(PINNED_SHARES[block.cache] * block.capacity))


def improve_pinned(block: CachedBlock, order: Int32Array, pinned: Int32Array) -> Int32Array:
    """Return a set, as large as `pinned`, that costs no more on the rows searched.

    Parameters
    ----------
    block : CachedBlock
        With a policy that pins.
    order : ndarray of shape (n_neurons,), int32
        In which the pinned neurons lie where they would if they were read: what they would cost is counted there.
    pinned : ndarray of int32
        Ascending.

    Notes
    -----
    What pinning a neuron saves depends on its neighbours: a hot neuron inside a read that is made anyway saves one
    neuron, a rare one that needs a read of its own lambda more. The exact share of each neuron, the others as they are,
    says which pinned ones to give up for which others; as those shares hold for one exchange at a time, as many are
    exchanged at once as lower the cost of the whole: a quarter of the set at first, half as many after each failure.
    Deterministic, ties to the lowest neuron.
    """
    best = pinned
    served = block.serve(order, best, with_shares=True)
    n_exchanged = -(-pinned.size // 4)
    for _ in range(MAX_TRIES):
        if n_exchanged == 0:
            break
        assert served.misses.read_shares is not None
        candidate = _exchange(best, served.misses.read_shares, n_exchanged)
        if candidate is None:
            break
        tried = block.serve(order, candidate, with_shares=True)
        if tried.searched < served.searched:
            best, served = candidate, tried
        else:
            n_exchanged //= 2
    return best


def _exchange(pinned: Int32Array, share: Float64Array, n_exchanged: int) -> Int32Array | None:
    """Return the set with its least valuable members exchanged for more valuable others; None if there are none."""
    others = np.setdiff1d(np.arange(share.size, dtype=np.int32), pinned)
    out = pinned[np.argsort(share[pinned], kind="stable")][:n_exchanged]
    come = others[np.argsort(-share[others], kind="stable")][: out.size]
    gains = share[come] > share[out[: come.size]]
    n_gaining = int(np.count_nonzero(gains))  # descending against ascending: the first ones
    if n_gaining == 0:
        return None
    return np.sort(np.concatenate([np.setdiff1d(pinned, out[:n_gaining]), come[:n_gaining]])).astype(np.int32)
