"""The cache policies on ordinary containers, written to be obvious. Each returns the hits of a stream of accesses."""

from __future__ import annotations

from collections import OrderedDict, deque


def lru(accesses: list[int], capacity: int) -> list[bool]:
    """Replay against the least recently used policy."""
    resident: OrderedDict[int, None] = OrderedDict()
    hits = []
    for neuron in accesses:
        hits.append(neuron in resident)
        resident[neuron] = None
        resident.move_to_end(neuron)
        if len(resident) > capacity:
            resident.popitem(last=False)
    return hits


def pinned(accesses: list[int], resident: set[int]) -> list[bool]:
    """Replay against a fixed set."""
    return [neuron in resident for neuron in accesses]


def s3fifo(accesses: list[int], capacity: int) -> list[bool]:
    """Replay against S3-FIFO as libCacheSim has it: small queue 10 %, ghost 90 %, two accesses to move on."""
    small_limit, ghost_limit = int(capacity * 0.1), int(capacity * 0.9)
    main_limit = capacity - small_limit
    small: deque[int] = deque()
    main: deque[int] = deque()
    ghost: deque[int] = deque()
    n_accesses: dict[int, int] = {}
    has_evicted = False
    hits = []
    for neuron in accesses:
        if neuron in small or neuron in main:
            n_accesses[neuron] += 1
            hits.append(True)
            continue
        hits.append(False)
        is_remembered = neuron in ghost
        if is_remembered:
            ghost.remove(neuron)
        elif small_limit <= 1:
            continue
        while len(small) + len(main) >= capacity:
            has_evicted = True
            if len(main) > main_limit or not small:
                while main:
                    oldest = main.popleft()
                    if n_accesses[oldest] == 0:
                        break
                    n_accesses[oldest] = min(n_accesses[oldest], 3) - 1
                    main.append(oldest)
            else:
                while small:
                    oldest = small.popleft()
                    if n_accesses[oldest] < 2:
                        ghost.append(oldest)
                        if len(ghost) > ghost_limit:
                            ghost.popleft()
                        break
                    n_accesses[oldest] = 0
                    main.append(oldest)
        n_accesses[neuron] = 0
        if is_remembered or (not has_evicted and len(small) >= small_limit):
            main.append(neuron)
        else:
            small.append(neuron)
    return hits
