"""Caches of a capacity in bytes on ordinary containers, written to be obvious.

Each returns the hits of a stream of accesses to items that have sizes. `admitted` says, access by access, whether a
miss may enter: 1 or 0; 2 asks only whether the item is there.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE = 2


def lru(items: list[int], sizes: list[int], admitted: list[int], capacity: int) -> list[bool]:
    """Evict the least recently used."""
    return _in_order(items, sizes, admitted, capacity, moves=True)


def fifo(items: list[int], sizes: list[int], admitted: list[int], capacity: int) -> list[bool]:
    """Evict what entered first."""
    return _in_order(items, sizes, admitted, capacity, moves=False)


def _in_order(items: list[int], sizes: list[int], admitted: list[int], capacity: int, *, moves: bool) -> list[bool]:
    there: OrderedDict[int, int] = OrderedDict()
    hits = []
    for item, code in zip(items, admitted, strict=True):
        hits.append(item in there)
        if code == PROBE:
            continue
        if item in there:
            if moves:
                there.move_to_end(item)
        elif code and sizes[item] <= capacity:
            while sum(there.values()) + sizes[item] > capacity:
                there.popitem(last=False)
            there[item] = sizes[item]
    return hits


def _by_rank(
    items: list[int], sizes: list[int], admitted: list[int], capacity: int,
    rank: Callable[[int, int, tuple[float, ...] | None, tuple[float, ...] | None], tuple[float, ...]],
) -> list[bool]:  # fmt: skip
    """Evict the lowest rank; of equals, the lowest item.

    `rank(access, item, leaver, before)` is the rank after an access: `leaver` is the rank of what left last, `before`
    the item's own.
    """
    there: dict[int, tuple[float, ...]] = {}
    leaver = None
    hits = []
    for access, (item, code) in enumerate(zip(items, admitted, strict=True)):
        hits.append(item in there)
        if code == PROBE:
            continue
        if item not in there:
            if not code or sizes[item] > capacity:
                continue
            while sum(sizes[other] for other in there) + sizes[item] > capacity:
                worst = min(there, key=lambda other: (there[other], other))
                leaver = max(leaver or there[worst], there[worst])
                del there[worst]
        there[item] = rank(access, item, leaver, there.get(item))
    return hits


def lfu(items: list[int], sizes: list[int], admitted: list[int], capacity: int) -> list[bool]:
    """Evict what was used least since the beginning, then least recently."""
    uses = [0] * len(sizes)
    counts = []
    for item, code in zip(items, admitted, strict=True):
        uses[item] += code != PROBE
        counts.append(uses[item])
    return _by_rank(items, sizes, admitted, capacity, lambda access, *_: (counts[access], access))


def greedydual(
    items: list[int], sizes: list[int], admitted: list[int], capacity: int, costs: list[float]
) -> list[bool]:
    """Evict what is cheapest to read again for its bytes, and has waited longest."""
    return _by_rank(
        items, sizes, admitted, capacity,
        lambda access, item, leaver, _: ((leaver[0] if leaver else 0.0) + costs[item] / sizes[item], access),
    )  # fmt: skip


def belady(items: list[int], sizes: list[int], admitted: list[int], capacity: int) -> list[bool]:
    """Evict what is used again last."""
    uses = [item if code != PROBE else None for item, code in zip(items, admitted, strict=True)]

    def next_use(access: int, item: int, *_: object) -> tuple[float, ...]:
        later = [place for place in range(access + 1, len(items)) if uses[place] == item]
        return (-float(later[0]) if later else float("-inf"),)

    return _by_rank(items, sizes, admitted, capacity, next_use)


def sieve(items: list[int], sizes: list[int], admitted: list[int], capacity: int) -> list[bool]:
    """Walk a hand from the oldest to the newest, and evict the first that was not used since it came by."""
    queue: list[int] = []  # from the oldest to the newest
    used: set[int] = set()
    hand: int | None = None
    hits = []
    for item, code in zip(items, admitted, strict=True):
        hits.append(item in queue)
        if code == PROBE:
            continue
        if item in queue:
            used.add(item)
        elif code and sizes[item] <= capacity:
            while sum(sizes[other] for other in queue) + sizes[item] > capacity:
                at = 0 if hand is None else queue.index(hand)
                while queue[at] in used:
                    used.discard(queue[at])
                    at = (at + 1) % len(queue)
                hand = queue[at + 1] if at + 1 < len(queue) else None
                del queue[at]
            queue.append(item)
    return hits


def s3fifo(items: list[int], sizes: list[int], admitted: list[int], capacity: int) -> list[bool]:
    """Two queues: what is used in the small one, or comes back soon after it, goes to the main one."""
    small: deque[int] = deque()
    main: deque[int] = deque()
    ghosts: deque[int] = deque()
    uses: dict[int, int] = {}

    def held(queue: deque[int]) -> int:
        return sum(sizes[item] for item in queue)

    hits = []
    for item, code in zip(items, admitted, strict=True):
        hits.append(item in small or item in main)
        if code == PROBE:
            continue
        if hits[-1]:
            uses[item] = min(uses[item] + 1, 3)
            continue
        if not code or sizes[item] > capacity:
            continue
        while held(small) + held(main) + sizes[item] > capacity:
            if held(small) > capacity // 10 or not main:
                leaving = small.popleft()
                if uses[leaving]:
                    uses[leaving] = 0
                    main.append(leaving)
                else:
                    ghosts.append(leaving)
                    while held(ghosts) > capacity - capacity // 10:
                        ghosts.popleft()
            else:
                leaving = main.popleft()
                if uses[leaving]:
                    uses[leaving] -= 1
                    main.append(leaving)
        uses[item] = 0
        if item in ghosts:
            ghosts.remove(item)
            main.append(item)
        else:
            small.append(item)
    return hits
