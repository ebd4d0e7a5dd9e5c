"""Mask first: the whole mask of a token enters the cache, and only then is it decided what leaves.

The three policies ``mask-first-lru``, ``mask-first-lfu`` and ``mask-first-belady`` share this part, and differ in whom
they rank lowest. They are the caches of DIP as its authors' released simulator has them [1]_. The hits of a token are
judged before anything changes. Then, with C the capacity:

- A neuron that misses always enters; there is no bypass.
- Of the residents that are not in the mask, those ranked lowest leave, ``|mask| + |residents not in it| - C`` of them
  at most; among equals, the lowest neuron id leaves. (That is the tie which the released tests of Belady's rule
  show; for the other two it is a choice.)
- A mask of more than C neurons empties the cache of all others. Residents in the mask stay, and the places left go to
  neurons drawn at random from those that missed. The draws are a hash of the token's number since the last reset and
  the neuron: a replay draws the same, however it is cut into chunks.

An admission rule goes beyond the source. A neuron that misses and is not admitted is treated as if it were not in the
mask when room is made, but its use counts: `mask-first-lfu` counts it, and it is needed again when it is needed.

A token takes time linear in its mask and the residents.

In a pool of blocks, what is judged as a whole is a row: the mask of one block for one token. An engine knows no more
when it reads a block, and DIP's caches are per layer; judging all masks of a token at once would let the first block
see the last.

References
----------
.. [1] Federici et al., "Efficient LLM Inference using Dynamic Input Pruning and Cache-Aware Masking", 2024,
       arXiv:2412.01380, and its authors' released simulator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ripple_place.flash.caches.cache import LONE_READS, ArrayCache
from ripple_place.kernels.compiled import compiled
from ripple_place.kernels.synthetic import random_word

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.placement import NeuronPlacement

_OUT, _IDLE, _USED = 0, 1, 2
N_RESIDENT, ROW = 0, 1
"""Entries of `MaskFirstState.counts`."""


class MaskFirstState(NamedTuple):
    """What lasts from token to token.

    Attributes
    ----------
    residents : ndarray of shape (min(capacity, n_neurons),), int32
        Neurons in DRAM, in no order; the first ``counts[N_RESIDENT]`` entries.
    fate : ndarray of shape (n_neurons,), uint8
        1 in DRAM, else 0. While a token is judged, 2 in DRAM and in the mask.
    rank : ndarray of shape (n_neurons,), int64
        The lowest leaves first.
    counts : ndarray of shape (2,), int64
        Residents; tokens since the last reset.
    """

    residents: Any
    fate: Any
    rank: Any
    counts: Any


class MaskFirstScratch(NamedTuple):
    """Room for one token: the order in which neurons leave or enter.

    Attributes
    ----------
    leaving : ndarray of shape (n_neurons,), int64
        Rank and id of each resident outside the mask, as one number.
    draws : ndarray of shape (n_neurons,), uint64
        Of each neuron that may enter.
    """

    leaving: Any
    draws: Any


@compiled
def _evict(n_evicted: int, n_idle: int, state: MaskFirstState, leaving: Any) -> None:
    """Let the `n_evicted` lowest ranked of the `n_idle` residents outside the mask leave; in place."""
    residents, fate, rank, counts = state
    n_neurons = fate.size
    n = 0
    for resident in residents[: counts[N_RESIDENT]]:
        if fate[resident] == _IDLE:
            leaving[n] = rank[resident] * n_neurons + resident
            n += 1
    last = np.partition(leaving[:n_idle], n_evicted - 1)[n_evicted - 1]
    n_kept = 0
    for i in range(counts[N_RESIDENT]):
        resident = residents[i]
        if fate[resident] == _IDLE and rank[resident] * n_neurons + resident <= last:
            fate[resident] = _OUT
        else:
            residents[n_kept] = resident
            n_kept += 1
    counts[N_RESIDENT] = n_kept


@compiled
def admit_mask(mask: Any, admitted: Any, is_hit: Any, key: Any, scratch: MaskFirstScratch, state: Any) -> None:
    """Judge the hits of a token, make room, and load what missed; writes `is_hit`, state in place.

    Parameters
    ----------
    mask : ndarray of shape (n_used,), int32
        The token's neurons.
    admitted, is_hit : ndarray of shape (n_used,), uint8
    key : uint64
        Of the draws.
    scratch : MaskFirstScratch
    state : MaskFirstState
        Ranks of neurons outside the mask decide who leaves; those of its members are the caller's to change.
    """
    residents, fate, _, counts = state
    leaving, draws = scratch
    row_key = random_word(key, counts[ROW])
    n_used = n_new = 0
    for access in range(mask.size):
        neuron = mask[access]
        is_hit[access] = fate[neuron] != _OUT
        if fate[neuron] != _OUT:
            fate[neuron] = _USED
            n_used += 1
        elif admitted[access]:
            draws[n_new] = random_word(row_key, neuron)
            n_new += 1
    n_idle = counts[N_RESIDENT] - n_used
    n_evicted = min(n_idle, n_used + n_new + n_idle - residents.size)
    if n_evicted > 0:
        _evict(n_evicted, n_idle, state, leaving)
    n_free = residents.size - counts[N_RESIDENT]
    # The draws are distinct: a hash of 64 bits that maps no two neurons to one word.
    draws_all = n_new <= n_free
    last = draws[0]
    if not draws_all and n_free > 0:
        last = np.partition(draws[:n_new], n_free - 1)[n_free - 1]
    for access in range(mask.size):
        neuron = mask[access]
        if is_hit[access]:
            fate[neuron] = _IDLE
        elif admitted[access] and (draws_all or (n_free > 0 and random_word(row_key, neuron) <= last)):
            fate[neuron] = _IDLE
            residents[counts[N_RESIDENT]] = neuron
            counts[N_RESIDENT] += 1
    counts[ROW] += 1


@compiled
def holds(neuron: int, arguments: Any) -> bool:
    """Return whether a neuron is in DRAM."""
    return arguments[2].fate[neuron] != _OUT  # type: ignore[no-any-return]


class MaskFirstCache(ArrayCache):
    """What the three policies share: a cache of `capacity` neurons, empty at first.

    Parameters
    ----------
    capacity : int
    placement : NeuronPlacement
        Only its number of neurons matters.
    reads : ReadCost
        Does not matter.
    seed : int
        Of the draws where a mask does not fit; below 2**64.
    """

    prefix: ClassVar[str] = "mask-first-"
    """With which the names of these policies begin."""

    def __init__(
        self, capacity: int, placement: NeuronPlacement, reads: ReadCost = LONE_READS, *, seed: int = 0
    ) -> None:
        n_neurons = placement.n_neurons
        super().__init__(
            np.zeros(min(capacity, n_neurons), np.int32), np.zeros(n_neurons, np.uint8),
            np.zeros(n_neurons, np.int64), np.zeros(2, np.int64),
        )  # fmt: skip
        self._key = np.uint64(seed)
        self._scratch = MaskFirstScratch(np.empty(n_neurons, np.int64), np.empty(n_neurons, np.uint64))

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the kernels take beside the accesses: key, scratch and state."""
        return self._key, self._scratch, self.state

    @property
    def state(self) -> MaskFirstState:
        """The state, which the kernels change in place."""
        return MaskFirstState(*self._state)

    @property
    def resident(self) -> AnyArray:
        """Neurons in DRAM, ascending, shape (n_resident,), int32."""
        state = self.state
        return np.sort(state.residents[: state.counts[N_RESIDENT]])
