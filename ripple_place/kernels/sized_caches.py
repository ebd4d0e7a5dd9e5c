"""Caches of a capacity in bytes, whose items have sizes: experts of a mixture, of a layer's own precision each.

Each kernel goes through accesses in order and writes 1 to `is_hit` where an item was there. A miss that is admitted
enters after as many others have left as it needs; an item that is larger than the cache never enters. Where `admitted`
is `PROBE`, the access only asks whether the item is there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ripple_place.kernels.compiled import compiled

LRU, FIFO, LFU, GREEDYDUAL, BELADY = range(5)
"""Rules of `replay_ranked`: who leaves first."""
PROBE = 2
"""In place of whether a miss is admitted: the access changes nothing."""
NEVER = 2**62
"""Place of an access that does not come."""
_SMALL, _MAIN = 1, 2
MAX_USES = 3
"""Uses that S3-FIFO counts of an item (Yang et al., SOSP 2023)."""


@compiled
def next_uses(items: Any, n_items: int, following: Any) -> None:
    """Write to `following` the place of the next access to the same item, `NEVER` where there is none."""
    seen = np.full(n_items, NEVER, np.int64)
    for place in range(items.size - 1, -1, -1):
        following[place] = seen[items[place]]
        seen[items[place]] = place


@compiled
def replay_ranked(
    items: Any, sizes: Any, admitted: Any, capacity: int, rule: int, costs: Any, following: Any, is_hit: Any
) -> None:
    """Replay a policy that ranks what is there by a number, and evicts the lowest; of equals, the lowest item.

    Parameters
    ----------
    items : ndarray of shape (n_accesses,), int32
    sizes : ndarray of shape (n_items,), int64
        Bytes.
    admitted : ndarray of shape (n_accesses,), uint8
    capacity : int
        Bytes.
    rule : int
        LRU ranks by the last use, FIFO by the entry, LFU by the uses since the first (then by the last), GREEDYDUAL by
        `costs` over sizes above what left last (Cherkasova's GreedyDual-Size, without frequency), BELADY by the next
        use, the farthest lowest.
    costs : ndarray of shape (n_items,), float64
    following : ndarray of shape (n_accesses,), int64
        For BELADY (`next_uses`); otherwise not looked at.
    is_hit : ndarray of shape (n_accesses,), uint8

    Notes
    -----
    An eviction looks at all residents: a few thousand experts at most.
    """
    n_items = sizes.size
    rank, tie = np.zeros(n_items), np.zeros(n_items, np.int64)
    place_of = np.full(n_items, -1, np.int64)
    resident = np.empty(n_items, np.int32)
    n_resident, used, clock = 0, 0, 0.0
    for access in range(items.size):
        item = items[access]
        found = place_of[item] >= 0
        is_hit[access] = found
        if admitted[access] == PROBE:
            continue
        if rule == LFU:
            rank[item] += 1.0
        if not found:
            if not admitted[access] or sizes[item] > capacity:
                continue
            while used + sizes[item] > capacity:
                worst = 0
                for other in range(1, n_resident):
                    left, right = resident[worst], resident[other]
                    if rank[right] < rank[left] or (
                        rank[right] == rank[left]
                        and (tie[right] < tie[left] or (tie[right] == tie[left] and right < left))
                    ):
                        worst = other
                leaving = resident[worst]
                clock = max(clock, rank[leaving])
                used -= sizes[leaving]
                n_resident -= 1
                resident[worst] = resident[n_resident]
                place_of[resident[worst]] = worst
                place_of[leaving] = -1
            place_of[item] = n_resident
            resident[n_resident] = item
            n_resident += 1
            used += sizes[item]
        if rule == LRU or (rule == FIFO and not found):
            rank[item] = access
        elif rule == LFU:
            tie[item] = access
        elif rule == GREEDYDUAL:
            rank[item] = clock + costs[item] / sizes[item]
            tie[item] = access
        elif rule == BELADY:
            rank[item] = -following[access]


@compiled
def replay_sieve(items: Any, sizes: Any, admitted: Any, capacity: int, is_hit: Any) -> None:
    """Replay SIEVE (Zhang et al., NSDI 2024): a hand walks from the oldest to the newest and spares what was used."""
    n_items = sizes.size
    newer, older = np.full(n_items + 1, -1, np.int32), np.full(n_items + 1, -1, np.int32)
    newer[n_items] = older[n_items] = n_items
    visited = np.zeros(n_items, np.uint8)
    hand, used = n_items, 0
    for access in range(items.size):
        item = items[access]
        found = older[item] >= 0
        is_hit[access] = found
        if admitted[access] == PROBE:
            continue
        if found:
            visited[item] = 1
            continue
        if not admitted[access] or sizes[item] > capacity:
            continue
        while used + sizes[item] > capacity:
            if hand == n_items:
                hand = newer[n_items]
            while visited[hand]:
                visited[hand] = 0
                hand = newer[hand]
                if hand == n_items:
                    hand = newer[n_items]
            leaving = hand
            hand = newer[leaving]
            newer[older[leaving]] = newer[leaving]
            older[newer[leaving]] = older[leaving]
            older[leaving] = newer[leaving] = -1
            used -= sizes[leaving]
        newest = older[n_items]
        newer[newest], older[item] = item, newest
        newer[item], older[n_items] = n_items, item
        visited[item] = 0
        used += sizes[item]


@compiled
def _push(newer: Any, older: Any, anchor: int, item: int) -> None:
    """Put an item at the new end of the list of an anchor."""
    newest = older[anchor]
    newer[newest], older[item] = item, newest
    newer[item], older[anchor] = anchor, item


@compiled
def _remove(newer: Any, older: Any, item: int) -> None:
    """Take an item out of its list."""
    newer[older[item]] = newer[item]
    older[newer[item]] = older[item]


@compiled
def replay_s3fifo(items: Any, sizes: Any, admitted: Any, capacity: int, is_hit: Any) -> None:
    """Replay S3-FIFO (Yang et al., SOSP 2023) with queues in bytes: a tenth for what is new, the rest for what is used.

    What leaves the small queue unused is remembered in a ghost queue of as many bytes as the main one has; a miss that
    is remembered enters the main queue.
    """
    n_items = sizes.size
    small, main, ghosts = n_items, n_items + 1, n_items + 2
    newer, older = np.full(n_items + 3, -1, np.int32), np.full(n_items + 3, -1, np.int32)
    ghost_newer, ghost_older = np.full(n_items + 3, -1, np.int32), np.full(n_items + 3, -1, np.int32)
    for anchor in (small, main):
        newer[anchor] = older[anchor] = anchor
    ghost_newer[ghosts] = ghost_older[ghosts] = ghosts
    queue, is_ghost = np.zeros(n_items, np.uint8), np.zeros(n_items, np.uint8)
    uses = np.zeros(n_items, np.uint8)
    small_bytes = main_bytes = ghost_bytes = 0
    small_capacity = capacity // 10
    for access in range(items.size):
        item = items[access]
        is_hit[access] = queue[item] > 0
        if admitted[access] == PROBE:
            continue
        if queue[item] > 0:
            uses[item] = min(uses[item] + 1, MAX_USES)
            continue
        if not admitted[access] or sizes[item] > capacity:
            continue
        while small_bytes + main_bytes + sizes[item] > capacity:
            if small_bytes > small_capacity or main_bytes == 0:
                leaving = newer[small]
                _remove(newer, older, leaving)
                small_bytes -= sizes[leaving]
                if uses[leaving] > 0:
                    uses[leaving] = 0
                    queue[leaving] = _MAIN
                    _push(newer, older, main, leaving)
                    main_bytes += sizes[leaving]
                else:
                    queue[leaving] = 0
                    is_ghost[leaving] = 1
                    _push(ghost_newer, ghost_older, ghosts, leaving)
                    ghost_bytes += sizes[leaving]
                    while ghost_bytes > capacity - small_capacity:
                        forgotten = ghost_newer[ghosts]
                        _remove(ghost_newer, ghost_older, forgotten)
                        is_ghost[forgotten] = 0
                        ghost_bytes -= sizes[forgotten]
            else:
                leaving = newer[main]
                _remove(newer, older, leaving)
                if uses[leaving] > 0:
                    uses[leaving] -= 1
                    _push(newer, older, main, leaving)
                else:
                    queue[leaving] = 0
                    main_bytes -= sizes[leaving]
        uses[item] = 0
        if is_ghost[item]:
            is_ghost[item] = 0
            _remove(ghost_newer, ghost_older, item)
            ghost_bytes -= sizes[item]
            queue[item] = _MAIN
            _push(newer, older, main, item)
            main_bytes += sizes[item]
        else:
            queue[item] = _SMALL
            _push(newer, older, small, item)
            small_bytes += sizes[item]
