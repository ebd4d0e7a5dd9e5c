"""Caches in bytes: against plain twins, against the caches of neurons, and against what must hold of any cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.experts.caches import BOUND, POLICIES, CacheInput, hottest, replay
from ripple_place.kernels.sized_caches import PROBE
from tests.reference import caches as neuron_caches
from tests.reference import sized_caches

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

TWINS = ("lru", "fifo", "lfu", "s3fifo", "sieve", "greedydual", "belady")
COLD = ("none", *TWINS)
"""Policies that begin with nothing in the cache."""
N_ITEMS = 12


def inputs(
    items: list[int], sizes: list[int], capacity: int, admitted: list[int] | None = None,
    costs: list[float] | None = None, frequency: list[int] | None = None,
) -> CacheInput:  # fmt: skip
    """Return what a policy is replayed on; by default everything may enter, and all costs are 1."""
    return CacheInput(
        np.array(items, np.int32), np.array(sizes, np.int64),
        np.array([1] * len(items) if admitted is None else admitted, np.uint8), capacity,
        np.bincount(items, minlength=len(sizes)) if frequency is None else np.array(frequency, np.int64),
        np.array([1.0] * len(sizes) if costs is None else costs),
    )  # fmt: skip


@st.composite
def streams(draw: DrawFn) -> CacheInput:
    """Return a stream of accesses to items of different sizes, some of which only ask or may not enter."""
    items = draw(st.lists(st.integers(0, N_ITEMS - 1), max_size=100))
    sizes = draw(st.lists(st.integers(1, 9), min_size=N_ITEMS, max_size=N_ITEMS))
    admitted = draw(st.lists(st.sampled_from([0, 1, 1, 1, PROBE]), min_size=len(items), max_size=len(items)))
    costs = draw(st.lists(st.integers(1, 20).map(float), min_size=N_ITEMS, max_size=N_ITEMS))
    return inputs(items, sizes, draw(st.integers(0, 60)), admitted, costs)


@pytest.mark.parametrize("policy", TWINS)
@given(streams())
@settings(max_examples=80, deadline=None)
def test_policies_equal_their_twins(policy: str, cache: CacheInput) -> None:
    """Hit by hit, with items larger than the cache, misses that may not enter, and accesses that only ask."""
    plain = [cache.items.tolist(), cache.sizes.tolist(), cache.admitted.tolist(), cache.capacity_bytes]
    more = [cache.costs.tolist()] if policy == "greedydual" else []
    assert replay(policy, cache).tolist() == getattr(sized_caches, policy)(*plain, *more)


@pytest.mark.parametrize("policy", ["lru", "fifo", "sieve"])
@given(st.lists(st.integers(0, N_ITEMS - 1), max_size=120), st.integers(0, N_ITEMS + 2), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_equal_sizes_are_the_caches_of_neurons(policy: str, items: list[int], capacity: int, size: int) -> None:
    """With experts of one size, hit by hit those of the caches of neurons.

    Not so LFU, which here keeps its counts when an item leaves, nor S3-FIFO, which there follows libCacheSim: nothing
    is admitted below 20 neurons, and two uses promote; nor Belady's (below).
    """
    found = replay(policy, inputs(items, [size] * N_ITEMS, capacity * size + size - 1))
    assert found.tolist() == getattr(neuron_caches, policy)(items, capacity)


@given(st.lists(st.integers(0, N_ITEMS - 1), max_size=150), st.integers(0, N_ITEMS), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_no_policy_hits_more_often_than_the_bound(items: list[int], capacity: int, size: int) -> None:
    """From an empty cache, of items of one size.

    That of neurons may also leave a miss out of the cache, which the caches of experts compute from.
    """
    cache = inputs(items, [size] * N_ITEMS, capacity * size)
    best = int(replay(BOUND, cache).sum())
    assert best <= sum(neuron_caches.belady(items, capacity))
    for policy in COLD:
        assert int(replay(policy, cache).sum()) <= best


@pytest.mark.parametrize("policy", POLICIES)
@given(streams())
@settings(max_examples=40, deadline=None)
def test_bytes_never_exceed_the_capacity(policy: str, cache: CacheInput) -> None:
    """After any access, asking for every item finds no more bytes than fit."""
    n_asked = cache.items.size
    everything = np.arange(N_ITEMS, dtype=np.int32)
    asked = CacheInput(
        np.concatenate([cache.items, everything]), cache.sizes,
        np.concatenate([cache.admitted, np.full(N_ITEMS, PROBE, np.uint8)]), cache.capacity_bytes, cache.frequency,
        cache.costs,
    )  # fmt: skip
    there = replay(policy, asked)[n_asked:]
    assert int(cache.sizes[there].sum()) <= cache.capacity_bytes


@pytest.mark.parametrize("policy", POLICIES)
@given(streams())
@settings(max_examples=40, deadline=None)
def test_asking_changes_nothing(policy: str, cache: CacheInput) -> None:
    """Without the accesses that only ask, the others find the same."""
    uses = cache.admitted != PROBE
    without = CacheInput(
        cache.items[uses], cache.sizes, cache.admitted[uses], cache.capacity_bytes, cache.frequency, cache.costs
    )
    assert replay(policy, cache)[uses].tolist() == replay(policy, without).tolist()


def test_by_hand() -> None:
    """A cache of 10 bytes; items 0 and 1 of 4, 2 of 6, 3 of 11. LRU: 2 makes 0 leave, then 1; 3 never enters."""
    items, sizes = [0, 1, 0, 2, 0, 3, 2, 1], [4, 4, 6, 11]
    assert replay("lru", inputs(items, sizes, 10)).tolist() == [
        False, False, True, False, True, False, True, False,
    ]  # fmt: skip
    # Only 0 and 1 are hot, and fit together.
    frequency = [9, 8, 7, 1]
    assert replay("pinned", inputs(items, sizes, 10, frequency=frequency)).tolist() == [
        True, True, True, False, True, False, False, True,
    ]  # fmt: skip
    # Half of the bytes are pinned: 0. The other 6 hold 1 or 2.
    assert replay("pinned+lru", inputs(items, sizes, 10, frequency=frequency)).tolist() == [
        True, False, True, False, True, False, True, False,
    ]  # fmt: skip
    assert hottest(inputs([0], [1, 1], 5, frequency=[0, 0]), 5).tolist() == [False, False]


def test_an_unknown_policy() -> None:
    """Its name is refused with those that there are."""
    with pytest.raises(UsageError, match=r"--cache arc: .* one of none, lru"):
        replay("arc", inputs([0], [1], 1))
