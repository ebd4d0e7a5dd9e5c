"""The cache policies on ordinary containers, written to be obvious.

Each returns the hits of a stream of accesses; `admitted` says, access by access, whether a miss may enter.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from functools import cache

from tests.reference.synthetic import random_word


def lru(accesses: list[int], capacity: int, admitted: list[bool] | None = None) -> list[bool]:
    """Replay against the least recently used policy."""
    resident: OrderedDict[int, None] = OrderedDict()
    hits = []
    for neuron, is_admitted in zip(accesses, admitted or [True] * len(accesses), strict=True):
        hits.append(neuron in resident)
        if not hits[-1] and not is_admitted:
            continue
        resident[neuron] = None
        resident.move_to_end(neuron)
        if len(resident) > capacity:
            resident.popitem(last=False)
    return hits


def fifo(accesses: list[int], capacity: int, admitted: list[bool] | None = None) -> list[bool]:
    """Replay against first in, first out."""
    resident: deque[int] = deque()
    hits = []
    for neuron, is_admitted in zip(accesses, admitted or [True] * len(accesses), strict=True):
        hits.append(neuron in resident)
        if hits[-1] or not is_admitted:
            continue
        resident.append(neuron)
        if len(resident) > capacity:
            resident.popleft()
    return hits


def lfu(accesses: list[int], capacity: int, admitted: list[bool] | None = None) -> list[bool]:
    """Replay against least frequently used; of equal counts the one that got its count first leaves."""
    resident: dict[int, tuple[int, int]] = {}  # neuron -> (count, when it got that count)
    hits = []
    for now, (neuron, is_admitted) in enumerate(zip(accesses, admitted or [True] * len(accesses), strict=True)):
        hits.append(neuron in resident)
        if hits[-1]:
            resident[neuron] = (resident[neuron][0] + 1, now)
        elif is_admitted and capacity:
            if len(resident) == capacity:
                del resident[min(resident, key=lambda other: resident[other])]
            resident[neuron] = (1, now)
    return hits


def sieve(accesses: list[int], capacity: int, admitted: list[bool] | None = None) -> list[bool]:
    """Replay against SIEVE."""
    queue: list[int] = []  # oldest first
    visited: set[int] = set()
    hand = 0
    hits = []
    for neuron, is_admitted in zip(accesses, admitted or [True] * len(accesses), strict=True):
        hits.append(neuron in queue)
        if hits[-1]:
            visited.add(neuron)
        elif is_admitted and capacity:
            if len(queue) == capacity:
                hand %= capacity
                while queue[hand] in visited:
                    visited.remove(queue[hand])
                    hand = (hand + 1) % capacity
                # What follows moves up to the hand; past the newest it starts over, whoever enters next.
                was_newest = hand == capacity - 1
                del queue[hand]
                hand = 0 if was_newest else hand
            queue.append(neuron)
    return hits


def pinned(accesses: list[int], resident: set[int]) -> list[bool]:
    """Replay against a fixed set."""
    return [neuron in resident for neuron in accesses]


def pinned_lru(
    accesses: list[int], resident: set[int], capacity: int, admitted: list[bool] | None = None
) -> list[bool]:
    """Replay against a fixed set and LRU in the rest of the capacity."""
    others = [i for i, neuron in enumerate(accesses) if neuron not in resident]
    hits = [True] * len(accesses)
    of_others = lru(
        [accesses[i] for i in others], capacity - len(resident), [admitted[i] for i in others] if admitted else None
    )
    for i, is_hit in zip(others, of_others, strict=True):
        hits[i] = is_hit
    return hits


def window(
    rows: list[list[int]], capacity: int, n_tokens: int, admitted: list[bool] | None = None,
    tokens: list[int] | None = None,
) -> list[bool]:  # fmt: skip
    """Replay rows against the window of the last `n_tokens` tokens, cut to what was used last.

    `tokens` numbers the token of each row, without gaps; unless it is given, each row is one.
    """
    resident: OrderedDict[int, int] = OrderedDict()  # neuron -> token of its last access
    may_enter = iter(admitted or [True] * sum(map(len, rows)))
    hits = []
    for now, row in zip(tokens or range(len(rows)), rows, strict=True):
        for neuron in [neuron for neuron, last in resident.items() if last < now - n_tokens]:
            del resident[neuron]
        for neuron in row:
            hits.append(neuron in resident)
            if not next(may_enter) and not hits[-1]:
                continue
            resident[neuron] = now
            resident.move_to_end(neuron)
            if len(resident) > capacity:
                resident.popitem(last=False)
    return hits


def belady(accesses: list[int], capacity: int, admitted: list[bool] | None = None) -> list[bool]:
    """Replay against Belady's replacement, which may decline to admit."""
    never = len(accesses)
    resident: dict[int, int] = {}  # neuron -> its next access
    hits = []
    for now, (neuron, is_admitted) in enumerate(zip(accesses, admitted or [True] * len(accesses), strict=True)):
        following = next((i for i in range(now + 1, never) if accesses[i] == neuron), never)
        hits.append(neuron in resident)
        if hits[-1]:
            resident[neuron] = following
        elif is_admitted:
            resident[neuron] = following
            if len(resident) > capacity:
                del resident[max(resident, key=lambda other: (resident[other], other == neuron))]
    return hits


def most_hits(accesses: list[int], capacity: int) -> int:
    """Return the most hits that any replacement can have, by trying all of them."""

    @cache
    def best(now: int, resident: frozenset[int]) -> int:
        if now == len(accesses):
            return 0
        neuron = accesses[now]
        if neuron in resident:
            return 1 + best(now + 1, resident)
        choices = [resident]
        if capacity:
            leaving = [frozenset()] if len(resident) < capacity else [frozenset({other}) for other in resident]
            choices += [(resident - victim) | {neuron} for victim in leaving]
        return max(best(now + 1, choice) for choice in choices)

    return best(0, frozenset())


def s3fifo(accesses: list[int], capacity: int, admitted: list[bool] | None = None) -> list[bool]:
    """Replay against S3-FIFO as libCacheSim has it: small queue 10 %, ghost 90 %, two accesses to move on."""
    small_limit, ghost_limit = int(capacity * 0.1), int(capacity * 0.9)
    main_limit = capacity - small_limit
    small: deque[int] = deque()
    main: deque[int] = deque()
    ghost: deque[int] = deque()
    n_accesses: dict[int, int] = {}
    has_evicted = False
    hits = []
    for neuron, is_admitted in zip(accesses, admitted or [True] * len(accesses), strict=True):
        if neuron in small or neuron in main:
            n_accesses[neuron] += 1
            hits.append(True)
            continue
        hits.append(False)
        if not is_admitted:
            continue
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


def greedydual(
    rows: list[list[int]],
    capacity: int,
    slot_of: list[int],
    prior: list[float],
    gap: int,
    break_even_gap: float,
    admitted: list[bool] | None = None,
    ends: list[bool] | None = None,
) -> list[bool]:
    """Replay rows against layout-aware GreedyDual, without its rescaling: for traces of some hundred rows.

    `ends` tells which rows are the last of their tokens, all unless it is given. Slots may be empty.
    """
    resident: set[int] = set()
    neuron_in = {slot: neuron for neuron, slot in enumerate(slot_of)}
    long_memory = dict.fromkeys(neuron_in.values(), 0.0)
    short_memory = dict(long_memory)
    cost: dict[int, float] = {}
    total_cost, n_costs = 0.0, 0
    long_weight = short_weight = 1.0
    may_enter = iter(admitted or [True] * sum(map(len, rows)))
    hits = []

    def worth(neuron: int) -> float:
        n_accesses = long_memory[neuron] / long_weight + short_memory[neuron] / short_weight + prior[neuron]
        return cost[neuron] * n_accesses

    for row, ends_token in zip(rows, ends or [True] * len(rows), strict=True):
        missing = [slot_of[neuron] for neuron in row if neuron not in resident]
        reads: list[list[int]] = []
        for slot in missing:
            if reads and slot - reads[-1][-1] - 1 <= gap:
                reads[-1].append(slot)
            else:
                reads.append([slot])
        average = total_cost / n_costs if n_costs else None
        for neuron in row:
            slot = slot_of[neuron]
            if neuron not in resident:
                (read,) = (read for read in reads if slot in read)
                fetch_cost = 1.0 + break_even_gap / len(read)
            elif any(read[0] < slot < read[-1] for read in reads):
                fetch_cost = 0.0
            else:
                near = [read for read in reads if min(abs(slot - other) for other in read) - 1 <= gap]
                fetch_cost = 1.0 + break_even_gap / (1 + sum(map(len, near)))
            known = cost.get(neuron, fetch_cost if average is None else average)
            cost[neuron] = known + 0.05 * (fetch_cost - known)
            total_cost, n_costs = total_cost + fetch_cost, n_costs + 1
            long_memory[neuron] += long_weight
            short_memory[neuron] += 2.0 * short_weight
            for other in (slot - 2, slot - 1, slot + 1, slot + 2):
                if other in neuron_in:
                    short_memory[neuron_in[other]] += 0.6 * short_weight
        entering = {neuron for neuron in row if next(may_enter) and neuron not in resident}
        ranked = sorted(resident | entering, key=lambda neuron: (-worth(neuron), slot_of[neuron]))
        chosen, others = set(ranked[:capacity]), ranked[capacity:]
        hits += [neuron in resident for neuron in row]
        resident -= {neuron for neuron in others if neuron not in row}
        served: list[int] = []  # residents that the row has had, and that are to leave when there is need
        for neuron in row:
            if neuron in resident:
                served += [neuron] if neuron not in chosen else []
            elif neuron in chosen and (len(resident) < capacity or served):
                if len(resident) == capacity:
                    resident.remove(served.pop(0))
                resident.add(neuron)
        if ends_token:
            long_weight *= 1 + 1 / 60
            short_weight *= 1 + 1 / 6
    return hits


def mask_first(
    rows: list[list[int]], capacity: int, rule: str, admitted: list[bool] | None = None, seed: int = 0
) -> tuple[list[bool], set[int]]:
    """Replay rows against DIP's caches; return the hits, and what is in DRAM afterwards.

    A mask enters as a whole, then the lowest ranked residents outside it leave. `rule` is "lru", "lfu" or "belady";
    after the last row all neurons are needed once more. Draws are ranked by SplitMix64, keyed by row, then neuron.
    """
    resident: set[int] = set()
    may_enter = iter(admitted or [True] * sum(map(len, rows)))
    hits: list[bool] = []

    def rank(neuron: int, now: int) -> tuple[int, int]:
        masks = [i for i, row in enumerate(rows[: now + 1]) if neuron in row]
        later = next((i for i in range(now + 1, len(rows)) if neuron in rows[i]), len(rows))
        return {"lru": masks[-1], "lfu": len(masks), "belady": -later}[rule], neuron

    for now, row in enumerate(rows):
        hits += [neuron in resident for neuron in row]
        entering = [neuron for neuron in row if next(may_enter) and neuron not in resident]
        used, idle = resident & set(row), resident - set(row)
        n_evicted = max(0, min(len(idle), len(used) + len(entering) + len(idle) - capacity))
        idle -= set(sorted(idle, key=lambda neuron: rank(neuron, now))[:n_evicted])
        drawn = sorted(entering, key=lambda neuron: random_word(random_word(seed, now), neuron))
        resident = used | idle | set(drawn[: capacity - len(used) - len(idle)])
    return hits, resident
