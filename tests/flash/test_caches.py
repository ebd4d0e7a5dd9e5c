"""Cache policies: against plain twins, against libCacheSim's hit counts, and against what must hold of any cache."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.flash.caches.cache import LONE_READS, Accesses
from ripple_place.flash.caches.greedydual import priors
from ripple_place.flash.caches.mask_first import MaskFirstCache
from ripple_place.flash.caches.pinned import hottest
from ripple_place.flash.caches.registry import POLICY_NAMES, find_policy
from ripple_place.flash.read_cost import ReadCost
from ripple_place.placement import NeuronPlacement
from tests.reference import caches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ripple_place.flash.caches.cache import Cache

N_NEURONS = 200
FEW = 30

# Hits of libcachesim 0.3.5 on `golden_stream(200, 3000)` by capacity: LRU, FIFO, LFU, Sieve and S3FIFO, with its
# default parameters and every object of size 1.
LIBCACHESIM_HITS = {
    "lru": {1: 23, 2: 46, 3: 77, 7: 210, 10: 302, 20: 576, 33: 806, 64: 1301, 128: 2120, 199: 2791, 300: 2800},
    "fifo": {1: 23, 2: 46, 3: 78, 7: 196, 10: 285, 20: 515, 33: 740, 64: 1209, 128: 2021, 199: 2796, 300: 2800},
    "lfu": {1: 23, 2: 69, 3: 85, 7: 135, 10: 203, 20: 409, 33: 593, 64: 1078, 128: 1989, 199: 2792, 300: 2800},
    "sieve": {1: 23, 2: 46, 3: 178, 7: 334, 10: 414, 20: 584, 33: 749, 64: 1198, 128: 2063, 199: 2792, 300: 2800},
    "s3fifo": {10: 0, 20: 665, 33: 895, 64: 1371, 128: 2126, 199: 2796, 200: 2800, 300: 2800},
}


def accesses_of(rows: list[list[int]], admitted: list[bool] | None = None) -> Accesses:
    """Return rows of neurons as a cache gets them, the future included."""
    flat = [neuron for row in rows for neuron in row]
    next_row, following = [len(rows)] * len(flat), dict.fromkeys(flat, len(rows))
    position = len(flat)
    for i in range(len(rows) - 1, -1, -1):
        for neuron in reversed(rows[i]):
            position -= 1
            next_row[position], following[neuron] = following[neuron], i
    return Accesses(
        np.array(flat, np.int32),
        np.cumsum([0, *map(len, rows)]),
        np.array([True] * len(flat) if admitted is None else admitted, np.uint8),
        np.array(next_row, np.int32),
    )


def part(accesses: Accesses, first_row: int, stop_row: int) -> Accesses:
    """Return some of the rows."""
    start, stop = accesses.row_starts[first_row], accesses.row_starts[stop_row]
    assert accesses.next_row is not None
    return Accesses(
        accesses.neurons[start:stop],
        accesses.row_starts[first_row : stop_row + 1] - start,
        accesses.admitted[start:stop],
        accesses.next_row[start:stop],
    )


def replayed(cache: Cache, accesses: Accesses, n_chunks: int = 3) -> list[bool]:
    """Replay in a few chunks, as the simulator does."""
    n_rows = accesses.row_starts.size - 1
    is_hit = np.full(accesses.neurons.size, 9, np.uint8)
    for first, stop in pairwise(n_rows * chunk // n_chunks for chunk in range(n_chunks + 1)):
        cache.replay(part(accesses, first, stop), is_hit[accesses.row_starts[first] : accesses.row_starts[stop]])
    assert set(is_hit.tolist()) <= {0, 1}
    return is_hit.astype(bool).tolist()


def hits(
    policy: str,
    rows: list[list[int]],
    capacity: int,
    placement: NeuronPlacement | None = None,
    *,
    admitted: list[bool] | None = None,
    reads: ReadCost = LONE_READS,
) -> list[bool]:
    """Return the hits of rows of neurons in a cache that starts empty."""
    cache = find_policy(policy)(capacity, placement or NeuronPlacement.original(N_NEURONS), reads)
    return replayed(cache, accesses_of(rows, admitted))


def one_by_one(stream: list[int]) -> list[list[int]]:
    """Return a row for each access."""
    return [[neuron] for neuron in stream]


def golden_stream(n_neurons: int, n_accesses: int) -> list[int]:
    """Return skewed accesses whose favourites move on, from a generator that no library version changes."""
    state, neurons = 12345, []
    for access in range(n_accesses):
        state = (1664525 * state + 1013904223) % 2**32
        skewed = (state >> 8) ** 2 * n_neurons >> 48
        neurons.append((skewed + 40 * (access // 700)) % n_neurons)
    return neurons


@pytest.mark.parametrize("policy", LIBCACHESIM_HITS)
def test_hit_counts_equal_libcachesim(policy: str) -> None:
    """The same number of hits as the trusted simulator, from a cache of one neuron to one of more than all."""
    rows = one_by_one(golden_stream(N_NEURONS, 3000))
    counted = {capacity: sum(hits(policy, rows, capacity)) for capacity in LIBCACHESIM_HITS[policy]}
    assert counted == LIBCACHESIM_HITS[policy]


streams = st.lists(st.integers(0, FEW - 1), max_size=120)
capacities = st.integers(0, FEW + 5)
# Tokens over FEW neurons, each neuron at most once, in ascending order as in the layout that leaves neurons in place.
token_rows = st.lists(st.lists(st.integers(0, FEW - 1), unique=True, max_size=8).map(sorted), max_size=25)


@pytest.mark.parametrize("policy", ["lru", "fifo", "lfu", "sieve", "belady"])
@given(streams, capacities, st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_policies_equal_their_twins(policy: str, stream: list[int], capacity: int, seed: int) -> None:
    """Hit by hit, with some accesses not admitted, capacity 0 and capacities above the number of neurons included."""
    admitted = (np.random.default_rng(seed).random(len(stream)) < 0.7).tolist()
    twin = getattr(caches, policy.replace("-", "_"))
    assert hits(policy, one_by_one(stream), capacity) == twin(stream, capacity)
    assert hits(policy, one_by_one(stream), capacity, admitted=admitted) == twin(stream, capacity, admitted)


@given(streams, st.sampled_from([0, 1, 9, 10, 19, 20, 21, 25, 29, 30, 40]), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_s3fifo_equals_its_twin(stream: list[int], capacity: int, seed: int) -> None:
    """Hit by hit; below 20 neurons nothing is ever admitted, as in libCacheSim."""
    admitted = (np.random.default_rng(seed).random(len(stream)) < 0.7).tolist()
    assert hits("s3fifo", one_by_one(stream), capacity) == caches.s3fifo(stream, capacity)
    assert hits("s3fifo", one_by_one(stream), capacity, admitted=admitted) == caches.s3fifo(stream, capacity, admitted)


def test_s3fifo_equals_its_twin_under_pressure() -> None:
    """A stream with promotions, ghost hits, second rounds in the main queue and a ghost that overflows."""
    stream = golden_stream(N_NEURONS, 2500)
    for capacity in (20, 31, 90):
        assert hits("s3fifo", one_by_one(stream), capacity) == caches.s3fifo(stream, capacity)


def test_s3fifo_tells_dead_entries_in_its_ghost() -> None:
    """What is asked for again dies in the middle of the ghost's ring, and may enter it anew: neither may count.

    23 neurons never fill a ghost of 18, so that the ring fills with dead entries; then a flood of others overflows it.
    """
    rng = np.random.default_rng(0)
    phases = [rng.integers(0, n_neurons, n) for _ in range(3) for n_neurons, n in ((23, 1200), (80, 150), (26, 800))]
    stream = np.concatenate(phases).tolist()
    assert hits("s3fifo", one_by_one(stream), 20) == caches.s3fifo(stream, 20)


@given(token_rows, capacities, st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_window_equals_its_twin(rows: list[list[int]], capacity: int, n_tokens: int, seed: int) -> None:
    """Hit by hit, whether the window or the capacity binds."""
    admitted = (np.random.default_rng(seed).random(sum(map(len, rows))) < 0.7).tolist()
    policy = f"window:{n_tokens}"
    assert hits(policy, rows, capacity) == caches.window(rows, capacity, n_tokens)
    assert hits(policy, rows, capacity, admitted=admitted) == caches.window(rows, capacity, n_tokens, admitted)


def test_window_keeps_what_the_last_tokens_used() -> None:
    """By hand, K = 2: at token 3 only what tokens 1 and 2 used is there, however much room is left."""
    rows = [[0, 5], [1, 5], [2], [0, 1, 2, 5], [0]]
    assert hits("window:2", rows, 100) == [False, False, False, True, False, False, True, True, True, True]


@given(token_rows, st.integers(4, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_pinned_lru_equals_its_twin(rows: list[list[int]], capacity: int, seed: int) -> None:
    """Half of the capacity is pinned by frequency, the rest is an LRU that the pinned neurons do not touch."""
    rng = np.random.default_rng(seed)
    placement = NeuronPlacement.original(FEW, rng.integers(0, 50, FEW))
    stream = [neuron for row in rows for neuron in row]
    admitted = (rng.random(len(stream)) < 0.7).tolist()
    hot = set(hottest(placement.frequency, capacity // 2).tolist())
    assert hits("pinned+lru", rows, capacity, placement) == caches.pinned_lru(stream, hot, capacity)
    assert hits("pinned+lru", rows, capacity, placement, admitted=admitted) == caches.pinned_lru(
        stream, hot, capacity, admitted
    )


@given(token_rows, capacities, st.integers(0, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_greedydual_equals_its_twin(rows: list[list[int]], capacity: int, gap: int, seed: int) -> None:
    """Hit by hit, in random orders, with and without a prior, with some accesses not admitted."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(FEW)
    placement = NeuronPlacement(order, frequency=rng.integers(0, 50, FEW) if seed % 3 else None)
    slots = placement.slot_of.tolist()
    in_order = [sorted(row, key=lambda neuron: slots[neuron]) for row in rows]
    admitted = (rng.random(sum(map(len, rows))) < 0.8).tolist()
    reads = ReadCost(gap + 0.5, gap)
    assert hits("greedydual", in_order, capacity, placement, admitted=admitted, reads=reads) == caches.greedydual(
        in_order, capacity, slots, priors(placement).tolist(), gap, gap + 0.5, admitted
    )


def test_greedydual_keeps_what_is_dear_to_fetch() -> None:
    """Two neurons as frequent as each other: the one that is read alone stays, the one read with others goes.

    Neuron 0 lies by itself, 10, 11 and 12 side by side. One has to go for 20.
    """
    rows = [[0, 10, 11, 12]] * 3 + [[20]] * 4
    cache = find_policy("greedydual")(4, NeuronPlacement.original(30), ReadCost(5.0, 0))
    replayed(cache, accesses_of(rows), 1)
    assert residents(cache, 30) >= {0, 20}
    assert len(residents(cache, 30) & {10, 11, 12}) == 2


def test_greedydual_begins_with_the_prior() -> None:
    """Of two neurons seen once, the one that was frequent in the profile stays."""
    frequency = np.ones(30, np.int64)
    frequency[3] = 300
    cache = find_policy("greedydual")(1, NeuronPlacement.original(30, frequency), ReadCost(5.0, 0))
    replayed(cache, accesses_of([[3], [7], [9]]), 1)
    assert residents(cache, 30) == {3}


@pytest.mark.parametrize(("gap", "break_even_gap"), [(0, 20.0), (2, 20.0), (6, 6.5)])
def test_greedydual_equals_its_twin_on_a_long_stream(gap: int, break_even_gap: float) -> None:
    """Long enough for average costs, which move by a twentieth an access, to decide who leaves."""
    rng = np.random.default_rng(gap)
    rates = rng.random(FEW) * 0.6
    placement = NeuronPlacement(rng.permutation(FEW), frequency=(rates * 100).astype(np.int64))
    slots = placement.slot_of.tolist()
    rows = [sorted(np.flatnonzero(rng.random(FEW) < rates).tolist(), key=lambda i: slots[i]) for _ in range(400)]
    prior = priors(placement).tolist()
    assert hits("greedydual", rows, 10, placement, reads=ReadCost(break_even_gap, gap)) == caches.greedydual(
        rows, 10, slots, prior, gap, break_even_gap
    )


def test_greedydual_survives_long_traces() -> None:
    """Weights grow by 1/60 and 1/6 a token: after 43,000 and 4700 tokens they would overflow if nothing scaled them.

    Every other token asks for a favourite, which stays in a cache of one: neuron 0, and for the last 1000 tokens
    neuron 1, which nobody had asked for before.
    """
    rows = [[2 + token // 2 % 3] if token % 2 else [int(token >= 44_000)] for token in range(45_000)]
    cache = find_policy("greedydual")(1, NeuronPlacement.original(5, np.ones(5, np.int64)), ReadCost(1.5, 1))
    is_hit = replayed(cache, accesses_of(rows))
    assert is_hit[43_000:44_000] == [True, False] * 500
    assert is_hit[44_500:] == [True, False] * 250


def test_greedydual_expects_what_neighbors_announce() -> None:
    """Of two neurons asked for as often, and as dear, the one whose neighbours in the layout fired lately stays.

    Slots 10 and 20 are asked for once each, alone; then 12 and 8, which may not enter, fire beside 10 but too far from
    it to share its read.
    """
    rows = [[10], [20], [8, 12], [8, 12], [30]]
    accesses = accesses_of(rows, [True, True, False, False, False, False, True])
    cache = find_policy("greedydual")(2, NeuronPlacement.original(40), ReadCost(5.0, 0))
    replayed(cache, accesses, 1)
    assert residents(cache, 40) == {10, 30}
    cache = find_policy("greedydual")(2, NeuronPlacement.original(40), ReadCost(5.0, 0))
    replayed(cache, accesses_of([[10], [20], [5, 15], [5, 15], [30]], accesses.admitted.astype(bool).tolist()), 1)
    assert residents(cache, 40) == {20, 30}


def test_greedydual_takes_nothing_from_a_token_before_it_has_had_it() -> None:
    """A miss may displace a resident of the same token only if its slot comes after the resident's.

    One place. Neuron 1 enters first; then tokens ask for it and for a dearer one, in the slot before or after.
    """
    frequency = np.ones(30, np.int64)
    frequency[[0, 20]] = 1000
    for rows, stays in (([[1], [0, 1]], 1), ([[1], [1, 20]], 20)):
        cache = find_policy("greedydual")(1, NeuronPlacement.original(30, frequency), ReadCost(5.0, 0))
        assert replayed(cache, accesses_of(rows), 1)[1 + rows[1].index(1)]
        assert residents(cache, 30) == {stays}


MASK_FIRST = ["mask-first-lru", "mask-first-lfu", "mask-first-belady"]


@pytest.mark.parametrize("policy", MASK_FIRST)
@given(token_rows, capacities, st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_mask_first_equals_its_twin(policy: str, rows: list[list[int]], capacity: int, seed: int) -> None:
    """Hit by hit, in chunks, with masks that do not fit, and with some accesses not admitted."""
    admitted = (np.random.default_rng(seed).random(sum(map(len, rows))) < 0.7).tolist()
    rule = policy.removeprefix("mask-first-")
    for enters in (None, admitted):
        cache: Any = find_policy(policy)(capacity, NeuronPlacement.original(FEW), seed=seed)  # type: ignore[call-arg]
        is_hit, resident = caches.mask_first(rows, capacity, rule, enters, seed)
        assert replayed(cache, accesses_of(rows, enters)) == is_hit
        assert set(cache.resident.tolist()) == resident


def rows_of(*masks: str) -> list[list[int]]:
    """Return the neurons of masks that are written as digits: 00110 asks for neurons 2 and 3."""
    return [[neuron for neuron, bit in enumerate(mask) if bit == "1"] for mask in masks]


def mask_of(neurons: Iterable[int]) -> str:
    """Return the mask of some of five neurons."""
    return "".join("01"[neuron in set(neurons)] for neuron in range(5))


def dip_cache(policy: str, masks: Sequence[str], capacity: int = 3) -> MaskFirstCache:
    """Return a cache of five neurons after some masks; each neuron is needed once more afterwards."""
    cache = find_policy(policy)(capacity, NeuronPlacement.original(5))
    assert isinstance(cache, MaskFirstCache)
    replayed(cache, accesses_of(rows_of(*masks)))
    return cache


@pytest.mark.parametrize(
    ("masks", "before", "after"),
    [
        # Cached and ages before and after the last mask; the masks before it bring the cache there.
        (("11100", "00111"), ("11100", "00000"), ("00111", "00000")),
        (("00100", "01000", "10000", "00110"), ("11100", "01200"), ("10110", "10000")),
    ],
)
def test_mask_first_lru_golden_cases(masks: tuple[str, ...], before: tuple[str, str], after: tuple[str, str]) -> None:
    """The tests of DIP's released code: an age is the number of tokens since the last use, 0 outside the cache."""
    for n_masks, (cached, ages) in ((len(masks) - 1, before), (len(masks), after)):
        cache = dip_cache("mask-first-lru", masks[:n_masks])
        resident = cache.resident.tolist()
        assert mask_of(resident) == cached
        age = n_masks - 1 - cache.state.rank
        assert "".join(str(age[neuron]) if neuron in resident else "0" for neuron in range(5)) == ages


@pytest.mark.parametrize(
    ("masks", "before", "after"),
    [
        (("00011", "11100", "00111"), ("11100", "11111"), ("00111", "11222")),
        (("00011", "01000", "11000", "11100", "00110"), ("11100", "23111"), ("01110", "23221")),
    ],
)
def test_mask_first_lfu_golden_cases(masks: tuple[str, ...], before: tuple[str, str], after: tuple[str, str]) -> None:
    """The tests of DIP's released code: masks are counted for neurons in DRAM or not."""
    for n_masks, (cached, counts) in ((len(masks) - 1, before), (len(masks), after)):
        cache = dip_cache("mask-first-lfu", masks[:n_masks])
        assert mask_of(cache.resident.tolist()) == cached
        assert "".join(map(str, cache.state.rank.tolist())) == counts


@pytest.mark.parametrize(
    ("masks", "cached"),
    [
        # The horizons 2 and 3 of neurons 0 and 1 come from later masks: neuron 1 leaves.
        (("11100", "00110"), "10110"),
        (("11100", "00111"), "00111"),
        (("00110", "11000", "01001", "01100", "01100"), "01101"),
        (("00110", "01001", "11000", "10001", "00011"), "01011"),
        # By hand: neuron 1 is needed sooner than 0; of equally far neurons the lowest leaves.
        (("00110",), "00110"),
        (("11000", "00110"), "01110"),
        (("11000", "00110", "01000"), "01110"),
        (("11000", "00110", "00100"), "01110"),
        (("11100", "00010", "10000"), "10110"),
    ],
)
def test_mask_first_belady_golden_cases(masks: tuple[str, ...], cached: str) -> None:
    """The tests of DIP's released code; after the last mask every neuron is needed once more."""
    rows = rows_of(*masks)
    accesses = accesses_of(rows)
    if masks == ("11100", "00110"):
        accesses = part(accesses_of([*rows, [0], [1]]), 0, 2)
    cache: Any = find_policy("mask-first-belady")(3, NeuronPlacement.original(5))
    cache.replay(accesses, np.empty(accesses.neurons.size, np.uint8))
    assert mask_of(cache.resident.tolist()) == cached


@pytest.mark.parametrize("policy", MASK_FIRST)
def test_mask_first_fills_what_is_left_at_random(policy: str) -> None:
    """A mask of all neurons keeps the two that hit, and draws two others; another seed or token draws others."""
    rows = [[3, 7], [20], list(range(FEW))]
    drawn = set()
    for seed in range(20):
        cache: Any = find_policy(policy)(4, NeuronPlacement.original(FEW), seed=seed)  # type: ignore[call-arg]
        replayed(cache, accesses_of([rows[0], rows[2]]))
        resident = frozenset(cache.resident.tolist())
        assert resident >= {3, 7}
        assert len(resident) == 4
        drawn.add(resident)
    assert len(drawn) > 10
    again: Any = find_policy(policy)(4, NeuronPlacement.original(FEW), seed=19)  # type: ignore[call-arg]
    replayed(again, accesses_of([rows[0], rows[0], rows[2]]))
    assert frozenset(again.resident.tolist()) != resident


@pytest.mark.parametrize("policy", MASK_FIRST)
def test_mask_first_admits_where_others_decline(policy: str) -> None:
    """A capacity of 2: a mask of two displaces both residents, however dear; the row is judged before it enters."""
    rows = [[0, 1], [0, 1], [2, 3], [0, 1]]
    assert hits(policy, rows, 2) == [False, False, True, True, False, False, False, False]


def residents(cache: Cache, n_neurons: int) -> set[int]:
    """Return what a cache holds, by asking a copy of it for every neuron and admitting none."""
    probe = Accesses(
        np.arange(n_neurons, dtype=np.int32),
        np.array([0, n_neurons]),
        np.zeros(n_neurons, np.uint8),
        np.full(n_neurons, 2**31 - 1, np.int32),
    )
    is_hit = np.empty(n_neurons, np.uint8)
    copy.deepcopy(cache).replay(probe, is_hit)
    return set(np.flatnonzero(is_hit).tolist())


ALL_POLICIES = [name.replace("K", "3") for name in POLICY_NAMES]


@pytest.mark.parametrize("policy", ALL_POLICIES)
@given(token_rows, capacities, st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_no_cache_holds_more_than_its_capacity(policy: str, rows: list[list[int]], capacity: int, seed: int) -> None:
    """After every token, with some accesses not admitted; and what just missed is in it only if it was admitted."""
    rng = np.random.default_rng(seed)
    cache = find_policy(policy)(capacity, NeuronPlacement.original(FEW, rng.integers(0, 9, FEW)), ReadCost(2.5, 2))
    admitted = (rng.random(sum(map(len, rows))) < 0.7).tolist()
    accesses = accesses_of(rows, admitted)
    for row in range(len(rows)):
        token = part(accesses, row, row + 1)
        before = residents(cache, FEW)
        is_hit = np.empty(token.neurons.size, np.uint8)
        cache.replay(token, is_hit)
        after = residents(cache, FEW)
        assert len(after) <= capacity
        refused = token.neurons[(is_hit == 0) & (token.admitted == 0)]
        assert not after & set(refused.tolist())
        assert after <= before | set(token.neurons.tolist())


@pytest.mark.parametrize("policy", ALL_POLICIES)
@given(token_rows, capacities, st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_belady_is_never_beaten(policy: str, rows: list[list[int]], capacity: int, seed: int) -> None:
    """Nobody has more hits at the same capacity, whatever is admitted.

    What is pinned is in DRAM before the first access; each such neuron spares one miss that Belady, which starts
    empty, cannot avoid.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(FEW)
    placement = NeuronPlacement(order, frequency=rng.integers(0, 9, FEW))
    in_order = [sorted(row, key=lambda neuron: placement.slot_of[neuron]) for row in rows]
    admitted = (rng.random(sum(map(len, rows))) < 0.7).tolist()
    cache = find_policy(policy)(capacity, placement, ReadCost(2.5, 2))
    n_preloaded = len(residents(cache, FEW))
    assert n_preloaded == 0 or policy.startswith("pinned")
    bound = sum(hits("belady", in_order, capacity, placement)) + n_preloaded
    assert sum(replayed(cache, accesses_of(in_order))) <= bound
    assert sum(hits(policy, in_order, capacity, placement, admitted=admitted, reads=ReadCost(2.5, 2))) <= bound


@given(st.lists(st.integers(0, 4), max_size=11), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_belady_equals_trying_everything(stream: list[int], capacity: int) -> None:
    """It is the bound because no sequence of admissions and evictions does better."""
    assert sum(hits("belady", one_by_one(stream), capacity)) == caches.most_hits(stream, capacity)


@given(streams)
@settings(max_examples=30, deadline=None)
def test_lru_and_belady_hits_do_not_fall_as_the_cache_grows(stream: list[int]) -> None:
    """Both have the inclusion property: a larger cache holds whatever a smaller one does."""
    for policy in ("lru", "belady"):
        n_hits = [sum(hits(policy, one_by_one(stream), capacity)) for capacity in (0, 1, 2, 5, 11, 30)]
        assert n_hits == sorted(n_hits)
        assert n_hits[-1] == len(stream) - len(set(stream))


@pytest.mark.parametrize("policy", ALL_POLICIES)
def test_reset_returns_to_the_start(policy: str) -> None:
    """A cache that was emptied serves the same accesses as it did the first time."""
    rng = np.random.default_rng(3)
    rows = [np.flatnonzero(rng.random(FEW) < 0.3).tolist() for _ in range(60)]
    cache = find_policy(policy)(21, NeuronPlacement.original(FEW, rng.integers(0, 9, FEW)), ReadCost(2.5, 2))
    first = replayed(cache, accesses_of(rows))
    cache.reset()
    assert replayed(cache, accesses_of(rows)) == first


def test_pinned_takes_the_placement_s_own_set() -> None:
    """What the placement pins is resident, and nothing else, however much room is left; LRU may use that room."""
    placement = NeuronPlacement(np.arange(6), pinned=np.array([1, 4]), frequency=np.array([9, 0, 9, 9, 0, 9]))
    stream = [0, 1, 4, 1, 5, 0, 0]
    assert hits("pinned", one_by_one(stream), 3, placement) == caches.pinned(stream, {1, 4})
    assert hits("pinned+lru", one_by_one(stream), 3, placement) == [False, True, True, True, False, False, True]


def test_pinned_takes_the_hottest_otherwise() -> None:
    """Without a pinned set the most frequent neurons stay, ties by lowest id: the result is reproducible."""
    placement = NeuronPlacement(np.array([5, 4, 3, 2, 1, 0]), frequency=np.array([1, 7, 1, 7, 1, 8]))
    assert hottest(placement.frequency, 2).tolist() == [1, 5]
    assert hottest(placement.frequency, 4).tolist() == [0, 1, 3, 5]
    stream = one_by_one([0, 1, 2, 3, 4, 5])
    assert hits("pinned", stream, 2, placement) == [False, True, False, False, False, True]


@pytest.mark.parametrize("policy", ["pinned", "pinned+lru"])
@pytest.mark.parametrize(
    ("placement", "match"),
    [
        (NeuronPlacement.original(6), "without pinned neurons and without frequencies; .* or another cache"),
        (NeuronPlacement(np.arange(6), pinned=np.arange(4)), "4 pinned neurons; expected at most the 3"),
    ],
)
def test_pinned_refuses_what_it_cannot_pin(policy: str, placement: NeuronPlacement, match: str) -> None:
    """A set that does not fit the budget, or no way to tell what is hot, is the user's to resolve."""
    with pytest.raises(UsageError, match=match):
        find_policy(policy)(3, placement)


@pytest.mark.parametrize(
    ("policy", "match"),
    [
        (
            "arc",
            f"cache arc: found no policy by that name; expected one of {', '.join(POLICY_NAMES)}".replace("+", r"\+"),
        ),
        ("lru:3", "cache lru:3: found no policy by that name"),
        ("window", "cache window: found no number of tokens; expected a whole number of at least 1"),
        ("window:", "found '' tokens"),
        ("window:0", "found '0' tokens.*for instance, window:4"),
        ("window:-1", "found '-1' tokens"),
    ],
)
def test_unknown_policies(policy: str, match: str) -> None:
    """The message is the list a user needs, or the parameter that is missing."""
    with pytest.raises(UsageError, match=match):
        find_policy(policy)


@pytest.mark.parametrize("policy", ALL_POLICIES)
def test_state_does_not_grow_with_the_trace(policy: str) -> None:
    """Replaying must not allocate: all state is made from capacity and number of neurons."""
    placement = NeuronPlacement.original(N_NEURONS, frequency=np.ones(N_NEURONS, np.int64))
    cache = find_policy(policy)(30, placement)
    before = [(id(array), array.nbytes) for array in cache._state]
    replayed(cache, accesses_of([[]]))
    replayed(cache, accesses_of(one_by_one(golden_stream(N_NEURONS, 500))))
    assert [(id(array), array.nbytes) for array in cache._state] == before
