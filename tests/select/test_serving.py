"""Serving by a rule: the fused kernels against a loop over rows, for each policy; and what caches say they hold."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.flash.admission import Admission
from ripple_place.flash.caches.cache import Accesses
from ripple_place.flash.caches.registry import POLICIES, find_policy
from ripple_place.flash.read_cost import ReadCost
from ripple_place.kernels.compiled import compiled
from ripple_place.placement import NeuronPlacement
from ripple_place.select.serving import AdmissionRule, RowScratch, ScoredRows, UsedRows, serving_kernel
from tests.reference import selection

if TYPE_CHECKING:
    from typing import Any

    from ripple_place.flash.caches.cache import Cache

READABLE = [*(name for name in POLICIES if not name.endswith("belady")), "window:3"]
"""Policies that do not know the future."""
N_NEURONS = 40
CAPACITY = 22
READS = ReadCost.by_line(3.0)


@compiled
def choose_by_worth(slots: Any, worth: Any, is_resident: Any, arguments: Any, is_used: Any) -> None:
    """Use what is in DRAM and worth something, and what is worth more than a price."""
    for access in range(slots.size):
        is_used[access] = worth[access] > (0.2 if is_resident[access] else arguments[0])


def placement_of(rng: np.random.Generator) -> NeuronPlacement:
    """Return a random order with skewed firing counts."""
    return NeuronPlacement(rng.permutation(N_NEURONS), frequency=rng.integers(0, 100, N_NEURONS))


def cache_of(policy: str, placement: NeuronPlacement, capacity: int = CAPACITY) -> Cache:
    """Return an empty cache."""
    return find_policy(policy)(capacity, placement, READS)


def access(cache: Cache, neurons: list[int], admitted: list[bool]) -> list[bool]:
    """Let a cache replay one row."""
    is_hit = np.full(len(neurons), 9, np.uint8)
    row = Accesses(np.array(neurons, np.int32), np.array([0, len(neurons)]), np.array(admitted, np.uint8))
    cache.replay(row, is_hit)
    return is_hit.astype(bool).tolist()


def holds(cache: Cache, neuron: int) -> bool:
    """Return whether the next row would find a neuron, by letting a copy of the cache try it alone."""
    return access(copy.deepcopy(cache), [neuron], [False])[0]


def scored_rows(rng: np.random.Generator, n_rows: int, n_slots: int = N_NEURONS) -> ScoredRows:
    """Return rows in which some slots fire more than others."""
    active = rng.random((n_rows, n_slots)) < np.linspace(0.05, 0.6, n_slots)
    active[n_rows // 2] = False
    row, slots = np.nonzero(active)
    return ScoredRows(slots.astype(np.int32), rng.random(slots.size), np.searchsorted(row, np.arange(n_rows + 1)))


def serve(
    policy: str, cache: Cache, rows: ScoredRows, placement: NeuronPlacement, admission: Admission, first_row: int
) -> list[list[tuple[int, bool]]]:
    """Serve rows with the fused kernel; return what it used, and whether that was in DRAM."""
    assert cache.kernels is not None
    kernel = serving_kernel(policy.partition(":")[0], cache.kernels, "by-worth", choose_by_worth)
    n, n_rows = rows.slots.size, rows.row_starts.size - 1
    used = UsedRows(np.full(n, 9, np.uint8), np.empty(n, np.int32), np.empty(n, np.uint8), np.empty(n_rows + 1, int))
    rule = AdmissionRule(admission.cutoff or 0, round(admission.probability * 2**32), admission.key("layers.0"))
    scratch = RowScratch.allocate(N_NEURONS)
    kernel(rows, first_row, placement.order, rule, (0.5,), cache.arguments, scratch, used)
    n_used = used.row_starts[-1]
    assert n_used == np.count_nonzero(used.is_used == 1)
    np.testing.assert_array_equal(used.slots[:n_used], rows.slots[used.is_used == 1])
    return [
        [
            (int(placement.order[used.slots[at]]), bool(used.is_hit[at]))
            for at in range(used.row_starts[row], used.row_starts[row + 1])
        ]
        for row in range(n_rows)
    ]


def serve_plainly(
    cache: Cache, rows: ScoredRows, placement: NeuronPlacement, admission: Admission, first_row: int
) -> list[list[tuple[int, bool]]]:
    """Do the same row by row, with the cache's own `replay`."""

    def of_row(number: int) -> slice:
        return slice(rows.row_starts[number], rows.row_starts[number + 1])

    def choose(number: int, resident: list[bool]) -> list[bool]:
        worths = rows.worth[of_row(number)].tolist()
        return [worth > (0.2 if held else 0.5) for worth, held in zip(worths, resident, strict=True)]

    def admit(number: int, neurons: list[int]) -> list[bool]:
        admitted, row_starts = np.empty(len(neurons), np.uint8), np.array([0, len(neurons)])
        slots, ids = placement.slot_of[neurons], np.array(neurons, np.int32)
        admission.admit("layers.0", slots, ids, row_starts, first_row + number, admitted)
        return admitted.astype(bool).tolist()

    assert cache.kernels is not None
    return selection.served(
        [placement.order[rows.slots[of_row(number)]].tolist() for number in range(rows.row_starts.size - 1)], choose,
        lambda neuron: holds(cache, neuron), lambda neurons, admitted: access(cache, neurons, admitted), admit,
        cache.kernels.in_slot_order,
    )  # fmt: skip


@pytest.mark.parametrize("policy", READABLE)
def test_fused_kernel_equals_a_loop(policy: str) -> None:
    """What is used, what of it was in DRAM, and the cache afterwards: in two chunks, with either admission."""
    rng = np.random.default_rng(5)
    placement = placement_of(rng)
    for admission in (Admission(), Admission(2, 0.3, seed=7)):
        fused, plain = cache_of(policy, placement), cache_of(policy, placement)
        for first_row in (0, 9):
            rows = scored_rows(rng, 9)
            expected = serve_plainly(plain, rows, placement, admission, first_row)
            assert serve(policy, fused, rows, placement, admission, first_row) == expected
        assert policy == "none" or any(held for row in expected for _, held in row)
        assert [holds(fused, neuron) for neuron in range(N_NEURONS)] == [
            holds(plain, neuron) for neuron in range(N_NEURONS)
        ]


def test_runs_are_of_slots_whatever_is_asked_for_first() -> None:
    """Slots 4 to 6 are a run though 5 is in DRAM, and so is asked for first: with probability 0 none of it enters."""
    placement = NeuronPlacement.original(N_NEURONS)
    cache = cache_of("lru", placement)
    access(cache, [5], [True])
    rows = ScoredRows(np.array([4, 5, 6, 9], np.int32), np.ones(4), np.array([0, 4]))
    used = serve("lru", cache, rows, placement, Admission(3, 0.0), 0)
    assert used == [[(4, False), (5, True), (6, False), (9, False)]]
    assert [neuron for neuron in range(N_NEURONS) if holds(cache, neuron)] == [5, 9]


token_rows = st.lists(st.sets(st.integers(0, N_NEURONS - 1), max_size=12).map(sorted), min_size=1, max_size=12)


@pytest.mark.parametrize("policy", READABLE)
@given(rows=token_rows, seed=st.integers(0, 9), capacity=st.sampled_from([0, 1, 7, 22, 39, 45]))
@settings(max_examples=15, deadline=None)
def test_what_a_cache_holds(policy: str, rows: list[list[int]], seed: int, capacity: int) -> None:
    """A cache holds just those neurons that the next row would find, whichever it asks for."""
    rng = np.random.default_rng(seed)
    placement = placement_of(rng)
    cache = cache_of(policy, placement, capacity)
    assert cache.kernels is not None
    for row in rows:
        neurons = placement.order[row].tolist()
        access(cache, neurons, [bool(one) for one in rng.random(len(row)) < 0.8])
        said = [bool(cache.kernels.holds(neuron, cache.arguments)) for neuron in range(N_NEURONS)]
        assert said == [holds(cache, neuron) for neuron in range(N_NEURONS)]
        assert sum(said) <= capacity or policy.startswith("pinned")


@pytest.mark.parametrize("policy", READABLE)
def test_access_of_a_row_is_its_replay(policy: str) -> None:
    """The kernel of one row and `replay` of one row do the same, empty rows included; `reset` undoes both."""
    rng = np.random.default_rng(2)
    placement = placement_of(rng)
    by_kernel, by_replay = cache_of(policy, placement), cache_of(policy, placement)
    assert by_kernel.kernels is not None
    rows = [placement.order[rng.random(N_NEURONS) < (0.3 if number % 4 else 0)] for number in range(12)]
    runs = []
    for _ in range(2):
        hits = []
        for neurons in rows:
            is_hit = np.full(neurons.size, 9, np.uint8)
            by_kernel.kernels.access(neurons, np.ones(neurons.size, np.uint8), is_hit, *by_kernel.arguments)
            hits.append(is_hit.astype(bool).tolist())
            assert hits[-1] == access(by_replay, neurons.tolist(), [True] * neurons.size)
        runs.append(hits)
        by_kernel.reset()
        by_replay.reset()
    assert runs[0] == runs[1]
