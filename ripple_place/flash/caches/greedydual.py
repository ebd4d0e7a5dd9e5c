"""Layout-aware GreedyDual: the neuron that stays least worth keeping leaves, by how often it fires and what it costs.

A neuron's worth is its accesses, those long past counting less, times what it would cost to fetch it again in this
layout. A miss that is worth less than every resident is not admitted. Fetching costs 1 for the neuron's own bytes and
lambda for its read, shared by the neurons of the token that the read fetches; for a resident neuron, what it would have
cost had it not been in DRAM: 0 inside a gap that is read through anyway, and 1 plus a share of the reads within reach
of it otherwise. Costs are averaged over a neuron's accesses. All neurons are remembered, not residents only, and each
begins with a prior from the profile's frequencies; without them, with nothing.

Classic GreedyDual [1]_ ages by adding the worth of the last one evicted to what comes in; here the weight of an access
grows with every token instead, which cost 5 to 6 % less per token and needs no constant but the span of memory.
The constants were chosen on training traces (docs/caches.md). Replay is by token: the misses of a token are planned
into reads on what is resident when it begins. A heap of residents: O(log capacity) per access.

References
----------
.. [1] Young, "The k-server dual and loose competitiveness for paging", Algorithmica 11 (1994),
       doi:10.1007/BF01189992; with frequencies: Cherkasova, "Improving WWW proxies performance with
       Greedy-Dual-Size-Frequency caching policy", HP Labs HPL-98-69, 1998.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from ripple_place.flash.caches.cache import LONE_READS, Accesses, ArrayCache, ReadCost
from ripple_place.kernels.heap import ABSENT, sift_down, sift_up

if TYPE_CHECKING:
    import numpy.typing as npt

    from ripple_place.placement import NeuronPlacement

MEMORY_TOKENS = 40.0
"""Tokens after which an access counts 1/e of a new one (docs/caches.md says what others gave)."""
PRIOR_WEIGHT = 0.3
"""Accesses that a neuron of mean frequency begins with; others in proportion."""
COST_WEIGHT = 0.05
"""Weight of the last access in the average cost of fetching a neuron."""

_GROWTH = 1 + 1 / MEMORY_TOKENS
_RESCALE = 2.0**512  # a power of two: scaling by it is exact
_UNKNOWN = -1.0


def allocate(capacity: int, n_neurons: int) -> tuple[npt.NDArray[Any], ...]:
    """Return the state of an empty cache.

    Returns
    -------
    tuple of ndarray
        The heap of residents and the place of each neuron in it; each neuron's worth when last accessed, weighted
        accesses, and average cost; residents; the weight of an access now.
    """
    return (
        np.empty(capacity, np.int32),
        np.full(n_neurons, ABSENT, np.int32),
        np.zeros(n_neurons, np.float64),
        np.zeros(n_neurons, np.float64),
        np.full(n_neurons, _UNKNOWN, np.float64),
        np.zeros(1, np.int64),
        np.ones(1, np.float64),
    )


def priors(placement: NeuronPlacement) -> npt.NDArray[np.float64]:
    """Return the accesses that each neuron begins with."""
    frequency = placement.frequency
    if frequency is None or not frequency.any():
        return np.zeros(placement.n_neurons)
    return np.asarray(PRIOR_WEIGHT * frequency / frequency.mean())


@njit(cache=True, nogil=True)
def _share_reads(missing: Any, gap: int, share: Any) -> None:
    """Write to `share`, for each of ascending slots, how many of them the read that fetches it serves."""
    first = 0
    for i in range(missing.size):
        if i + 1 == missing.size or missing[i + 1] - missing[i] - 1 > gap:
            for k in range(first, i + 1):
                share[k] = i + 1 - first
            first = i + 1


@njit(cache=True, nogil=True)
def _cost_if_missing(slot: int, following: int, missing: Any, share: Any, gap: int, break_even_gap: float) -> float:
    """Return what fetching the resident neuron in `slot` would have cost; `following` is the next missing slot's place.

    `missing` and `share` as in `_share_reads`.
    """
    n_sharing = 1
    is_near_left = following > 0 and slot - missing[following - 1] - 1 <= gap
    is_near_right = following < missing.size and missing[following] - slot - 1 <= gap
    if is_near_left and is_near_right and missing[following] - missing[following - 1] - 1 <= gap:
        return 0.0
    if is_near_left:
        n_sharing += share[following - 1]
    if is_near_right:
        n_sharing += share[following]
    return 1.0 + break_even_gap / n_sharing


@njit(cache=True, nogil=True)
def _value(neuron: int, fetch_cost: float, weight: float, prior: Any, accesses: Any, cost: Any) -> float:
    """Count an access and return what the neuron is worth now; accesses and costs in place."""
    accesses[neuron] += weight
    if cost[neuron] == _UNKNOWN:
        cost[neuron] = fetch_cost
    else:
        cost[neuron] += COST_WEIGHT * (fetch_cost - cost[neuron])
    return cost[neuron] * (accesses[neuron] + prior[neuron] * weight)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def replay(
    neurons: Any, row_starts: Any, admitted: Any, is_hit: Any, slot_of: Any, prior: Any, gap: int,
    break_even_gap: float, missing: Any, share: Any, heap: Any, place: Any, key: Any, accesses: Any, cost: Any,
    n_resident: Any, growth: Any,
) -> None:  # fmt: skip
    """Value each row's residents, then get and admit its neurons in turn; writes `is_hit`, state in place.

    `missing` and `share`, ndarrays of shape (n_neurons,), int32, are scratch; caller allocates.
    """
    for row in range(row_starts.size - 1):
        start, stop = row_starts[row], row_starts[row + 1]
        weight = growth[0]
        n_missing = 0
        for access in range(start, stop):
            if place[neurons[access]] == ABSENT:
                missing[n_missing] = slot_of[neurons[access]]
                n_missing += 1
        _share_reads(missing[:n_missing], gap, share)
        following = 0
        for access in range(start, stop):
            neuron = neurons[access]
            if place[neuron] == ABSENT:
                following += 1
                continue
            fetch_cost = _cost_if_missing(slot_of[neuron], following, missing[:n_missing], share, gap, break_even_gap)
            key[neuron] = _value(neuron, fetch_cost, weight, prior, accesses, cost)
            sift_down(heap, n_resident[0], place, key, place[neuron])
            sift_up(heap, place, key, place[neuron])
        following = 0
        for access in range(start, stop):
            neuron = neurons[access]
            if following < n_missing and missing[following] == slot_of[neuron]:
                fetch_cost = 1.0 + break_even_gap / share[following]
                following += 1
                worth = _value(neuron, fetch_cost, weight, prior, accesses, cost)
            elif place[neuron] != ABSENT:
                is_hit[access] = 1
                continue
            else:
                worth = key[neuron]  # evicted since the token began
            is_hit[access] = 0
            if not admitted[access] or heap.size == 0:
                continue
            if n_resident[0] < heap.size:
                key[neuron] = worth
                heap[n_resident[0]] = neuron
                n_resident[0] += 1
                sift_up(heap, place, key, n_resident[0] - 1)
            elif worth >= key[heap[0]]:
                place[heap[0]] = ABSENT
                key[neuron] = worth
                heap[0] = neuron
                sift_down(heap, n_resident[0], place, key, 0)
        growth[0] *= _GROWTH
        if growth[0] > _RESCALE:
            growth[0] /= _RESCALE
            for neuron in range(place.size):
                key[neuron] /= _RESCALE
                accesses[neuron] /= _RESCALE


class GreedyDual(ArrayCache):
    """A layout-aware GreedyDual cache of `capacity` neurons, empty at first."""

    policy = "greedydual"

    def __init__(self, capacity: int, placement: NeuronPlacement, reads: ReadCost = LONE_READS) -> None:
        super().__init__(*allocate(capacity, placement.n_neurons))
        self._slot_of, self._prior, self._reads = placement.slot_of, priors(placement), reads
        self._scratch = np.empty((2, placement.n_neurons), np.int32)

    def replay(self, accesses: Accesses, is_hit: npt.NDArray[Any]) -> None:
        """Access neurons in order and write 1 to `is_hit` where one was in DRAM."""
        replay(
            accesses.neurons, accesses.row_starts, accesses.admitted, is_hit, self._slot_of, self._prior,
            self._reads.gap, self._reads.break_even_gap, *self._scratch, *self._state,
        )  # fmt: skip
