"""Choosing what a token uses, written to be obvious."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING

from tests.reference import read_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def closed(chosen: Sequence[int], missing: Sequence[int], gap: int) -> list[int]:
    """Return the missing slots that come along if some of them are read: the chosen ones, and those in between."""
    reads = read_plan.plan(list(chosen), gap)
    return [slot for slot in missing if any(first <= slot <= last for first, last in reads)]


def value_of(chosen: Sequence[int], worth: dict[int, float], gap: int, run_price: Sequence[float]) -> float:
    """Return the worth of all that the reads of some slots bring, less the price of the reads."""
    reads = read_plan.plan(list(chosen), gap)
    brought = closed(chosen, sorted(worth), gap)
    return sum(worth[slot] for slot in brought) - sum(run_price[last - first + 1] for first, last in reads)


def best_of_all(worth: dict[int, float], gap: int, run_price: Sequence[float]) -> float:
    """Return the highest value of all 2^n subsets of the missing slots, whose worth is given."""
    slots = sorted(worth)
    return max(
        value_of([slot for slot, is_chosen in zip(slots, bits, strict=True) if is_chosen], worth, gap, run_price)
        for bits in product((False, True), repeat=len(slots))
    )


def best_by_reads(worth: dict[int, float], gap: int, run_price: Sequence[float]) -> float:
    """Return the same by trying, from left to right, each read that can begin at the next missing slot."""
    slots = sorted(worth)

    @cache
    def best(first: int) -> float:
        if first == len(slots):
            return 0.0
        found, brought = best(first + 1), 0.0
        for last in range(first, len(slots)):
            if last > first and slots[last] - slots[last - 1] - 1 > gap:
                break
            brought += worth[slots[last]]
            following = last + 1
            while following < len(slots) and slots[following] - slots[last] - 1 <= gap:
                following += 1
            found = max(found, brought - run_price[slots[last] - slots[first] + 1] + best(following))
        return found

    return best(0)


def served(
    rows: list[list[int]], choose: Callable[[int, list[bool]], list[bool]], holds: Callable[[int], bool],
    access: Callable[[list[int], list[bool]], list[bool]], admit: Callable[[int, list[int]], list[bool]],
    in_slot_order: bool,
) -> list[list[tuple[int, bool]]]:  # fmt: skip
    """Serve rows of neurons in slot order; return, row by row, which are used and whether each was in DRAM.

    Parameters
    ----------
    rows : list of list of int
    choose : callable
        Takes the row and which of its neurons are in DRAM; returns which are used.
    holds, access : callable
        The cache: whether it holds a neuron; and an access of some neurons, of which some may enter.
    admit : callable
        Takes the row and what is used of it; returns which may enter.
    in_slot_order : bool
        Whether the cache is asked in slot order, or for what it holds first.
    """
    result = []
    for number, row in enumerate(rows):
        resident = [holds(neuron) for neuron in row]
        is_used = choose(number, resident)
        used = [(neuron, held) for neuron, held, taken in zip(row, resident, is_used, strict=True) if taken]
        admitted = dict(zip(used, admit(number, [neuron for neuron, _ in used]), strict=True))
        asked = used if in_slot_order else sorted(used, key=lambda one: not one[1])
        hits = access([neuron for neuron, _ in asked], [admitted[one] for one in asked])
        assert hits == [held for _, held in asked], "what was in DRAM is no longer there when it is asked for"
        result.append(used)
    return result


def largest(scores: Sequence[float], k: int) -> list[bool]:
    """Return which entries are the `k` largest; of equal ones the first count."""
    ranked = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    return [i in ranked[: max(0, k)] for i in range(len(scores))]


def window_grid(n_slots: int, bundle_bytes: int, smallest: int, largest: int, jump: int) -> list[tuple[int, int]]:
    """Return first slot and length of the windows of Neuron Chunking: all sizes in bytes, shorter windows first.

    Sizes are multiples of the smallest one; windows of a size begin that far apart, or the jump cap if it is less. A
    window has whole slots, at least one. Sizes of as many slots are one, and the last window ends with the last slot.
    """
    windows: list[tuple[int, int]] = []
    size = smallest
    while size <= largest:
        length = max(1, min(size // bundle_bytes, n_slots))
        if length not in [known for _, known in windows]:
            start = 0
            while start + length < n_slots:
                windows.append((start, length))
                start += max(1, min(size, jump) // bundle_bytes)
            windows.append((n_slots - length, length))
        size += smallest
    return windows


def chunks(
    worth: dict[int, float], windows: Sequence[tuple[int, int]], read_us: Sequence[float], budget: int
) -> list[int]:
    """Return the slots, of those with a worth, that Neuron Chunking uses; `read_us` is by the length of a read."""

    def score(window: tuple[int, int]) -> float:
        start, length = window
        return sum(worth.get(slot, 0.0) for slot in range(start, start + length)) / read_us[length]

    taken: set[int] = set()
    for start, length in sorted(windows, key=score, reverse=True):  # The sort is stable.
        window = set(range(start, start + length))
        if score((start, length)) > 0 and not window & taken and len(taken) + length <= budget:
            taken |= window
    return sorted(taken & worth.keys())
