"""Reads from two copies: what a division costs, the best of all divisions, and the search, written plainly."""

from __future__ import annotations

from itertools import product

from tests.reference import read_plan


def cost(slots: list[int], gap: int, break_even_gap: float) -> float:
    """Return lambda x reads + neurons read of one copy's slots."""
    return sum(break_even_gap + last - first + 1 for first, last in read_plan.plan(slots, gap))


def cost_of(from_second: list[bool], pairs: list[tuple[int, int]], gap: int, break_even_gap: float) -> float:
    """Return the cost of a division; `pairs` has each neuron's slots in the two copies."""
    first = [pair[0] for pair, second in zip(pairs, from_second, strict=True) if not second]
    second = [pair[1] for pair, second in zip(pairs, from_second, strict=True) if second]
    return cost(first, gap, break_even_gap) + cost(second, gap, break_even_gap)


def least_cost(pairs: list[tuple[int, int]], gap: int, break_even_gap: float) -> float:
    """Return the least cost of all 2^n divisions."""
    return min(
        cost_of(list(division), pairs, gap, break_even_gap) for division in product((False, True), repeat=len(pairs))
    )


def divide(pairs: list[tuple[int, int]], gap: int, break_even_gap: float, max_passes: int, longest: int) -> list[bool]:
    """Return for each neuron whether it is read from the second copy: stretches move while that saves.

    Costs are computed anew for each division that is tried. `pairs` are in the first copy's order.
    """
    orders = [sorted(range(len(pairs)), key=lambda neuron: pairs[neuron][copy]) for copy in range(2)]
    division = [False] * len(pairs)
    for _ in range(max_passes):
        before = list(division)
        for source in (False, True):
            for along in (1 - source, int(source)):
                order = orders[along]
                for start in range(len(order)):
                    if division[order[start]] == source:
                        division = _move_stretch(division, pairs, order[start:], along, gap, break_even_gap, longest)
        if division == before:
            break
    return division


def _move_stretch(division, pairs, order, along, gap, break_even_gap, longest):
    """Return the division with the best stretch from the first of `order` on moved to the other copy, if that saves."""
    source, trial, best, n_moved = division[order[0]], list(division), division, 0
    least = cost_of(division, pairs, gap, break_even_gap) - 1e-9
    last = pairs[order[0]][along]
    for neuron in order:
        if pairs[neuron][along] - last > gap + 1 or n_moved == longest:
            break
        last = pairs[neuron][along]
        if trial[neuron] != source:
            continue
        trial[neuron] = not source
        n_moved += 1
        if cost_of(trial, pairs, gap, break_even_gap) < least:
            least, best = cost_of(trial, pairs, gap, break_even_gap), list(trial)
    return best
