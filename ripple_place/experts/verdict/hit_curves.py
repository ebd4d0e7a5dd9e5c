"""Hit ratio against slots: every policy and the bound, with a cache for each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.experts.caches import BOUND, POLICIES, CacheInput, replay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.arrays import BoolArray, Int64Array
    from ripple_place.experts.accesses import ExpertAccesses

SLOT_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Of a layer's experts that its cache has room for."""


@dataclass(frozen=True, eq=False)
class HitCurves:
    """Hit ratios of generated tokens.

    Attributes
    ----------
    slots : tuple of int
        Experts of each layer in DRAM.
    hit_ratio : mapping of str to tuple of float
        By policy, at each number of slots, over all layers. The bound is not below any policy that starts empty;
        ``pinned`` starts full.
    by_layer : mapping of str to tuple of float
        By layer, of ``lru`` at each number of slots.
    """

    slots: tuple[int, ...]
    hit_ratio: Mapping[str, tuple[float, ...]]
    by_layer: Mapping[str, tuple[float, ...]]


def hit_curves(
    accesses: ExpertAccesses, judged: BoolArray, frequency: Int64Array, slots: Sequence[int]
) -> HitCurves:  # fmt: skip
    """Return the hit ratio of every policy at some numbers of slots a layer.

    Parameters
    ----------
    accesses : ExpertAccesses
    judged : ndarray of shape (n_accesses,), bool
        Accesses that count; the others fill the caches.
    frequency : ndarray of shape (n_items,), int64
        What the hottest are told by, counted on accesses that are not judged.
    slots : sequence of int
    """
    policies = [policy for policy in POLICIES if policy != "none"]
    hits = {policy: np.zeros(len(slots)) for policy in policies}
    by_layer: dict[str, tuple[float, ...]] = {}
    n_judged = max(1, int(judged.sum()))
    for layer, block in enumerate(accesses.blocks):
        here = accesses.layers == layer
        first, stop = int(accesses.first_item[layer]), int(accesses.first_item[layer + 1])
        items, counts = (accesses.items[here] - first).astype(np.int32), judged[here]
        ones = np.ones(stop - first, np.int64)
        ratios = []
        for at, n_slots in enumerate(slots):
            cache = CacheInput(
                items, ones, np.ones(items.size, np.uint8), n_slots, frequency[first:stop], np.ones(stop - first)
            )  # fmt: skip
            for policy in policies:
                n_hits = int((replay(policy, cache) & counts).sum())
                hits[policy][at] += n_hits
                if policy == "lru":
                    ratios.append(n_hits / max(1, int(counts.sum())))
        by_layer[block] = tuple(ratios)
    return HitCurves(
        tuple(slots), {policy: tuple((found / n_judged).tolist()) for policy, found in hits.items()}, by_layer
    )


def best_of(curves: HitCurves, at: int) -> str:
    """Return the policy with the most hits at a number of slots, of those that a reader can have."""
    known = {policy: ratios[at] for policy, ratios in curves.hit_ratio.items() if policy != BOUND}
    return max(known, key=lambda policy: known[policy])
