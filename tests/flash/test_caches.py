"""Cache policies: against plain twins, against libCacheSim's hit counts, and against what must hold of any cache."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.flash.caches.pinned import hottest
from ripple_place.flash.caches.registry import POLICIES, find_policy
from ripple_place.placement import NeuronPlacement
from tests.reference import caches

N_NEURONS = 200


def hits(
    policy: str, accesses: list[int], capacity: int, *, n_chunks: int = 3, placement: NeuronPlacement | None = None
) -> list[bool]:
    """Replay accesses in a few chunks, as the simulator does."""
    cache = find_policy(policy)(capacity, placement or NeuronPlacement.original(N_NEURONS))
    neurons = np.array(accesses, np.int32)
    is_hit = np.full(neurons.size, 9, np.uint8)
    bounds = [neurons.size * chunk // n_chunks for chunk in range(n_chunks + 1)]
    for start, stop in pairwise(bounds):
        cache.replay(neurons[start:stop], is_hit[start:stop])
    assert set(is_hit.tolist()) <= {0, 1}
    return is_hit.astype(bool).tolist()


def golden_stream(n_neurons: int, n_accesses: int) -> list[int]:
    """Return skewed accesses whose favourites move on, from a generator that no library version changes."""
    state, neurons = 12345, []
    for access in range(n_accesses):
        state = (1664525 * state + 1013904223) % 2**32
        skewed = (state >> 8) ** 2 * n_neurons >> 48
        neurons.append((skewed + 40 * (access // 700)) % n_neurons)
    return neurons


@pytest.mark.parametrize(
    ("policy", "capacity", "n_hits"),
    [
        ("lru", 7, 210),
        ("lru", 20, 576),
        ("lru", 33, 806),
        ("lru", 64, 1301),
        ("lru", 128, 2120),
        ("lru", 199, 2791),
        ("s3fifo", 20, 665),
        ("s3fifo", 33, 895),
        ("s3fifo", 64, 1371),
        ("s3fifo", 128, 2126),
        ("s3fifo", 199, 2796),
    ],
)
def test_hit_counts_equal_libcachesim(policy: str, capacity: int, n_hits: int) -> None:
    """Hit counts of libcachesim 0.3.5 (LRU, and S3FIFO with its default parameters) on the same 3000 accesses."""
    assert sum(hits(policy, golden_stream(N_NEURONS, 3000), capacity)) == n_hits


streams = st.lists(st.integers(0, 29), max_size=120)


@given(streams, st.integers(0, 35))
@settings(max_examples=40, deadline=None)
def test_lru_equals_its_twin(accesses: list[int], capacity: int) -> None:
    """Hit by hit, capacity 0 and capacities above the number of neurons included."""
    assert hits("lru", accesses, capacity) == caches.lru(accesses, capacity)


@given(streams, st.sampled_from([0, 1, 9, 10, 19, 20, 21, 25, 29, 30, 40]))
@settings(max_examples=60, deadline=None)
def test_s3fifo_equals_its_twin(accesses: list[int], capacity: int) -> None:
    """Hit by hit; below 20 neurons nothing is ever admitted, as in libCacheSim."""
    assert hits("s3fifo", accesses, capacity) == caches.s3fifo(accesses, capacity)


def test_s3fifo_equals_its_twin_under_pressure() -> None:
    """A stream with promotions, ghost hits, second rounds in the main queue and a ghost that overflows."""
    stream = golden_stream(N_NEURONS, 2500)
    for capacity in (20, 31, 90):
        assert hits("s3fifo", stream, capacity) == caches.s3fifo(stream, capacity)


@given(streams)
@settings(max_examples=30, deadline=None)
def test_lru_hits_do_not_fall_as_the_cache_grows(accesses: list[int]) -> None:
    """LRU has the inclusion property: a larger cache holds whatever a smaller one does."""
    n_hits = [sum(hits("lru", accesses, capacity)) for capacity in (0, 1, 2, 5, 11, 30)]
    assert n_hits == sorted(n_hits)
    assert n_hits[-1] == len(accesses) - len(set(accesses))


def test_pinned_takes_the_placement_s_own_set() -> None:
    """What the placement pins is resident, and nothing else, however much room is left."""
    placement = NeuronPlacement(np.arange(6), pinned=np.array([1, 4]), frequency=np.array([9, 0, 9, 9, 0, 9]))
    stream = [0, 1, 4, 1, 5, 0]
    assert hits("pinned", stream, 3, placement=placement) == caches.pinned(stream, {1, 4})


def test_pinned_takes_the_hottest_otherwise() -> None:
    """Without a pinned set the most frequent neurons stay, ties by lowest id: the result is reproducible."""
    placement = NeuronPlacement(np.array([5, 4, 3, 2, 1, 0]), frequency=np.array([1, 7, 1, 7, 1, 8]))
    assert hottest(placement.frequency, 2).tolist() == [1, 5]
    assert hottest(placement.frequency, 4).tolist() == [0, 1, 3, 5]
    assert hits("pinned", [0, 1, 2, 3, 4, 5], 2, placement=placement) == [False, True, False, False, False, True]


@pytest.mark.parametrize(
    ("placement", "match"),
    [
        (NeuronPlacement.original(6), "without pinned neurons and without frequencies; .* choose another cache"),
        (NeuronPlacement(np.arange(6), pinned=np.arange(4)), "4 pinned neurons; expected at most the 3"),
    ],
)
def test_pinned_refuses_what_it_cannot_pin(placement: NeuronPlacement, match: str) -> None:
    """A set that does not fit the budget, or no way to tell what is hot, is the user's to resolve."""
    with pytest.raises(UsageError, match=match):
        find_policy("pinned")(3, placement)


def test_unknown_policy_names_those_there_are() -> None:
    """The message is the list a user needs."""
    with pytest.raises(UsageError, match=f"no policy by that name; expected one of {', '.join(POLICIES)}"):
        find_policy("arc")


@pytest.mark.parametrize("policy", ["none", "lru", "s3fifo", "pinned"])
def test_state_does_not_grow_with_the_trace(policy: str) -> None:
    """Replaying must not allocate: all state is made from capacity and number of neurons."""
    placement = NeuronPlacement.original(N_NEURONS, frequency=np.ones(N_NEURONS, np.int64))
    cache = find_policy(policy)(30, placement)
    before = [id(array) for array in getattr(cache, "_state", ())]
    cache.replay(np.zeros(0, np.int32), np.zeros(0, np.uint8))
    cache.replay(np.array(golden_stream(N_NEURONS, 500), np.int32), np.zeros(500, np.uint8))
    assert [id(array) for array in getattr(cache, "_state", ())] == before
