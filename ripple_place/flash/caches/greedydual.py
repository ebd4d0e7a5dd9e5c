"""Layout-aware GreedyDual: the neurons that stay least worth keeping leave, by how often they fire and what they cost.

A neuron's worth is its accesses, those long past counting less, times what it would cost to fetch it again in this
layout. Accesses are remembered over a long and a short span, and the short one also counts those of the neurons in the
next slots, which fire with it where the layout is any good: what a neuron's neighbours do tells what it will do. All
neurons are remembered, not residents only, and each begins with a prior from the profile's frequencies; without them,
with nothing.

Fetching costs 1 for the neuron's own bytes and lambda for its read, shared by the neurons of the token that the read
fetches; for a resident neuron, what it would have cost had it not been in DRAM: 0 inside a gap that is read through
anyway, and 1 plus a share of the reads within reach of it otherwise. Costs are averaged over a neuron's accesses,
beginning with the average of all neurons.

A token's neurons are judged together: of the residents and of what it read, as many stay as there is room for. Still a
resident neuron is not displaced before the token has had it, and no more are held at any moment than the capacity; what
finds no room for that reason is not admitted. Of equal worth, the lower slot stays.

Classic GreedyDual [1]_ ages by adding the worth of the last one evicted to what comes in; here the weight of an access
grows with every token instead, which cost 5 to 6 % less per token and needs no constant but the spans of memory.
The constants were chosen on training traces (docs/caches.md). Replay is by token: the misses of a token are planned
into reads on what is resident when it begins. O(capacity + active neurons) per token. In a pool, a token has a row for
each block: each row is judged so, among the residents of all blocks, which costs O(capacity + active neurons) per row,
and memory is still of tokens.

References
----------
.. [1] Young, "The k-server dual and loose competitiveness for paging", Algorithmica 11 (1994),
       doi:10.1007/BF01189992; with frequencies: Cherkasova, "Improving WWW proxies performance with
       Greedy-Dual-Size-Frequency caching policy", HP Labs HPL-98-69, 1998.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ripple_place.flash.caches.cache import LONE_READS, Accesses, ArrayCache, CacheKernels
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray, Float64Array
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.placement import NeuronPlacement

MEMORY_TOKENS = 60.0
"""Tokens after which an access counts 1/e of a new one (docs/caches.md says what others gave, here and below)."""
SHORT_MEMORY_TOKENS = 6.0
"""The same of the short memory."""
SHORT_WEIGHT = 2.0
"""Weight of an access in the short memory; in the long one it is 1."""
NEIGHBOR_WEIGHT = 0.6
"""Weight of a neighbour's access in the short memory."""
NEIGHBOR_SLOTS = 2
"""Slots to each side that hold a neuron's neighbours."""
PRIOR_WEIGHT = 0.3
"""Accesses that a neuron of mean frequency begins with, and keeps; others in proportion."""
COST_WEIGHT = 0.05
"""Weight of the last access in the average cost of fetching a neuron."""

_GROWTH, _SHORT_GROWTH = 1 + 1 / MEMORY_TOKENS, 1 + 1 / SHORT_MEMORY_TOKENS
_RESCALE = 2.0**512  # a power of two: scaling by it is exact
_UNKNOWN = -1.0
_LONG, _SHORT = 0, 1
_TOTAL, _COUNT = 0, 1
# What a slot's neuron is: not resident; resident; resident and asked for by the present token; the same, but to leave;
# not resident, but to enter. Between tokens, one of the first two.
_OUT, _RESIDENT, _ASKED, _LEAVING, _ENTERING = range(5)


class GreedyDualState(NamedTuple):
    """What the cache remembers; the kernels change it in place.

    Attributes
    ----------
    residents : ndarray of shape (min(capacity, n_neurons),), int32
        Slots of the residents, ascending.
    n_resident : ndarray of shape (1,), int64
        How many there are.
    fate : ndarray of shape (n_neurons,), uint8
        By slot, whether its neuron is resident and, within a token, what becomes of it.
    accesses : ndarray of shape (2, n_neurons), float64
        By slot, weighted accesses in long memory, and with its neighbours' in short memory.
    cost : ndarray of shape (n_neurons,), float64
        By slot, the average cost of fetching its neuron.
    weight : ndarray of shape (2,), float64
        Of an access now, in either memory.
    costs : ndarray of shape (2,), float64
        The sum of all costs so far, and their number.
    """

    residents: Any
    n_resident: Any
    fate: Any
    accesses: Any
    cost: Any
    weight: Any
    costs: Any


class TokenScratch(NamedTuple):
    """Scratch for one token.

    Attributes
    ----------
    missing, share : ndarray of shape (n_neurons,), int32
        Slots that are to be read, ascending, and how many of them the read of each serves.
    candidates : ndarray of shape (n_neurons,), int32
        Slots whose neurons may stay, ascending.
    worth : ndarray of shape (n_neurons,), float64
        Of each candidate.
    """

    missing: Any
    share: Any
    candidates: Any
    worth: Any


def allocate(capacity: int, n_neurons: int) -> GreedyDualState:
    """Return the state of an empty cache."""
    return GreedyDualState(
        np.empty(min(capacity, n_neurons), np.int32),
        np.zeros(1, np.int64),
        np.full(n_neurons, _OUT, np.uint8),
        np.zeros((2, n_neurons), np.float64),
        np.full(n_neurons, _UNKNOWN, np.float64),
        np.ones(2, np.float64),
        np.zeros(2, np.float64),
    )


def priors(placement: NeuronPlacement) -> Float64Array:
    """Return the accesses that each neuron begins with."""
    frequency = placement.frequency
    if frequency is None or not frequency.any():
        return np.zeros(placement.n_neurons)
    return np.asarray(PRIOR_WEIGHT * frequency / frequency.mean())


@compiled
def _share_reads(missing: Any, gap: int, share: Any) -> None:
    """Write to `share`, for each of ascending slots, how many of them the read that fetches it serves."""
    first = 0
    for i in range(missing.size):
        if i + 1 == missing.size or missing[i + 1] - missing[i] - 1 > gap:
            for k in range(first, i + 1):
                share[k] = i + 1 - first
            first = i + 1


@compiled
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


@compiled
def _count_row(
    row: Any, slot_of: Any, gap: int, break_even_gap: float, scratch: TokenScratch, state: GreedyDualState
) -> None:
    """Count the accesses of one row, and what each costs or would have cost; residents are marked; in place."""
    missing, share = scratch.missing, scratch.share
    fate, accesses, cost, weight, costs = state.fate, state.accesses, state.cost, state.weight, state.costs
    n_missing = 0
    for neuron in row:
        if fate[slot_of[neuron]] == _OUT:
            missing[n_missing] = slot_of[neuron]
            n_missing += 1
    _share_reads(missing[:n_missing], gap, share)
    average = costs[_TOTAL] / costs[_COUNT] if costs[_COUNT] > 0 else _UNKNOWN
    following = 0
    for neuron in row:
        slot = slot_of[neuron]
        if fate[slot] == _OUT:
            fetch_cost = 1.0 + break_even_gap / share[following]
            following += 1
        else:
            fetch_cost = _cost_if_missing(slot, following, missing[:n_missing], share, gap, break_even_gap)
            fate[slot] = _ASKED
        if cost[slot] == _UNKNOWN:
            cost[slot] = fetch_cost if average == _UNKNOWN else average
        cost[slot] += COST_WEIGHT * (fetch_cost - cost[slot])
        costs[_TOTAL] += fetch_cost
        costs[_COUNT] += 1
        accesses[_LONG, slot] += weight[_LONG]
        accesses[_SHORT, slot] += SHORT_WEIGHT * weight[_SHORT]
        for near in range(max(0, slot - NEIGHBOR_SLOTS), min(cost.size, slot + NEIGHBOR_SLOTS + 1)):
            if near != slot:
                accesses[_SHORT, near] += NEIGHBOR_WEIGHT * weight[_SHORT]


@compiled
def _gather(row: Any, admitted: Any, slot_of: Any, residents: Any, fate: Any, candidates: Any) -> int:
    """Write the slots that may stay, ascending: residents, and what misses and may enter; return their number."""
    n_candidates, i = 0, 0
    for access in range(row.size):
        slot = slot_of[row[access]]
        if fate[slot] != _OUT or not admitted[access]:
            continue
        while i < residents.size and residents[i] < slot:
            candidates[n_candidates] = residents[i]
            n_candidates += 1
            i += 1
        candidates[n_candidates] = slot
        n_candidates += 1
    for resident in residents[i:]:
        candidates[n_candidates] = resident
        n_candidates += 1
    return n_candidates


@compiled
def _choose(candidates: Any, worth: Any, capacity: int, fate: Any) -> None:
    """Mark who enters and who leaves, that the `capacity` candidates most worth keeping stay; idle residents go now."""
    n_candidates = candidates.size
    least, n_equal = -np.inf, 0
    if n_candidates > capacity:
        least, n_equal = np.inf, 0
        if capacity > 0:
            least, n_equal = np.partition(worth, n_candidates - capacity)[n_candidates - capacity], capacity
            for i in range(n_candidates):
                n_equal -= worth[i] > least
    for i in range(n_candidates):
        slot = candidates[i]
        is_chosen = worth[i] > least
        if worth[i] == least and n_equal > 0:
            is_chosen = True
            n_equal -= 1
        if is_chosen:
            fate[slot] = _ENTERING if fate[slot] == _OUT else fate[slot]
        else:
            fate[slot] = _LEAVING if fate[slot] == _ASKED else _OUT


@compiled
def _serve(row: Any, slot_of: Any, room: int, fate: Any, is_hit: Any) -> None:
    """Get, then admit, a row's neurons in turn; writes `is_hit`, and `fate` back to what it is between tokens.

    `room` neurons may enter at once, others when the row has had one that leaves. Of these, the first ones leave, as
    many as make room; the others stay after all.
    """
    n_past = 0
    n_gone = 0
    for access in range(row.size):
        slot = slot_of[row[access]]
        is_hit[access] = fate[slot] == _ASKED or fate[slot] == _LEAVING
        if fate[slot] == _LEAVING:
            n_past += 1
        elif fate[slot] == _ENTERING:
            if room > 0:
                room -= 1
                fate[slot] = _RESIDENT
            elif n_gone < n_past:
                n_gone += 1
                fate[slot] = _RESIDENT
            else:
                fate[slot] = _OUT
        elif fate[slot] == _ASKED:
            fate[slot] = _RESIDENT
    for neuron in row:
        slot = slot_of[neuron]
        if fate[slot] == _LEAVING:
            fate[slot] = _OUT if n_gone > 0 else _RESIDENT
            n_gone -= 1


@compiled
def _age(weight: Any, accesses: Any) -> None:
    """Let a token pass: accesses from now on count more; in place."""
    weight[_LONG] *= _GROWTH
    weight[_SHORT] *= _SHORT_GROWTH
    for memory in range(2):
        if weight[memory] > _RESCALE:
            weight[memory] /= _RESCALE
            for slot in range(accesses.shape[1]):
                accesses[memory, slot] /= _RESCALE


@compiled
def replay(
    neurons: Any, row_starts: Any, token_ends: Any, admitted: Any, is_hit: Any, slot_of: Any, prior: Any, gap: int,
    break_even_gap: float, scratch: TokenScratch, state: GreedyDualState,
) -> None:  # fmt: skip
    """Count each row's accesses, choose who is to stay, then get and admit in turn; writes `is_hit`, state in place."""
    candidates, worth = scratch.candidates, scratch.worth
    residents, n_resident, fate, accesses, cost, weight, _ = state
    for i in range(row_starts.size - 1):
        start, stop = row_starts[i], row_starts[i + 1]
        row = neurons[start:stop]
        _count_row(row, slot_of, gap, break_even_gap, scratch, state)
        n_candidates = _gather(row, admitted[start:stop], slot_of, residents[: n_resident[0]], fate, candidates)
        for k in range(n_candidates):
            slot = candidates[k]
            n_accesses = accesses[_LONG, slot] / weight[_LONG] + accesses[_SHORT, slot] / weight[_SHORT] + prior[slot]
            worth[k] = cost[slot] * n_accesses
        _choose(candidates[:n_candidates], worth[:n_candidates], residents.size, fate)
        room = residents.size
        for k in range(n_candidates):
            room -= fate[candidates[k]] != _OUT and fate[candidates[k]] != _ENTERING
        _serve(row, slot_of, room, fate, is_hit[start:stop])
        n_resident[0] = 0
        for k in range(n_candidates):
            if fate[candidates[k]] != _OUT:
                residents[n_resident[0]] = candidates[k]
                n_resident[0] += 1
        if token_ends[i]:
            _age(weight, accesses)


@compiled
def access(
    neurons: Any, admitted: Any, is_hit: Any, slot_of: Any, prior: Any, gap: int, break_even_gap: float,
    scratch: TokenScratch, state: GreedyDualState,
) -> None:  # fmt: skip
    """Replay one row."""
    row_starts = np.array([0, neurons.size])
    ends = np.ones(1, np.uint8)
    replay(neurons, row_starts, ends, admitted, is_hit, slot_of, prior, gap, break_even_gap, scratch, state)


@compiled
def holds(neuron: int, arguments: Any) -> bool:
    """Return whether a neuron is in DRAM."""
    slot_of, state = arguments[0], arguments[5]
    return state.fate[slot_of[neuron]] == _RESIDENT  # type: ignore[no-any-return]


class GreedyDual(ArrayCache):
    """A layout-aware GreedyDual cache of `capacity` neurons, empty at first."""

    policy = "greedydual"
    kernels = CacheKernels(access, holds, in_slot_order=True)

    def __init__(self, capacity: int, placement: NeuronPlacement, reads: ReadCost = LONE_READS) -> None:
        n_neurons = placement.n_neurons
        super().__init__(*allocate(capacity, n_neurons))
        self._slot_of, self._prior, self._reads = placement.slot_of, priors(placement)[placement.order], reads
        missing, share, candidates = np.empty((3, n_neurons), np.int32)
        self._scratch = TokenScratch(missing, share, candidates, np.empty(n_neurons))

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the kernels take beside the accesses."""
        return (
            self._slot_of, self._prior, self._reads.gap, self._reads.break_even_gap, self._scratch,
            GreedyDualState(*self._state),
        )  # fmt: skip

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Access neurons in order and write 1 to `is_hit` where one was in DRAM."""
        replay(accesses.neurons, accesses.row_starts, accesses.ends, accesses.admitted, is_hit, *self.arguments)
