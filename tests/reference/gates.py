"""Reading gates first, written to be obvious: pages are sets, probabilities are lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.reference import read_plan
from tests.reference.synthetic import random_word

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ripple_place.flash.bundle_form import BundleForm

PAGE, MAX_PAGES = 4096, 4


def simulate_block(
    active: np.ndarray,
    named: np.ndarray,
    order: list[int],
    form: BundleForm,
    gap: int,
    hits_of: Callable[[list[int], list[bool]], list[bool]],
) -> dict[str, object]:
    """Return the counts of a block whose gates are read first, of neurons that are `named[token, neuron]`."""
    asked = [[slot for slot in range(len(order)) if row[order[slot]]] for row in named]
    stream = [order[slot] for slots in asked for slot in slots]
    fires = [bool(active[token, order[slot]]) for token, slots in enumerate(asked) for slot in slots]
    is_hit = iter(hits_of(stream, fires))
    counts = {"gate": [0, 0, 0], "rest": [0, 0, 0]}
    gate_us, token_us, looked_at, rest = [], [], 0, 0
    for token, slots in enumerate(asked):
        missed = [slot for slot in slots if not next(is_hit)]
        firing = [slot for slot in missed if active[token, order[slot]]]
        looked_at, rest = looked_at + len(missed), rest + len(firing)
        kept: set[int] = set()
        times = []
        for phase, wanted, unit, stride, base in (
            ("gate", missed, form.gate_bytes, form.gate_stride_bytes, 0),
            ("rest", firing, form.rest_bytes, form.rest_stride_bytes, form.rest_offset_bytes),
        ):
            us, fetched = 0.0, set()
            for first, last in read_plan.plan(wanted, gap):
                pages = read_plan.pages(first, last, unit, stride, base, PAGE)
                requests = [size for run in _runs(set(pages) - kept) for size in _split(run)]
                counts[phase][0] += bool(requests)
                counts[phase][1] += len(requests)
                counts[phase][2] += sum(requests) * PAGE
                us += sum(10 + size for size in requests)
                fetched |= set(pages)
            kept |= fetched
            times.append(us)
        gate_us.append(times[0])
        token_us.append(sum(times))
    return {**counts, "gate_us": gate_us, "token_us": token_us, "n_looked_at": looked_at, "n_rest": rest}


def _runs(pages: set[int]) -> list[int]:
    """Return the lengths of runs of pages."""
    lengths: list[int] = []
    for page in sorted(pages):
        if page - 1 in pages:
            lengths[-1] += 1
        else:
            lengths.append(1)
    return lengths


def _split(n_pages: int) -> list[int]:
    """Return the pages of each request."""
    return [min(MAX_PAGES, n_pages - first) for first in range(0, n_pages, MAX_PAGES)]


def draw_more(active: np.ndarray, weight: list[int], rate: float, key: int) -> np.ndarray:
    """Name what fires and `rate` neurons more for each, from a list of weights that shrinks as they are drawn."""
    named = active.copy()
    n_firing = n_drawn = 0
    for row in range(len(active)):
        left = [0 if fires else weight[neuron] for neuron, fires in enumerate(active[row])]
        n_firing += int(active[row].sum())
        n_due = int(rate * n_firing)
        row_key = random_word(key, row)
        for number in range(min(n_due - n_drawn, sum(value > 0 for value in left))):
            target = (random_word(row_key, number) >> 1) % sum(left)
            neuron = 0
            while target >= left[neuron]:
                target -= left[neuron]
                neuron += 1
            named[row, neuron] = True
            left[neuron] = 0
        n_drawn = n_due
    return named
