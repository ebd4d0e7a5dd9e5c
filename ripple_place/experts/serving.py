"""Serving a trace of experts: accesses through a cache, and what of them is found, read ahead, or missed."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.experts.caches import BOUND, CacheInput, replay
from ripple_place.experts.prefetch import Guesses, guess
from ripple_place.kernels.sized_caches import PROBE

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray, BoolArray, Float64Array, Int32Array, Int64Array
    from ripple_place.experts.accesses import ExpertAccesses
    from ripple_place.experts.prefetch import Prefetch


@dataclass(frozen=True, eq=False)
class Memory:
    """What DRAM there is for experts, and how it is used.

    Parameters
    ----------
    policy : str
        One of `ripple_place.experts.caches.POLICIES`.
    capacity_bytes : tuple of int
        Of one cache that all layers share, or of each layer's own.
    sizes : ndarray of shape (n_items,), int64
        Bytes of each expert.
    frequency : ndarray of shape (n_items,), int64
        What is hot, for the policies and the prefetch that ask.
    costs : ndarray of shape (n_items,), float64
        Time of reading each, for ``greedydual``.
    admits_prefill : bool
        Whether what a prompt misses may enter.
    reset_tokens : tuple of int
        Ascending tokens before which the caches are emptied.
    """

    policy: str
    capacity_bytes: tuple[int, ...]
    sizes: Int64Array
    frequency: Int64Array
    costs: Float64Array
    admits_prefill: bool = True
    reset_tokens: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Served:
    """What became of each access.

    Attributes
    ----------
    accesses : ExpertAccesses
        Those of the prompt once a layer and batch (`once_per_batch`).
    is_hit : ndarray of shape (n_accesses,), bool
        Whether the expert was in the cache.
    is_ahead : ndarray of shape (n_accesses,), bool
        Whether it was not, but had been read ahead.
    is_best_hit : ndarray of shape (n_accesses,), bool, or None
        Hits of the policy that knows the future; None where they were not asked for.
    ahead : Guesses
        What was read ahead: guessed and not in the cache.
    n_guesses : int or None
        Guesses, those in the cache included; None where nothing is read ahead.
    """

    accesses: ExpertAccesses
    is_hit: BoolArray
    is_ahead: BoolArray
    is_best_hit: BoolArray | None
    ahead: Guesses
    n_guesses: int | None = None


def once_per_batch(accesses: ExpertAccesses) -> ExpertAccesses:
    """Return accesses with each expert of a layer once a batch, where the last token of the batch asks for it.

    A prompt passes layer by layer, and an expert is there for all of its tokens once it was read: engines count it
    once, too. Recorded residencies of three models agree with the last place on 99.96 to 100 % of decoded accesses, and
    on 99.91 to 99.97 % with the first.
    """
    key = accesses.steps * accesses.n_items + accesses.items
    _, place_from_end = np.unique(key[::-1], return_index=True)
    kept = np.sort(key.size - 1 - place_from_end)
    return _taken(accesses, kept)


def serve(
    accesses: ExpertAccesses, memory: Memory, segment_starts: Int64Array, prefetch: Prefetch | None = None, *,
    with_bound: bool = False,
) -> Served:  # fmt: skip
    """Replay accesses through a cache, with what is read ahead beside it.

    Parameters
    ----------
    accesses : ExpertAccesses
        In execution order; those of prompts are taken once a batch.
    memory : Memory
    segment_starts : ndarray of shape (n_segments,), int64
        No token guesses from the one before across them.
    prefetch : Prefetch, optional
        What is read ahead goes to a buffer beside the cache, for one layer; it is admitted if the token uses it, as a
        miss is. So the cache is the same with and without.
    with_bound : bool
        Whether to replay the policy that knows the future, too.

    Raises
    ------
    UsageError
        If there is no such policy.
    """
    accesses = once_per_batch(accesses)
    admitted = np.ones(accesses.items.size, np.uint8)
    if not memory.admits_prefill:
        admitted[~accesses.is_decode] = 0
    nothing = np.zeros(accesses.items.size, bool)
    bound = replace(memory, policy=BOUND)
    is_best_hit = _replay(accesses, accesses.items, admitted, bound) if with_bound else None
    if prefetch is None:
        is_hit = _replay(accesses, accesses.items, admitted, memory)
        return Served(accesses, is_hit, nothing, is_best_hit, Guesses(np.empty(0, np.int32), np.empty(0, np.int64)))
    guesses = guess(accesses, prefetch, memory.frequency, segment_starts)
    # Each guess asks the cache just before the first access of its token in its layer.
    at = np.concatenate([guesses.before, np.arange(accesses.items.size)])
    order = np.argsort(at, kind="stable")
    is_guess = order < guesses.items.size
    source = at[order]
    items = np.concatenate([guesses.items, accesses.items])[order]
    codes = np.where(is_guess, PROBE, admitted[source]).astype(np.uint8)
    found = _replay(_taken(accesses, source), items, codes, memory)
    is_hit, there = found[~is_guess], found[is_guess]
    ahead = _select(guesses, ~there)
    return Served(accesses, is_hit, ~is_hit & _is_among(accesses, ahead), is_best_hit, ahead, there.size)


def _replay(accesses: ExpertAccesses, items: Int32Array, admitted: AnyArray, memory: Memory) -> BoolArray:
    """Return which of some items are found, in one cache or in each layer's, from one emptying to the next."""
    is_hit = np.zeros(items.size, bool)
    epoch = np.searchsorted(np.asarray(memory.reset_tokens, np.int64), accesses.tokens, side="right")
    is_pool = len(memory.capacity_bytes) == 1
    cache = epoch if is_pool else epoch * len(memory.capacity_bytes) + accesses.layers
    for number in np.unique(cache).tolist():
        here = np.flatnonzero(cache == number)
        capacity_bytes = memory.capacity_bytes[number % len(memory.capacity_bytes)]
        first, end = 0, accesses.n_items
        if not is_pool:
            # A layer's cache has its own experts alone.
            layer = number % len(memory.capacity_bytes)
            first, end = int(accesses.first_item[layer]), int(accesses.first_item[layer + 1])
        inputs = CacheInput(
            (items[here] - first).astype(np.int32), memory.sizes[first:end], admitted[here], capacity_bytes,
            memory.frequency[first:end], memory.costs[first:end],
        )  # fmt: skip
        is_hit[here] = replay(memory.policy, inputs)
    return is_hit


def _is_among(accesses: ExpertAccesses, guesses: Guesses) -> BoolArray:
    """Return which accesses are of experts that were read ahead for their token and layer."""
    group = _groups(accesses)
    wanted = group * accesses.n_items + accesses.items
    return np.isin(wanted, group[guesses.before] * accesses.n_items + guesses.items)


def _groups(accesses: ExpertAccesses) -> Int64Array:
    return np.asarray(accesses.steps * len(accesses.blocks) + accesses.layers)


def _taken(accesses: ExpertAccesses, places: Int64Array) -> ExpertAccesses:
    """Return some of the accesses."""
    by_access = ("items", "layers", "tokens", "is_decode", "steps")
    return replace(accesses, **{name: getattr(accesses, name)[places] for name in by_access})


def _select(guesses: Guesses, kept: BoolArray) -> Guesses:
    return replace(guesses, **{entry.name: getattr(guesses, entry.name)[kept] for entry in fields(guesses)})
